//! Gateways report their open sessions to the embedded platform, which shows them to those who may
//! see them; a deployed platform gets no such report.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::admin::Platform;
use crate::support::fake_platform::Answer;
use crate::support::lab::{GATEWAY_HEARTBEAT, Lab, REGISTER_GATEWAY, TOKEN};
use crate::support::process::{Process, infisical};
use crate::support::session::{Way, echoes};
use crate::support::stack::{GATEWAY, Stack};
use crate::support::targets::Target;
use crate::support::{eventually, soon};

const REPORT: &str = "POST /api/v1/embedded/session-reports";

/// What the platform lists for the holder of `token`.
async fn listed(platform: &Platform, token: &str) -> Value {
    let path = "v1/embedded/sessions";
    let (status, list) = platform.api(Method::GET, path, token, None).await;
    assert_eq!(status, 200, "{list}");
    let gateways = list["gateways"].as_array().expect("gateways");
    assert_eq!(gateways.len(), 1, "{list}");
    gateways[0].clone()
}

/// The same, once `wanted` is true of it.
async fn listed_until(platform: &Platform, token: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually("the sessions on the platform's list", || async {
        let found = listed(platform, token).await;
        if wanted(&found) {
            return Ok(found);
        }
        Err(found.to_string())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn open_sessions_are_on_the_platforms_list() {
    let stack = Stack::start().await;
    let platform = &stack.platform;
    let admin = platform.token.clone();
    let idle = listed_until(platform, &admin, |found| found["open"] == 0).await;
    assert_eq!(idle["sessions"], json!([]), "{idle}");

    let alice = platform.token_with("alice", &["client"]).await;
    let bob = platform.token_with("bob", &["client"]).await;
    let echo = Target::echo(stack.host).await;
    let path = format!("v1/embedded/gateways/{GATEWAY}/sessions");
    let body = json!({"targetHost": echo.address.ip(), "targetPort": echo.address.port()});
    let (status, issued) = platform.api(Method::POST, &path, &alice, Some(&body)).await;
    assert_eq!(status, 200, "{issued}");
    let way = Way::from_json(&issued);
    let mut first = way.tcp().await.expect("a way");
    echoes(&mut first, b"hello").await.expect("an echo");
    let mut second = way.tcp().await.expect("a way");
    echoes(&mut second, b"hello").await.expect("an echo");

    let found = listed_until(platform, &admin, |found| found["open"] == 2).await;
    assert_eq!(found["gatewayName"], GATEWAY);
    let sessions = found["sessions"].as_array().expect("sessions");
    assert_eq!(sessions.len(), 2, "{found}");
    for session in sessions {
        assert_eq!(session["actorName"], "alice", "{session}");
        assert_eq!(session["target"], echo.address.to_string(), "{session}");
        assert!(session["since"].is_string(), "{session}");
    }
    let ids: Vec<_> = sessions
        .iter()
        .map(|session| session["id"].as_u64())
        .collect();
    assert!(ids[0] > ids[1], "the newest first: {found}");

    // Clients see their own.
    let own = listed(platform, &alice).await;
    assert_eq!(own["sessions"].as_array().map(Vec::len), Some(2), "{own}");
    assert_eq!(own["open"], Value::Null, "{own}");
    let others = listed(platform, &bob).await;
    assert_eq!(others["sessions"], json!([]), "{others}");

    let mut command = infisical(stack.dir());
    command.args(["platform", "sessions", "--domain", &platform.url]);
    command.arg("--token-file").arg(platform.token_file());
    let process = Process::spawn("platform sessions", command);
    assert_eq!(process.exit_code().await, 0, "{}", process.output());
    let table = process.stdout();
    let row = table.lines().find(|line| line.contains("alice"));
    let row = row.unwrap_or_else(|| panic!("no row: {table}"));
    assert!(row.contains(GATEWAY) && row.contains(&echo.address.to_string()));

    drop((first, second));
    listed_until(platform, &admin, |found| found["open"] == 0).await;

    let path = format!("gateways/{GATEWAY}");
    platform.request(Method::DELETE, &path, None).await;
    let path = "v1/embedded/sessions";
    let (_, list) = platform.api(Method::GET, path, &admin, None).await;
    assert_eq!(list, json!({"gateways": []}));
}

/// The deployed platform never names the capability, and must see nothing that it does not know.
#[tokio::test(flavor = "multi_thread")]
async fn deployed_platform_gets_no_report() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let gateway = lab.gateway(&relay).await;
    let echo = Target::echo(lab.host).await;
    let way = lab.way(echo.address);
    let mut client = way.tcp().await.expect("a way");
    echoes(&mut client, b"hello").await.expect("an echo");
    // It comes a second later than a report would.
    let heartbeat = lab.platform.asked(GATEWAY_HEARTBEAT, 1).await;
    assert_eq!(heartbeat.body, json!({}));
    assert!(lab.platform.requests(REPORT).is_empty());
    drop(client);
    gateway.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(soon("the end", gateway.exit_code()).await, 0);
    assert!(lab.platform.requests(REPORT).is_empty());

    // The same with a platform that names it, which refuses the first one.
    let mut credentials = lab.gateway_credentials();
    credentials["acceptedCapabilities"] = json!(["sessionReports"]);
    lab.platform
        .always(REGISTER_GATEWAY, Answer::ok(&credentials));
    let refusal = Answer::error(503, "later", "req-1");
    lab.platform.once(REPORT, refusal);
    lab.platform.always(REPORT, Answer::ok(&json!({})));
    let gateway = lab.gateway(&relay).await;
    let mut client = way.tcp().await.expect("a way");
    echoes(&mut client, b"hello").await.expect("an echo");
    let report = lab.platform.asked(REPORT, 2).await;
    assert_eq!(report.bearer, TOKEN);
    assert_eq!(report.body["open"], 1, "{}", report.body);
    let session = &report.body["sessions"][0];
    assert_eq!(session["target"], echo.address.to_string(), "{session}");
    assert!(!gateway.output().contains("WARN"), "{}", gateway.output());
}

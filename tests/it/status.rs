//! `status` and `healthcheck`: what a role that runs serves on its status socket.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::eventually;
use crate::support::lab::{Lab, RELAY};
use crate::support::process::{Process, infisical};
use crate::support::session::echoes;
use crate::support::targets::Target;

/// The exit code and the output of `infisical` with `words`.
async fn run(lab: &Lab, words: &[&str]) -> (i32, String) {
    let mut command = infisical(lab.dir());
    command.args(words);
    let process = Process::spawn("command", command);
    let code = process.exit_code().await;
    (code, process.output())
}

/// The only one of `roles` in what `status --json` prints.
fn only<'a>(json: &'a Value, roles: &str) -> &'a Value {
    assert_eq!(json["version"], 1, "{json}");
    let all = json[roles].as_array().expect("a list");
    assert_eq!(all.len(), 1, "{json}");
    &all[0]
}

async fn json(lab: &Lab, role: &str) -> Value {
    let (_, output) = run(lab, &[role, "status", "--json"]).await;
    serde_json::from_str(&output).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn status_follows_a_gateways_tunnel() {
    let lab = Lab::new().await;
    for (words, shown) in [
        (&["gateway", "status"][..], "No gateway runs here"),
        (&["gateway", "healthcheck"], ""),
    ] {
        let (code, output) = run(&lab, words).await;
        assert_eq!(code, 3, "{output}");
        assert!(output.contains(shown), "{output}");
    }
    let relay = lab.relay().await;
    let gateway = lab.gateway(&relay).await;
    gateway.wait_for_line("Gateway is reachable").await;
    let (code, output) = run(&lab, &["gateway", "status"]).await;
    assert_eq!(code, 0, "{output}");
    for part in [
        "state: up since 2",
        &format!("relay: {RELAY}"),
        "sessions: 0 open, 0 since the start",
        "certificate: valid for",
        "heartbeat: reached",
        lab.gateway_id.as_str(),
    ] {
        assert!(output.contains(part), "{part}: {output}");
    }
    assert!(
        !output.contains('\u{1b}'),
        "colours without a terminal: {output}"
    );
    let (code, output) = run(&lab, &["gateway", "healthcheck"]).await;
    assert_eq!((code, output.as_str()), (0, ""));
    let (code, output) = run(&lab, &["gateway", "status", "another"]).await;
    assert_eq!(code, 3, "{output}");

    let echo = Target::echo(lab.host).await;
    let mut client = lab.way(echo.address).tcp().await.expect("a way");
    echoes(&mut client, b"four").await.expect("an echo");
    let (code, output) = run(&lab, &["gateway", "sessions", "--json"]).await;
    assert_eq!(code, 0, "{output}");
    let open: Value = serde_json::from_str(&output).expect("JSON");
    let open = only(&open, "sessions");
    let address = echo.address.to_string();
    assert_eq!(open["target"], address.as_str(), "{open}");
    assert_eq!(open["address"], address.as_str(), "{open}");
    assert_eq!(open["bytes_to_target"], 4, "{open}");
    let (code, output) = run(&lab, &["gateway", "sessions"]).await;
    assert_eq!(code, 0, "{output}");
    assert!(output.starts_with("ACTOR"), "{output}");
    assert!(output.contains(&address), "{output}");
    drop(client);

    relay.signal(Signal::SIGKILL);
    let down = || async {
        let document = json(&lab, "gateway").await;
        let state = only(&document, "gateways")["state"].clone();
        (state == "retrying").then_some(()).ok_or(state)
    };
    eventually("the loss is seen", down).await;
    let (code, output) = run(&lab, &["gateway", "status"]).await;
    assert_eq!(code, 2, "{output}");
    for part in [
        "down, trying again",
        "no tunnel to a relay: ",
        "then: ",
        "last failures: ",
    ] {
        assert!(output.contains(part), "{part}: {output}");
    }
    let document = json(&lab, "gateway").await;
    let document = only(&document, "gateways");
    assert_eq!(document["conditions"][0]["id"], "no-tunnel", "{document}");
    assert_eq!(
        document["conditions"][0]["severity"], "critical",
        "{document}"
    );
    let (code, _) = run(&lab, &["gateway", "healthcheck"]).await;
    assert_eq!(code, 2);

    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.exit_code().await, 0);
    let (code, output) = run(&lab, &["gateway", "status"]).await;
    assert_eq!(code, 3, "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_status_counts_its_gateways() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let _gateway = lab.gateway(&relay).await;
    let counted = || async {
        let document = json(&lab, "relay").await;
        let gateways = only(&document, "relays")["gateways"].clone();
        (gateways == 1).then_some(()).ok_or(gateways)
    };
    eventually("the gateway is counted", counted).await;
    let document = json(&lab, "relay").await;
    let document = only(&document, "relays");
    assert_eq!(document["state"], "up", "{document}");
    assert_eq!(document["name"], RELAY, "{document}");
    let (code, output) = run(&lab, &["relay", "status", RELAY]).await;
    assert_eq!(code, 0, "{output}");
    assert!(
        output.contains("serves: 1 gateway and 0 clients"),
        "{output}"
    );
}

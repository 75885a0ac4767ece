//! A gateway and a relay that are enrolled with the machine's AWS role, as programs.

use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::aws::{DOCUMENT, KEYS, METADATA_TOKEN, Proof, ROLES, keys};
use super::{Answer, JWT, Request};
use crate::support::lab::{GATEWAY_ID, Lab};
use crate::support::process::Process;
use crate::support::write_private;

const GATEWAY_LOGIN: &str = "POST /api/v3/gateways/login";
const GATEWAY_CONNECT: &str = "POST /api/v3/gateways/connect";
const RELAY_LOGIN: &str = "POST /api/v2/relays/login";
const RELAY_CONNECT: &str = "POST /api/v2/relays/connect";
const RELAY_ID: &str = "0c7c2b1e-8a4a-4df4-9d9e-1f7f1b2a3c4d";

/// The machine has a role, and every proxy is a dead end: nothing of this goes through one.
fn in_aws(lab: &Lab, command: &mut Command) {
    let answer = |what: &str, text: &str| lab.platform.always(what, Answer::raw(200, text));
    answer(METADATA_TOKEN, "metadata-token");
    answer(ROLES, "edge-role");
    answer(KEYS, &keys().to_string());
    answer(DOCUMENT, r#"{"region":"us-west-2"}"#);
    command.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", lab.platform.url());
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env(name, "http://127.0.0.1:1");
    }
}

/// A platform that refuses the first access token of the gateway, and a relay that serves.
async fn refusing_once() -> (Lab, Process) {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let id = ("gatewayId", GATEWAY_ID);
    lab.platform
        .once(GATEWAY_LOGIN, issued("obtained-first", id));
    let second = issued("obtained-second", id);
    lab.platform.always(GATEWAY_LOGIN, second);
    let refusal = Answer::error(401, "Token version mismatch", "req-401");
    lab.platform.once(GATEWAY_CONNECT, refusal);
    let credentials = Answer::ok(&lab.gateway_credentials());
    lab.platform.always(GATEWAY_CONNECT, credentials);
    (lab, relay)
}

/// The gateway logged in twice, and used the second token when the first was refused.
fn assert_replaced_once(lab: &Lab) -> Vec<Request> {
    let logins = lab.platform.requests(GATEWAY_LOGIN);
    assert_eq!(logins.len(), 2, "the refused token was replaced once");
    let connects = lab.platform.requests(GATEWAY_CONNECT);
    let bearers: Vec<_> = connects.iter().map(|r| r.bearer.as_str()).collect();
    assert_eq!(bearers, ["obtained-first", "obtained-second"]);
    logins
}

fn issued(token: &str, id: (&str, &str)) -> Answer {
    let mut body = json!({"accessToken": token, "tokenType": "Bearer"});
    body[id.0] = id.1.into();
    Answer::ok(&body)
}

fn fields(body: &Value) -> Vec<&str> {
    body.as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn role_enrolled_gateway_logs_in_without_storing() {
    let (lab, _relay) = refusing_once().await;
    let mut gateway = lab.gateway_command();
    write_private(&gateway.config, "# kept\n");
    let config = gateway.config.clone();
    let mut start = |flags: &[&str]| {
        gateway.more = vec![
            "--log-level=trace".to_owned(),
            "--enroll-method=aws".to_owned(),
        ];
        let flags = flags.iter().map(|flag| (*flag).to_owned());
        gateway.more.extend(flags);
        let mut command = gateway.command(lab.dir());
        in_aws(&lab, &mut command);
        Process::spawn("gateway", command)
    };
    let gateway = start(&["--gateway-id", GATEWAY_ID]);
    gateway.wait_for_line("Gateway started successfully").await;

    let logins = assert_replaced_once(&lab);
    let login = &logins[0];
    assert_eq!(login.bearer, "");
    assert_eq!(login.body["method"], "aws");
    assert_eq!(login.body["gatewayId"], GATEWAY_ID);
    assert_eq!(
        fields(&login.body),
        [
            "gatewayId",
            "iamHttpRequestMethod",
            "iamRequestBody",
            "iamRequestHeaders",
            "method"
        ]
    );
    let proof = Proof::of(login);
    let names: Vec<&str> = proof.headers.keys().map(String::as_str).collect();
    let expected = [
        "Authorization",
        "Content-Type",
        "Host",
        "X-Amz-Date",
        "X-Amz-Security-Token",
    ];
    assert_eq!(names, expected);
    let authorization = proof.headers["Authorization"].as_str().expect("text");
    let signed = "SignedHeaders=content-length;content-type;host;x-amz-date;x-amz-security-token,";
    assert!(authorization.contains(signed), "{authorization}");
    let session = proof.headers["X-Amz-Security-Token"].as_str();
    proof.assert_signed(lab.dir(), session);

    let kept = std::fs::read_to_string(&config).expect("the file");
    let url = lab.platform.url();
    assert_eq!(
        kept,
        format!("# kept\nINFISICAL_GATEWAY_DOMAIN={url}/api\nINFISICAL_GATEWAY_ID={GATEWAY_ID}\n")
    );
    let output = gateway.output();
    let secret = keys();
    for key in ["SecretAccessKey", "Token"] {
        assert!(
            !output.contains(secret[key].as_str().expect("text")),
            "{key} shows"
        );
    }
    assert!(!output.contains("obtained-") && !output.contains("metadata-token"));
    gateway.kill().await;

    // The next start needs no flag for the id, and writes nothing.
    let gateway = start(&[]);
    gateway.wait_for_line("Gateway started successfully").await;
    assert_eq!(std::fs::read_to_string(&config).expect("the file"), kept);
    let last = lab.platform.requests(GATEWAY_LOGIN).pop().expect("a login");
    assert_eq!(last.body["gatewayId"], GATEWAY_ID);
}

#[tokio::test(flavor = "multi_thread")]
async fn relay_enrolled_by_its_role_logs_in() {
    let lab = Lab::new().await;
    let id = ("relayId", RELAY_ID);
    lab.platform.always(RELAY_LOGIN, issued("obtained", id));
    let credentials = Answer::ok(&lab.relay_credentials());
    lab.platform.always(RELAY_CONNECT, credentials);
    let mut relay = lab.relay_command();
    relay.more.push("--enroll-method=aws".to_owned());
    write_private(&relay.config, &format!("INFISICAL_RELAY_ID={RELAY_ID}\n"));
    let mut command = relay.command(lab.dir());
    in_aws(&lab, &mut command);
    let relay = Process::spawn("relay", command);
    relay
        .wait_for_line("Relay server started successfully")
        .await;
    let login = lab.platform.asked(RELAY_LOGIN, 1).await;
    assert_eq!(login.body["relayId"], RELAY_ID);
    assert_eq!(
        fields(&login.body),
        [
            "iamHttpRequestMethod",
            "iamRequestBody",
            "iamRequestHeaders",
            "method",
            "relayId"
        ]
    );
    let proof = Proof::of(&login);
    proof.assert_signed(lab.dir(), proof.headers["X-Amz-Security-Token"].as_str());
    let connect = lab.platform.asked(RELAY_CONNECT, 1).await;
    assert_eq!(connect.bearer, "obtained");
}

#[tokio::test(flavor = "multi_thread")]
async fn token_file_outlives_every_refusal() {
    let lab = Lab::new().await;
    let gateway_credentials = Answer::ok(&lab.gateway_credentials());
    lab.platform.always(GATEWAY_CONNECT, gateway_credentials);
    let relay_credentials = Answer::ok(&lab.relay_credentials());
    lab.platform.always(RELAY_CONNECT, relay_credentials);
    let start = |name: &str, mut command: Command| {
        let state = lab.dir().join(format!("state-{name}"));
        std::fs::create_dir_all(&state).expect("a state directory");
        command.env("STATE_DIRECTORY", state);
        Process::spawn(name, command)
    };
    let relay_command = lab.relay_command();
    let relay_file = "# obtained\nINFISICAL_RELAY_ACCESS_TOKEN=kept-by-the-relay\n";
    write_private(&relay_command.config, relay_file);
    let gateway_command = lab.gateway_command();
    let gateway_file = "# obtained\nINFISICAL_GATEWAY_ACCESS_TOKEN=kept-by-the-gateway\n";
    write_private(&gateway_command.config, gateway_file);
    let start_relay = || start("relay", relay_command.command(lab.dir()));
    let start_gateway = || start("gateway", gateway_command.command(lab.dir()));
    let relay = start_relay();
    relay
        .wait_for_line("Relay server started successfully")
        .await;
    let gateway = start_gateway();
    gateway.wait_for_line("Gateway started successfully").await;
    gateway.kill().await;

    let refusal = || Answer::error(401, "Token has been revoked", "req-401");
    for _ in 0..2 {
        lab.platform.once(GATEWAY_CONNECT, refusal());
    }
    let gateway = start_gateway();
    let mut mark = 0;
    for _ in 0..2 {
        gateway
            .wait_for_line_after(mark, "Token has been revoked")
            .await;
        mark = gateway.mark();
        // It would try again by itself, half a minute later.
        gateway.signal(Signal::SIGHUP);
    }
    gateway.wait_for_line("Gateway started successfully").await;
    gateway.kill().await;
    relay.kill().await;
    lab.platform.once(RELAY_CONNECT, refusal());
    let relay = start_relay();
    relay.wait_for_line("not registered; trying again").await;
    relay.kill().await;

    let read = |path| std::fs::read_to_string(path).expect("the file");
    assert_eq!(read(&gateway_command.config), gateway_file);
    assert_eq!(read(&relay_command.config), relay_file);
    for (what, token) in [
        (GATEWAY_CONNECT, "kept-by-the-gateway"),
        (RELAY_CONNECT, "kept-by-the-relay"),
    ] {
        let asked = lab.platform.requests(what);
        assert!(
            asked.iter().all(|request| request.bearer == token),
            "{what}"
        );
    }
    assert_eq!(lab.platform.requests(GATEWAY_CONNECT).len(), 4);
}

/// A gateway whose pod or GCP machine is its enrollment: it logs in at each start, and again when
/// the platform refuses its token.
#[tokio::test(flavor = "multi_thread")]
async fn refused_pods_and_gcp_machines_reauthenticate() {
    let identity = "GET /computeMetadata/v1/instance/service-accounts/default/identity";
    for method in ["kubernetes", "gcp"] {
        let (lab, _relay) = refusing_once().await;
        lab.platform.always(identity, Answer::raw(200, JWT));
        let pod_token = lab.dir().join("pod-token");
        write_private(&pod_token, JWT);
        let mut gateway = lab.gateway_command();
        write_private(&gateway.config, "");
        gateway.more = vec![
            format!("--enroll-method={method}"),
            format!("--gateway-id={GATEWAY_ID}"),
        ];
        let mut command = gateway.command(lab.dir());
        command.env("GCE_METADATA_HOST", lab.platform.address.to_string());
        command.env(
            "INFISICAL_KUBERNETES_SERVICE_ACCOUNT_TOKEN_PATH",
            &pod_token,
        );
        let process = Process::spawn("gateway", command);
        process.wait_for_line("Gateway started successfully").await;
        let logins = assert_replaced_once(&lab);
        let expected = json!({"method": method, "gatewayId": GATEWAY_ID, "jwt": JWT});
        assert!(
            logins.iter().all(|login| login.body == expected),
            "{logins:?}"
        );
        let kept = std::fs::read_to_string(&gateway.config).expect("the file");
        assert!(
            kept.contains(GATEWAY_ID) && !kept.contains("obtained"),
            "{kept}"
        );
    }
}

//! What `infisical connect` says before "Listening": that the gateway is unknown, not connected, or
//! out of reach at the moment.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::admin::Platform;
use crate::support::process::{Process, infisical};
use crate::support::stack::{GATEWAY, Stack};
use crate::support::write_private;

fn connect(stack: &Stack, gateway: &str, more: &[&str]) -> Process {
    let mut command = infisical(stack.dir());
    command.args(["connect", gateway, "--to", "127.0.0.1:1"]);
    command.args(["--domain", &stack.platform.url]).args(more);
    command.arg("--token-file").arg(stack.platform.token_file());
    Process::spawn("connect", command)
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_gateway_is_reported_before_listening() {
    let stack = Stack::start().await;
    let unknown = connect(&stack, "gateway-two", &["--listen", "127.0.0.1:0"]);
    assert_eq!(unknown.exit_code().await, 78);
    let output = unknown.output();
    assert!(output.contains("gateway-two"), "{output}");
    assert!(!output.contains("Listening"), "{output}");

    // The one that is there is not warned of.
    let good = connect(&stack, GATEWAY, &["--listen", "127.0.0.1:0"]);
    good.wait_for_line("Listening on").await;
    assert_eq!(good.output().lines().count(), 1, "{}", good.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn disconnected_gateway_shows_when_last_seen() {
    let stack = Stack::start().await;
    stack
        .gateway
        .wait_for_line("Gateway is reachable by Infisical")
        .await;
    stack.gateway.signal(Signal::SIGTERM);
    stack.gateway.exit().await;
    let expected = format!("gateway {GATEWAY} is not connected to relay {}", stack.host);
    let listening = connect(&stack, GATEWAY, &["--listen", "127.0.0.1:0"]);
    listening.wait_for_line("Listening on").await;
    let output = listening.output();
    let line = output.lines().next().unwrap_or_default();
    assert!(line.contains(&expected), "{output}");
    assert!(line.contains("; last seen "), "{output}");
    assert!(line.contains(" UTC"), "{output}");

    // At standard input and output there is nothing to wait for.
    let stdio = connect(&stack, GATEWAY, &["--stdio"]);
    assert_eq!(stdio.exit_code().await, 69);
    let output = stdio.output();
    assert!(output.contains(&expected), "{output}");
    assert!(!output.contains("handshake"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_that_never_connected_has_no_relay() {
    let dir = tempfile::tempdir().expect("a directory");
    let host = crate::support::loopback::address();
    let platform = Platform::start(dir.path(), host, 0, &[]).await;
    // Enrolled, and never started.
    let enrollment = platform.enrollment_token("gateway", "gw-2", None).await;
    let body = json!({"token": enrollment});
    let enroll = "v3/gateways/token-auth/enroll";
    let (status, answer) = platform
        .api(reqwest::Method::POST, enroll, "", Some(&body))
        .await;
    assert_eq!(status, 200, "{answer}");
    let token = dir.path().join("token");
    write_private(&token, &platform.token);
    let mut command = infisical(dir.path());
    command.args([
        "connect",
        "gw-2",
        "--to",
        "db:5432",
        "--listen",
        "127.0.0.1:0",
    ]);
    command.args(["--domain", &platform.url]);
    command.arg("--token-file").arg(&token);
    let connect = Process::spawn("connect", command);
    connect.wait_for_line("Listening on").await;
    let output = connect.output();
    let words = "gateway gw-2 is not connected to any relay; never seen so far";
    assert!(output.contains(words), "{output}");
}

//! The embedded platform from outside: what its API refuses and how it says so, its administration by
//! command line, and what it asks for before it serves beyond loopback.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::admin::Platform;
use crate::support::process::{Process, clean, infisical};
use crate::support::stack::{GATEWAY, RELAY, Stack};
use crate::support::x509::{Ca, Leaf};
use crate::support::{loopback, mode, ready_file, write_private};

async fn alone() -> (tempfile::TempDir, Platform) {
    let dir = tempfile::tempdir().expect("a directory");
    let platform = Platform::start(dir.path(), loopback::address(), 0, &[]).await;
    (dir, platform)
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_a_message_and_a_request_id_and_no_token() {
    let (_dir, platform) = alone().await;
    let token = platform.identity_token("somebody").await;
    let enrollment = platform.enrollment_token("gateway", "edge", None).await;
    let post = |path: &'static str, bearer: &str, body: Value| {
        let bearer = bearer.to_owned();
        let platform = &platform;
        async move {
            let post = reqwest::Method::POST;
            platform.api(post, path, &bearer, Some(&body)).await
        }
    };
    let enroll = json!({"token": enrollment});
    let (status, bought) = post("v3/gateways/token-auth/enroll", "", enroll.clone()).await;
    assert_eq!(status, 200, "{bought}");
    assert!(bought["accessToken"].is_string() && bought["gatewayId"].is_string());

    let register = json!({"relayName": "nowhere", "name": "edge"});
    let login = json!({"clientId": "nobody", "clientSecret": "wrong-secret"});
    for (path, bearer, body, expected) in [
        ("v2/gateways", "", register.clone(), 401),
        ("v2/gateways", "made-up-token", register.clone(), 401),
        ("v2/gateways", &token, register, 404),
        (
            "v2/gateways/heartbeat",
            "",
            json!({"capabilities": {}}),
            401,
        ),
        ("v3/gateways/connect", "made-up-token", json!({}), 401),
        ("v3/gateways/token-auth/enroll", "", enroll, 401),
        (
            "v3/gateways/token-auth/enroll",
            "",
            json!({"token": "made-up-token"}),
            401,
        ),
        ("v1/auth/universal-auth/login", "", login, 401),
        (
            "v1/relays/register-org-relay",
            "",
            json!({"host": "127.0.0.1", "name": "r"}),
            401,
        ),
        (
            "v1/relays/register-instance-relay",
            &token,
            json!({"host": "127.0.0.1", "name": "r"}),
            401,
        ),
        (
            "v1/embedded/identities",
            &token,
            json!({"name": "x", "method": "token"}),
            403,
        ),
        (
            "v1/embedded/gateways/edge/sessions",
            &token,
            json!({"targetHost": "a", "targetPort": 1}),
            403,
        ),
    ] {
        let (status, answer) = post(path, bearer, body).await;
        // Whether a stranger is unknown or not permitted is the platform's choice.
        let close = (expected, status) == (403, 401) || (expected, status) == (401, 400);
        assert!(status == expected || close, "{path}: {status} {answer}");
        assert!(
            answer["message"].is_string(),
            "{path}: no message: {answer}"
        );
        assert!(
            answer["reqId"].is_string(),
            "{path}: no request id: {answer}"
        );
        for secret in [token.as_str(), &enrollment, "made-up-token", "wrong-secret"] {
            assert!(
                !answer.to_string().contains(secret),
                "{path} repeats a secret"
            );
        }
    }
    // Names that are none, and a body that is no JSON object.
    for body in [
        json!({"host": "127.0.0.1", "name": "x".repeat(33)}),
        json!({"host": "http://127.0.0.1", "name": "r"}),
        json!({"name": "r"}),
        json!([1, 2]),
    ] {
        let (status, answer) = post("v1/relays/register-org-relay", &token, body.clone()).await;
        assert!((400..500).contains(&status), "{body}: {status} {answer}");
        assert!(!answer["message"].is_null(), "{body}: no message: {answer}");
    }
    let log = platform.process.output();
    for secret in [token.as_str(), &enrollment, "made-up-token", "wrong-secret"] {
        assert!(!log.contains(secret), "the platform logs a secret");
    }
}

/// `infisical platform …` as the administrator; gives the exit code, stdout, and all output.
async fn administer(platform: &Platform, dir: &Path, words: &[&str]) -> (i32, String, String) {
    let mut command = infisical(dir);
    command.arg("platform").args(words);
    command.args(["--domain", &platform.url]);
    command.arg("--token-file").arg(platform.token_file());
    let process = Process::spawn("platform administration", command);
    (
        process.exit_code().await,
        process.stdout(),
        process.output(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_administers_it() {
    let stack = Stack::start().await;
    let platform = &stack.platform;
    let dir = stack.dir();

    let (code, gateways, _) = administer(platform, dir, &["gateway", "list"]).await;
    assert_eq!(code, 0, "{gateways}");
    assert!(gateways.contains(GATEWAY), "{gateways}");
    let (code, relays, _) = administer(platform, dir, &["relay", "list"]).await;
    assert_eq!(code, 0, "{relays}");
    assert!(
        relays.contains(RELAY) && relays.contains(&stack.host.to_string()),
        "{relays}"
    );

    // What is created stands alone on stdout, so that it can be piped.
    let (code, token, _) = administer(platform, dir, &["identity", "create", "piped"]).await;
    assert_eq!(code, 0, "{token}");
    assert_eq!(token.lines().count(), 1, "{token}");
    let get = reqwest::Method::GET;
    let (status, answer) = platform.api(get, "v1/relays", token.trim(), None).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer[0]["name"], RELAY);

    let file = dir.join("enrollment");
    let path = file.to_str().expect("UTF-8");
    let words = [
        "enrollment-token",
        "create",
        "--gateway",
        "two",
        "--output",
        path,
    ];
    let (code, _, output) = administer(platform, dir, &words).await;
    assert_eq!(code, 0, "{output}");
    let token = std::fs::read_to_string(&file).expect("the token");
    assert!(!output.contains(token.trim()), "the token is also printed");
    assert_eq!(mode(&file), 0o600);

    let (code, _, output) = administer(platform, dir, &["gateway", "remove", GATEWAY]).await;
    assert_eq!(code, 0, "{output}");
    let (status, _) = platform.session(GATEWAY, "127.0.0.1", 1).await;
    assert_eq!(status, 404);
    let (code, _, output) = administer(platform, dir, &["gateway", "remove", GATEWAY]).await;
    assert_ne!(code, 0, "removed twice");
    assert!(output.contains(GATEWAY), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_loopback_it_wants_tls() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = infisical(dir.path());
    command.args(["platform", "start", "--listen", "0.0.0.0:0"]);
    command.arg("--state-dir").arg(dir.path().join("state"));
    let refused = Process::spawn("platform", command);
    let code = refused.exit_code().await;
    assert!(matches!(code, 64 | 78), "{code}");
    assert!(
        refused.output().contains("--tls-cert"),
        "{}",
        refused.output()
    );

    // With a certificate it serves, and curl believes it.
    let host = loopback::address();
    let ca = Ca::root("Test Web CA");
    let leaf = ca.sign(&Leaf::relay_server(host));
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        write_private(&path, text);
        path
    };
    let ready = dir.path().join("ready");
    let mut command = infisical(dir.path());
    command.args(["platform", "start", "--listen", &format!("{host}:0")]);
    command.arg("--state-dir").arg(dir.path().join("state"));
    command
        .arg("--tls-cert")
        .arg(file("cert", &leaf.certificate));
    command.arg("--tls-key").arg(file("key", &leaf.key));
    command.arg("--ready-file").arg(&ready);
    let platform = Process::spawn("platform", command);
    platform
        .wait_for_line("Platform started successfully")
        .await;
    let url = ready_file(&ready).await;
    assert!(url.starts_with("https://"), "{url}");
    let mut command = clean("curl", dir.path());
    command.args(["--silent", "--show-error", "--noproxy", "*", "--cacert"]);
    command.arg(file("ca", &ca.pem()));
    command.arg(format!("{url}/api/v1/relays"));
    let curl = Process::spawn("curl", command);
    assert_eq!(curl.exit_code().await, 0);
    assert!(curl.output().contains("reqId"), "{}", curl.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_platforms_never_share_a_state_directory() {
    let (dir, platform) = alone().await;
    let mut command = infisical(dir.path());
    command.args(["platform", "start", "--listen", "127.0.0.1:0"]);
    command.arg("--state-dir").arg(platform.state());
    let second = Process::spawn("second platform", command);
    assert_ne!(second.exit_code().await, 0);
    assert!(platform.process.is_running());
}

//! The embedded platform from outside: what its API refuses and how it says so, its administration
//! by command line, and what it asks for before it serves beyond loopback.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use serde_json::{Value, json};

use crate::support::admin::Platform;
use crate::support::process::{Process, as_user, clean, infisical};
use crate::support::stack::{GATEWAY, RELAY, Stack};
use crate::support::x509::{Ca, Leaf};
use crate::support::{loopback, mode, ready_file, write_private};

async fn alone() -> (tempfile::TempDir, Platform) {
    let dir = tempfile::tempdir().expect("a directory");
    let platform = Platform::start(dir.path(), loopback::address(), 0, &[]).await;
    (dir, platform)
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_message_and_request_id() {
    let (_dir, platform) = alone().await;
    let token = platform.identity_token("someone").await;
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
    let (status, issued) = post("v3/gateways/token-auth/enroll", "", enroll.clone()).await;
    assert_eq!(status, 200, "{issued}");
    assert!(issued["accessToken"].is_string() && issued["gatewayId"].is_string());

    let register = json!({"relayName": "nowhere", "name": "edge"});
    let login = json!({"clientId": "unknown", "clientSecret": "wrong-secret"});
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
    let (code, token, output) = administer(platform, dir, &["identity", "create", "piped"]).await;
    assert_eq!(code, 0, "{token}");
    assert_eq!(token.lines().count(), 1, "{token}");
    let (_, id) = output.rsplit_once("identity remove ").expect("its id");
    let id = id.lines().next().expect("its id").to_owned();
    let get = reqwest::Method::GET;
    let (status, answer) = platform.api(get, "v1/relays", token.trim(), None).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer[0]["name"], RELAY);

    let (code, _, output) = administer(platform, dir, &["identity", "remove", &id]).await;
    assert_eq!(code, 0, "{output}");

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

    // A token that cannot be written must not be created either.
    let created = || platform.process.output().matches("token created").count();
    let before = created();
    let directory = dir.to_str().expect("UTF-8");
    for unwritable in [directory, "/nonexistent/token"] {
        let words = words[..5].iter().copied().chain([unwritable]);
        let words = words.collect::<Vec<_>>();
        let (code, _, output) = administer(platform, dir, &words).await;
        assert_eq!(code, 69, "{output}");
        let expected = format!("cannot write {unwritable}: ");
        assert!(output.contains(&expected), "{output}");
    }
    assert_eq!(created(), before, "{}", platform.process.output());

    let (code, _, output) = administer(platform, dir, &["gateway", "remove", GATEWAY]).await;
    assert_eq!(code, 0, "{output}");
    let (status, _) = platform.session(GATEWAY, "127.0.0.1", 1).await;
    assert_eq!(status, 404);
    let (code, _, output) = administer(platform, dir, &["gateway", "remove", GATEWAY]).await;
    assert_ne!(code, 0, "removed twice");
    assert!(output.contains(GATEWAY), "{output}");
}

/// A list as JSON; its version is checked.
async fn list(platform: &Platform, dir: &Path, words: &[&str], kind: &str) -> Vec<Value> {
    let words = [words, &["list", "--json"]].concat();
    let (code, text, output) = administer(platform, dir, &words).await;
    assert_eq!(code, 0, "{output}");
    let list: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(list["version"], 1, "{list}");
    list[kind].as_array().expect("rows").clone()
}

/// Lists tell who can be reached, and who no longer; they hold no secrets.
#[tokio::test(flavor = "multi_thread")]
async fn lists_tell_who_can_be_reached() {
    let stack = Stack::start().await;
    let (platform, dir) = (&stack.platform, stack.dir());
    let reached = "Gateway is reachable by Infisical";
    stack.gateway.wait_for_line(reached).await;
    stack
        .relay
        .wait_for_line("Relay is reachable by Infisical")
        .await;
    let version = env!("CARGO_PKG_VERSION");
    for (what, kind, name) in [("gateway", "gateways", GATEWAY), ("relay", "relays", RELAY)] {
        let rows = list(platform, dir, &[what], kind).await;
        let row = rows.first().expect("a row");
        assert_eq!(row["name"], name);
        assert_eq!(row["status"], "reachable", "{row}");
        assert_eq!(row["program_version"], version, "{row}");
        assert!(row["last_heartbeat_age_seconds"].is_u64(), "{row}");
        let (_, table, _) = administer(platform, dir, &[what, "list"]).await;
        let row = table.lines().nth(1).expect("a row");
        for part in [name, "reachable", " ago", version] {
            assert!(row.contains(part), "{part}: {table}");
        }
    }
    // Neither has sent a heartbeat yet.
    let token = platform.enrollment_token("gateway", "new", None).await;
    let pending = list(platform, dir, &["enrollment-token"], "enrollment_tokens").await;
    assert!(
        pending.iter().any(|row| row["name"] == "new"),
        "{pending:?}"
    );
    let post = reqwest::Method::POST;
    let path = "v3/gateways/token-auth/enroll";
    let (status, _) = platform
        .api(post, path, "", Some(&json!({"token": token})))
        .await;
    assert_eq!(status, 200);
    let (_, table, _) = administer(platform, dir, &["gateway", "list"]).await;
    let row = table.lines().find(|line| line.starts_with("new "));
    assert!(row.is_some_and(|row| row.contains("never seen")), "{table}");

    let created = administer(
        platform,
        dir,
        &["identity", "create", "x", "--role", "client"],
    );
    let (_, secret, _) = created.await;
    let identities = list(platform, dir, &["identity"], "identities").await;
    let row = identities
        .iter()
        .find(|row| row["name"] == "x")
        .expect("a row");
    assert_eq!(
        (&row["roles"], &row["login"]),
        (&json!(["client"]), &json!("token"))
    );
    assert!(!format!("{identities:?}{pending:?}").contains(secret.trim()));
    assert!(!format!("{pending:?}").contains(&token));
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_enrollment_token_enrolls_no_one() {
    let (dir, platform) = alone().await;
    let token = platform.enrollment_token("gateway", "edge one", None).await;
    let words = ["enrollment-token", "revoke", "--gateway", "edge one"];
    let (code, _, output) = administer(&platform, dir.path(), &words).await;
    assert_eq!(code, 0, "{output}");
    let post = reqwest::Method::POST;
    let path = "v3/gateways/token-auth/enroll";
    let (status, _) = platform
        .api(post, path, "", Some(&json!({"token": token})))
        .await;
    assert_eq!(status, 401);
    let (code, _, output) = administer(&platform, dir.path(), &words).await;
    assert_eq!(code, 78, "{output}");
    assert!(output.contains("edge one"), "{output}");
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

/// As many idle connections as the platform used to hold, all of one source: others are served, and
/// that source as well, before any of the idle ones has ended by itself.
#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_silence_no_one() {
    let (_dir, platform) = alone().await;
    let address = platform.url.strip_prefix("http://").expect("plain HTTP");
    let address: SocketAddr = address.parse().expect("an address");
    let mut idle = Vec::new();
    for _ in 0..1024 {
        let stream = tokio::net::TcpStream::connect(address).await;
        idle.push(stream.expect("a connection"));
    }
    let get = reqwest::Method::GET;
    // The same source, which makes one of its idle connections give way, and another one.
    for from in [None, Some(loopback::address())] {
        let client = reqwest::Client::builder().no_proxy();
        let client = client.local_address(from.map(IpAddr::V4));
        let client = client.build().expect("a client");
        let url = format!("{}/api/v1/embedded/relays", platform.url);
        let request = client
            .request(get.clone(), url)
            .bearer_auth(&platform.token);
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "from {from:?}");
    }
    let is_open = |stream: &tokio::net::TcpStream| {
        let read = stream.try_read(&mut [0; 1]);
        read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    };
    let open = idle.iter().filter(|stream| is_open(stream)).count();
    assert!(open >= 512, "{open} of the idle connections are left");
}

/// A request whose body does not come holds its place only until another one needs it.
#[tokio::test(flavor = "multi_thread")]
async fn incomplete_requests_give_way() {
    use tokio::io::AsyncWriteExt as _;
    let (_dir, platform) = alone().await;
    let address = platform.url.strip_prefix("http://").expect("plain HTTP");
    let mut held = Vec::new();
    for _ in 0..1024 {
        let stream = tokio::net::TcpStream::connect(address).await;
        let mut stream = stream.expect("a connection");
        let head = "POST /api/v2/relays/login HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{";
        // It may have given way already.
        let _ = stream.write_all(head.as_bytes()).await;
        held.push(stream);
    }
    let (status, answer) = platform.request(reqwest::Method::GET, "relays", None).await;
    assert_eq!(status, 200, "{answer}");
    let is_open = |stream: &tokio::net::TcpStream| {
        let read = stream.try_read(&mut [0; 1]);
        read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    };
    let open = held.iter().filter(|stream| is_open(stream)).count();
    assert!(open >= 512, "{open} of the incomplete requests are left");
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_allow_their_purpose_only() {
    let (dir, platform) = alone().await;
    let create = |words: &'static [&'static str]| {
        let mut all = vec!["identity", "create", "someone"];
        all.extend(words);
        let (platform, dir) = (&platform, dir.path());
        async move { administer(platform, dir, &all).await }
    };
    let post = |path: &'static str, token: String, body: Value| {
        let platform = &platform;
        async move {
            let post = reqwest::Method::POST;
            platform.api(post, path, token.trim(), Some(&body)).await.0
        }
    };
    let register_relay = json!({"host": "relay.example.com", "name": "eu-1"});
    let register_gateway = json!({"relayName": "eu-1", "name": "edge"});
    let enrollment = json!({"kind": "gateway", "name": "other"});
    let session = json!({"targetHost": "a", "targetPort": 1});
    let allow = [
        "access",
        "allow",
        "--who",
        "group:all",
        "--gateway",
        "*",
        "--target",
        "*",
    ];
    let (code, _, output) = administer(&platform, dir.path(), &allow).await;
    assert_eq!(code, 0, "{output}");
    let (code, relay, _) = create(&["--role", "relay"]).await;
    assert_eq!(code, 0);
    for (words, expected) in [
        (&[][..], [403, 200, 403, 403]),
        (&["--role", "relay"], [400, 403, 403, 403]),
        (&["--role", "operator"], [403, 403, 200, 403]),
        (&["--role", "client"], [403, 403, 403, 403]),
        (
            &["--role", "client", "--group", "all"],
            [403, 403, 403, 200],
        ),
        (&["--role", "admin"], [403, 403, 200, 200]),
        (
            &["--role", "client,operator", "--group", "all"],
            [403, 403, 200, 200],
        ),
    ] {
        // Another relay has the host already.
        let first = post(
            "v1/relays/register-org-relay",
            relay.clone(),
            register_relay.clone(),
        );
        assert_eq!(first.await, 200);
        let (code, token, output) = create(words).await;
        assert_eq!(code, 0, "{output}");
        let mut second = register_relay.clone();
        second["name"] = json!("eu-2");
        let found = [
            post("v1/relays/register-org-relay", token.clone(), second).await,
            post("v2/gateways", token.clone(), register_gateway.clone()).await,
            post(
                "v1/embedded/enrollment-tokens",
                token.clone(),
                enrollment.clone(),
            )
            .await,
            post(
                "v1/embedded/gateways/edge/sessions",
                token.clone(),
                session.clone(),
            )
            .await,
        ];
        assert_eq!(found, expected, "{words:?}");
    }
    let (code, _, output) = create(&["--role", "root"]).await;
    assert_eq!(code, 64, "{output}");
}

/// Whether a name resolves, a port is open, or what listens there: all get one answer.
#[tokio::test(flavor = "multi_thread")]
async fn heartbeat_reveals_nothing_of_other_hosts() {
    let (_dir, platform) = alone().await;
    let token = platform.token_with("relay", &["relay"]).await;
    let host = loopback::address();
    // Something that is no relay listens at one of the hosts.
    let listener = tokio::net::TcpListener::bind((host, 8443)).await;
    let listener = listener.expect("a port");
    let mut closing = tokio::task::JoinSet::new();
    closing.spawn(async move {
        loop {
            drop(listener.accept().await);
        }
    });
    let refusing = loopback::address().to_string();
    let mut answers = Vec::new();
    for at in ["name.invalid", &refusing, &host.to_string()] {
        let register = json!({"host": at, "name": "eu-1"});
        let post = reqwest::Method::POST;
        let path = "v1/relays/register-org-relay";
        let (status, answer) = platform
            .api(post.clone(), path, &token, Some(&register))
            .await;
        assert_eq!(status, 200, "{answer}");
        let path = "v1/relays/heartbeat-org-relay";
        let body = json!({"name": "eu-1"});
        let (status, mut answer) = platform.api(post, path, &token, Some(&body)).await;
        answer["reqId"] = Value::Null;
        assert!(!answer.to_string().contains(at), "{answer}");
        answers.push((status, answer));
        // The administrator can read which it was.
        platform
            .process
            .wait_for_line(&format!("relay at {at}"))
            .await;
    }
    drop(closing);
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[1], answers[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_state_directory_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let (of_home, given) = (
        "/nonexistent/.local/state/infisical/platform",
        "/nonexistent/p",
    );
    for (arguments, home, code, directory) in [
        (&[][..], "/nonexistent", 77, of_home),
        (&["--state-dir", given], "/", 77, given),
        (&["--state-dir", "/etc/passwd"], "/", 78, "/etc/passwd"),
        (&["--state-dir", "/proc/p"], "/", 78, "/proc/p"),
    ] {
        let mut command = infisical(dir.path());
        command.args(["platform", "start", "--listen=127.0.0.1:0"]);
        command.args(arguments);
        let Some(mut command) = as_user(&command) else {
            return;
        };
        let process = Process::spawn("platform", {
            command.env("HOME", home);
            command
        });
        let found = process.exit_code().await;
        let output = process.output();
        assert_eq!(found, code, "{directory}: {output}");
        for part in [
            format!("the state directory {directory} cannot be used: "),
            "; name another one with --state-dir".to_owned(),
        ] {
            assert!(output.contains(&part), "{part}: {output}");
        }
    }
}

//! One-time tokens: who is asked to exchange them, when they are spent, and the name that comes
//! back.

use serde_json::json;

use crate::support::admin::Platform;
use crate::support::daemon::{GatewayCommand, RelayCommand};
use crate::support::fake_platform::Answer;
use crate::support::lab::{GATEWAY, GATEWAY_ID, Lab, RELAY};
use crate::support::loopback;
use crate::support::manager::Manager;
use crate::support::process::{Process, infisical};
use crate::support::ssh_ca::SshCert;
use crate::support::write_private;

/// sysexits: permission denied.
const NOPERM: i32 = 77;
/// sysexits: the configuration is wrong.
const CONFIG: i32 = 78;
const GATEWAY_ENROLL: &str = "POST /api/v3/gateways/token-auth/enroll";
const GATEWAY_CONNECT: &str = "POST /api/v3/gateways/connect";
const RELAY_LOGIN: &str = "POST /api/v2/relays/login";
/// What the message says to do about a token that is spent.
const CREATE: &str = "create a new one";

/// A gateway and a relay that enroll at `domain` with a one-time token.
fn enrolling(lab: &Lab, domain: &str) -> [Process; 2] {
    let keys = "INFISICAL_TOKEN=one-time\n";
    let enroll = || "--enroll-method=token".to_owned();
    let mut gateway = GatewayCommand::new(lab.dir(), "edge", domain, RELAY, keys);
    gateway.more.push(enroll());
    let mut relay = RelayCommand::new(lab.dir(), "edge", lab.host, domain, keys);
    relay.more.push(enroll());
    [gateway.spawn(lab.dir()), relay.spawn(lab.dir())]
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_platforms_refusal_spends_a_token() {
    let lab = Lab::new().await;
    // The port of a service that nothing listens at.
    let nowhere = format!("http://{}:9", lab.host);
    for process in enrolling(&lab, &nowhere) {
        let line = process.wait_for_line("sending the enrollment token").await;
        assert!(line.contains(&nowhere), "{line}");
        process.wait_for_line("cannot reach the platform").await;
        assert!(process.is_running() && !process.output().contains(CREATE));
    }
    let refusal = || Answer::error(403, "Enrollment token is already used", "req-1");
    for what in [GATEWAY_ENROLL, RELAY_LOGIN] {
        // A firewall's page, and a platform that is ill.
        let page = "<html><title>Blocked</title></html>";
        lab.platform.once(what, Answer::raw(403, page));
        lab.platform
            .once(what, Answer::error(500, "Something went wrong", "req-0"));
        lab.platform.always(what, refusal());
    }
    for process in enrolling(&lab, &lab.platform.url()) {
        assert_eq!(process.exit_code().await, NOPERM);
        let output = process.output();
        let lines: Vec<&str> = output
            .lines()
            .filter(|line| line.contains(CREATE))
            .collect();
        assert!(!lines.is_empty(), "the last refusal is final");
        for line in lines {
            assert!(line.contains("already used"), "{line}");
            assert!(line.contains(&lab.platform.url()), "{line}");
        }
        assert!(output.contains("Blocked") && output.contains("Something went wrong"));
        assert!(!output.contains("one-time\n"), "the token is shown");
    }
}

/// A gateway that has enrolled as `GATEWAY`, and what its manager hears.
fn enrolled(lab: &Lab, number: usize) -> (Process, Manager) {
    let command = lab.gateway_command();
    write_private(&command.config, "INFISICAL_GATEWAY_ACCESS_TOKEN=obtained\n");
    let mut command = command.command(lab.dir());
    let manager = Manager::listen(&lab.dir().join(format!("notify-{number}")), &mut command);
    (Process::spawn("gateway", command), manager)
}

#[tokio::test(flavor = "multi_thread")]
async fn platforms_different_name_is_warned_of() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let certified = |names: &[&str]| {
        let certificate = SshCert::user(RELAY, GATEWAY_ID).principals(names);
        let mut credentials = lab.gateway_credentials();
        credentials["ssh"]["clientCertificate"] =
            json!(lab.user_ca.certificate_line(&lab.client_key, &certificate));
        credentials
    };
    let mut answered = certified(&[GATEWAY_ID]);
    answered["name"] = json!("gw-1");
    for (number, (credentials, name)) in [
        (certified(&[GATEWAY_ID, "gw-1"]), Some("gw-1")),
        (answered, Some("gw-1")),
        (certified(&[GATEWAY_ID, GATEWAY]), Some(GATEWAY)),
        // A relay of the instance: the certificate names only the id.
        (certified(&[GATEWAY_ID]), None),
    ]
    .into_iter()
    .enumerate()
    {
        lab.platform
            .always(GATEWAY_CONNECT, Answer::ok(&credentials));
        let (gateway, manager) = enrolled(&lab, number);
        let started = gateway.wait_for_line("Gateway started successfully").await;
        let registered = "Successfully registered gateway and received certificates";
        let registered = gateway.wait_for_line(registered).await;
        let status = manager.wait_for(&format!("STATUS=connected to {RELAY}, "));
        for line in [&started, &registered] {
            let expected = name.map(|name| format!("gateway.name={name}"));
            let expected = expected.as_deref().unwrap_or("gateway.name");
            let line = line.replace('"', "");
            assert_eq!(line.contains(expected), name.is_some(), "{line}");
        }
        let expected =
            name.map_or_else(|| "(gateway".to_owned(), |name| format!("(gateway {name})"));
        assert_eq!(status.contains(&expected), name.is_some(), "{status}");
        let warned = gateway
            .output()
            .contains("knows this gateway by another name");
        assert_eq!(warned, name == Some("gw-1"), "case {number}");
        gateway.kill().await;
    }
    relay.kill().await;
}

/// A login that failed stores nothing: a stored domain would win over the one that corrects it.
#[tokio::test(flavor = "multi_thread")]
async fn failed_login_stores_no_domain() {
    const GATEWAY_LOGIN: &str = "POST /api/v3/gateways/login";
    let lab = Lab::new().await;
    let nowhere = format!("http://{}:9", lab.host);
    let pod_token = lab.dir().join("pod-token");
    let home = lab.dir();
    let config = home.join("conf/edge.conf");
    let start = |more: &[&str]| {
        let mut command = infisical(home);
        command.args(["gateway", "start", "edge", "--gateway-id", GATEWAY_ID]);
        command.args(["--enroll-method=kubernetes", "--target-relay-name", RELAY]);
        command.arg("--config").arg(&config);
        command
            .args(more)
            .env("INFISICAL_API_URL", lab.platform.url());
        command.env(
            "INFISICAL_KUBERNETES_SERVICE_ACCOUNT_TOKEN_PATH",
            &pod_token,
        );
        Process::spawn("gateway", command)
    };
    let gateway = start(&["--domain", &nowhere]);
    let line = gateway.wait_for_line("cannot read the pod's service").await;
    assert!(line.contains("--service-account-token-path"), "{line}");
    assert!(!line.contains("gives this gateway"), "{line}");
    gateway.exit_code().await;
    write_private(&pod_token, "a.pod.token");
    let gateway = start(&["--domain", &nowhere]);
    let line = gateway.wait_for_line("cannot reach the platform").await;
    assert!(!line.contains("gives this gateway"), "{line}");
    gateway.kill().await;
    assert!(!config.exists());

    let body = json!({"accessToken": "obtained", "tokenType": "Bearer"});
    lab.platform.always(GATEWAY_LOGIN, Answer::ok(&body));
    lab.platform
        .always(GATEWAY_CONNECT, Answer::ok(&lab.gateway_credentials()));
    let gateway = start(&[]);
    lab.platform.asked(GATEWAY_LOGIN, 1).await;
    lab.platform.asked(GATEWAY_CONNECT, 1).await;
    gateway.kill().await;
    let kept = std::fs::read_to_string(&config).expect("the file");
    let url = lab.platform.url();
    let expected =
        format!("INFISICAL_GATEWAY_DOMAIN={url}/api\nINFISICAL_GATEWAY_ID={GATEWAY_ID}\n");
    assert_eq!(kept, expected);
}

/// The file is proved writable before the token is sent, and is not made before there is something
/// to keep.
#[tokio::test(flavor = "multi_thread")]
async fn refused_token_leaves_no_file() {
    let lab = Lab::new().await;
    for what in [GATEWAY_ENROLL, RELAY_LOGIN] {
        let refusal = Answer::error(403, "Enrollment token is already used", "req-1");
        lab.platform.always(what, refusal);
    }
    let mut gateway = GatewayCommand::new(lab.dir(), "edge", &lab.platform.url(), RELAY, "");
    let mut relay = RelayCommand::new(lab.dir(), "edge", lab.host, &lab.platform.url(), "");
    for config in [&mut gateway.config, &mut relay.config] {
        std::fs::remove_file(&config).expect("removed");
        *config = lab
            .dir()
            .join("new")
            .join(config.file_name().expect("a name"));
    }
    for mut command in [gateway.command(lab.dir()), relay.command(lab.dir())] {
        command.arg("--enroll-method=token");
        command.env("INFISICAL_TOKEN", "one-time");
        let process = Process::spawn("enrolling", command);
        assert_eq!(process.exit_code().await, NOPERM);
    }
    let left: Vec<_> = std::fs::read_dir(lab.dir().join("new"))
        .expect("the directory")
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// The platform's certificates let gateways in only under the platform's name of the relay.
#[tokio::test(flavor = "multi_thread")]
async fn other_relays_name_is_refused_at_enrollment() {
    let dir = tempfile::tempdir().expect("a directory");
    let host = loopback::address();
    let platform = Platform::start(dir.path(), host, 0, &[]).await;
    let token = platform.enrollment_token("relay", "r3", Some(host)).await;
    let start = |name: &str| {
        let mut relay = RelayCommand::new(dir.path(), name, host, &platform.url, "");
        std::fs::remove_file(&relay.config).expect("removed");
        relay.config = dir.path().join(format!("{name}.conf"));
        relay.more.push("--enroll-method=token".to_owned());
        let mut command = relay.command(dir.path());
        command.env("INFISICAL_TOKEN", &token);
        Process::spawn("relay", command)
    };
    let wrong = start("r33");
    assert_eq!(wrong.exit_code().await, CONFIG);
    let output = wrong.output();
    assert!(output.contains("start it with --name r3"), "{output}");
    // The token is spent, and what it obtained is where that relay looks for it.
    assert!(!dir.path().join("r33.conf").exists());
    let right = start("r3");
    right
        .wait_for_line("Relay server started successfully")
        .await;
    right.kill().await;
    std::fs::rename(dir.path().join("r3.conf"), dir.path().join("r33.conf")).expect("moved");
    let wrong = start("r33");
    assert_eq!(wrong.exit_code().await, CONFIG);
    let output = wrong.output();
    assert!(output.contains("start it with --name r3"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_enrollment_failures_are_logged_once() {
    let lab = Lab::new().await;
    let nowhere = format!("http://{}:9", lab.host);
    let keys = "INFISICAL_TOKEN=one-time\n";
    let mut gateway = GatewayCommand::new(lab.dir(), "edge", &nowhere, RELAY, keys);
    let more = ["--enroll-method=token", "--log-level=debug"];
    gateway.more.extend(more.map(str::to_owned));
    let gateway = gateway.spawn(lab.dir());
    gateway.wait_for_line("attempt=3").await;
    let output = gateway.output();
    let warnings = output
        .lines()
        .filter(|line| line.contains("WARN") && line.contains("not enrolled"));
    assert_eq!(warnings.count(), 1, "{output}");
}

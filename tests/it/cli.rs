//! The command line: exit codes, mistakes that are all reported at once, ports in use, and what
//! `connect` promises to scripts.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;

use crate::support::lab::{Lab, TOKEN};
use crate::support::process::{Process, clean, infisical};
use crate::support::stack::Stack;
use crate::support::targets::{PAGE, Target};
use crate::support::write_private;

async fn run(arguments: &[&str]) -> (i32, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = infisical(dir.path());
    command.args(arguments);
    let process = Process::spawn(&arguments.join(" "), command);
    (process.exit_code().await, process.output())
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_of_usage_exit_with_64() {
    for arguments in [
        &["frobnicate"][..],
        &["gateway", "start", "name", "--no-such-flag"],
        &["relay", "start", "--type", "someone's"],
        &["connect"],
    ] {
        let (code, output) = run(arguments).await;
        assert_eq!(code, 64, "{arguments:?}: {output}");
    }
    let (code, output) = run(&["--help"]).await;
    assert_eq!(code, 0);
    for word in ["gateway", "relay", "platform", "connect", "dev"] {
        assert!(output.contains(word), "{word} is not in the help");
    }
    let (code, output) = run(&["--version"]).await;
    assert_eq!(code, 0);
    assert!(output.starts_with("infisical "), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn impossible_configuration_exits_with_78() {
    let (code, output) = run(&["relay", "start", "--domain", "ftp://example.com"]).await;
    assert!(code == 78 || code == 64, "{code}: {output}");
    for word in ["name", "host", "domain"] {
        assert!(
            output.to_lowercase().contains(word),
            "{word} is not mentioned: {output}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secret_file_readable_by_others_is_refused() {
    let lab = Lab::new().await;
    let command = lab.gateway_command();
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&command.config, open).expect("chmod");
    let gateway = command.spawn(lab.dir());
    assert_ne!(gateway.exit_code().await, 0);
    let output = gateway.output();
    let file = command
        .config
        .file_name()
        .expect("a name")
        .to_string_lossy();
    assert!(output.contains(&*file), "{output}");
    assert!(!output.contains(TOKEN));
}

#[tokio::test(flavor = "multi_thread")]
async fn port_in_use_is_reported_with_address() {
    let lab = Lab::new().await;
    for port in [2222, 8443] {
        let address = SocketAddr::from((lab.host, port));
        let _taken = TcpListener::bind(address).expect("the port");
        let relay = lab.relay_command().spawn(lab.dir());
        assert_eq!(relay.exit_code().await, 69);
        assert!(
            relay.output().contains(&address.to_string()),
            "the address is not named"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_fetches_a_private_page_through_connect() {
    let stack = Stack::start().await;
    let page = Target::http(stack.host).await;
    let (_connect, address) = stack.connect(&page.address.to_string()).await;
    for _ in 0..3 {
        let mut command = clean("curl", stack.dir());
        command.args(["--silent", "--show-error", "--fail", "--noproxy", "*"]);
        command.arg(format!("http://{address}/index"));
        let curl = Process::spawn("curl", command);
        assert_eq!(curl.exit_code().await, 0);
        let output = curl.output();
        assert!(output.starts_with(PAGE.trim_end()), "{output}");
        assert!(output.contains("GET /index HTTP/1.1"), "{output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_refuses_what_it_cannot_reach() {
    let stack = Stack::start().await;
    let mut command = infisical(stack.dir());
    command.args([
        "connect",
        "no-such-gateway",
        "--to",
        "127.0.0.1:1",
        "--stdio",
    ]);
    command.args(["--domain", &stack.platform.url]);
    command.arg("--token-file").arg(stack.platform.token_file());
    let unknown = Process::spawn("connect", command);
    assert_ne!(unknown.exit_code().await, 0);
    assert!(unknown.output().contains("no-such-gateway"));

    let wrong = stack.dir().join("wrong-token");
    write_private(&wrong, "not-the-administrators-token");
    let mut command = infisical(stack.dir());
    command.args(["connect", "gateway-one", "--to", "127.0.0.1:1", "--stdio"]);
    command.args(["--domain", &stack.platform.url]);
    command.arg("--token-file").arg(&wrong);
    let refused = Process::spawn("connect", command);
    assert_eq!(refused.exit_code().await, 77);
    assert!(!refused.output().contains("not-the-administrators-token"));
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_json_where_asked_for() {
    let lab = Lab::new().await;
    let _relay = lab.relay().await;
    let mut command = lab.gateway_command();
    command.more.push("--log-format=json".to_owned());
    let gateway = command.spawn(lab.dir());
    gateway.wait_for_line("Gateway started successfully").await;
    for line in gateway.output().lines() {
        let parsed: Result<serde_json::Value, _> = serde_json::from_str(line);
        assert!(parsed.is_ok_and(|value| value.is_object()), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dry_run_hides_secrets() {
    let dir = tempfile::tempdir().expect("a directory");
    let token = dir.path().join("token");
    write_private(&token, TOKEN);
    let token = token.to_str().expect("text");
    let install = [
        "gateway",
        "systemd",
        "install",
        "edge-of-a-test",
        "--dry-run",
    ];
    let rest = [
        "--user",
        "--token-file",
        token,
        "--domain",
        "https://platform.example",
    ];
    let (code, output) = run(&[&install[..], &rest].concat()).await;
    assert_eq!(code, 0, "{output}");
    for line in [
        "INFISICAL_GATEWAY_NAME=edge-of-a-test",
        "INFISICAL_API_URL=https://platform.example/api",
        "INFISICAL_TOKEN=<secret>",
        "+ /etc/systemd/system/edge-of-a-test.service",
        "+ /etc/systemd/system/edge-of-a-test.service.d/dynamic-user.conf",
        "Conflicts=infisical-gateway@%N.service",
        "CapabilityBoundingSet=",
        "LoadCredential=gateway.conf:/etc/infisical/gateways/edge-of-a-test.conf",
    ] {
        assert!(output.lines().any(|said| said == line), "{line}: {output}");
    }
    assert!(!output.contains(TOKEN), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn installing_without_root_or_systemd_says_so() {
    let is_root = nix::unistd::geteuid().is_root();
    if is_root && std::path::Path::new("/run/systemd/system").exists() {
        println!("SKIPPED: on this machine it would install");
        return;
    }
    let expected = if is_root {
        (69, "systemd")
    } else {
        (77, "sudo")
    };
    for command in [
        &[
            "gateway",
            "systemd",
            "install",
            "edge-of-a-test",
            "--no-start",
        ][..],
        &["relay", "systemd", "uninstall", "edge-of-a-test"],
    ] {
        let (code, output) = run(command).await;
        assert_eq!(code, expected.0, "{output}");
        assert!(output.contains(expected.1), "{output}");
    }
    let (code, output) = run(&["gateway", "wait-online", "edge-of-a-test", "--timeout", "0"]).await;
    assert_eq!(code, 69, "{output}");
    assert!(output.contains("the tunnel is not up"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_installation_obstacles_are_reported_at_once() {
    let (code, output) = run(&[
        "relay",
        "systemd",
        "install",
        "one",
        "--name",
        "two",
        "--dry-run",
        "--log-file",
        "/tmp/x",
    ])
    .await;
    assert_eq!(code, 78, "{output}");
    for part in [
        "NAME and --name differ",
        "--host HOST",
        "no credential",
        "/var/log/infisical/relay.log",
    ] {
        assert!(output.contains(part), "{part}: {output}");
    }
    let (code, output) = run(&["gateway", "systemd", "install", "../up", "--dry-run"]).await;
    assert_eq!(code, 78, "{output}");
}

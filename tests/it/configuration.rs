//! Configuration files in both of their forms, and `check`, which says what they come to.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use crate::support::journald::may_mount;
use crate::support::lab::{GATEWAY, GATEWAY_CONNECTED, Lab, RELAY, TOKEN};
use crate::support::process::{Process, as_user, clean, infisical};
use crate::support::{loopback, write_private};

/// sysexits: the system does not permit it.
const PERMISSION: i32 = 77;
const UNAVAILABLE: i32 = 69;

fn command(lab: &Lab, words: &[&str], config: &Path) -> Command {
    let mut command = infisical(lab.dir());
    command.args(words).arg("--config").arg(config);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn both_roles_start_from_a_file_alone() {
    let lab = Lab::new().await;
    let (host, url) = (lab.host, lab.platform.url());
    let relay_config = lab.dir().join("relay.toml");
    let relay_text = format!(
        "# A relay.\nrelay_name = \"{RELAY}\"\nrelay_host = '{host}'\napi_url = \"{url}\"\n\
         relay_ssh_listen = \"{host}:2222\"\nrelay_tls_listen = \"{host}:8443\" # both\ntoken = \"{TOKEN}\"\n"
    );
    write_private(&relay_config, &relay_text);
    let relay = command(&lab, &["relay", "start"], &relay_config);
    let relay = Process::spawn("relay", relay);
    relay
        .wait_for_line("Relay server started successfully")
        .await;
    let gateway_config = lab.dir().join("gateway.conf");
    for text in [
        format!(
            "gateway_name = \"{GATEWAY}\"\nrelay_name = '{RELAY}'\napi_url = \"{url}\"\ntoken = \"{TOKEN}\"\n"
        ),
        format!(
            "INFISICAL_GATEWAY_NAME={GATEWAY}\nINFISICAL_RELAY_NAME='{RELAY}'\nINFISICAL_API_URL={url}\n\
             INFISICAL_TOKEN={TOKEN}\n# The deployed program's.\nINFISICAL_PKCS11_MODULE=/lib/module.so\n"
        ),
    ] {
        write_private(&gateway_config, &text);
        let mark = relay.mark();
        let gateway = command(&lab, &["gateway", "start"], &gateway_config);
        let gateway = Process::spawn("gateway", gateway);
        gateway.wait_for_line("Gateway started successfully").await;
        relay.wait_for_line_after(mark, GATEWAY_CONNECTED).await;
        let warned = gateway.output().contains("INFISICAL_PKCS11_MODULE");
        assert_eq!(warned, text.contains("INFISICAL_PKCS11_MODULE"));
        gateway.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_shows_every_setting_without_contact() {
    let lab = Lab::new().await;
    let config = lab.dir().join("gateway.conf");
    let platform = TcpListener::bind((lab.host, 0)).expect("a port");
    platform.set_nonblocking(true).expect("set");
    let url = format!("http://{}", platform.local_addr().expect("an address"));
    let text = format!("gateway_name = \"{GATEWAY}\"\ntoken = \"{TOKEN}\"\napi_url = \"{url}\"\n");
    write_private(&config, &text);
    let check = command(&lab, &["gateway", "check"], &config);
    let check = Process::spawn("check", check);
    assert_eq!(check.exit_code().await, 0);
    let output = check.stdout();
    for part in [GATEWAY, &url, "<secret>", "file, line 2", "default"] {
        assert!(output.contains(part), "{part} is missing: {output}");
    }
    assert!(!check.output().contains(TOKEN), "the token is shown");
    assert!(
        lab.platform.requests("").is_empty(),
        "it asked the platform"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn check_reports_every_mistake_with_78() {
    let lab = Lab::new().await;
    let config = lab.dir().join("relay.conf");
    let text = format!("relay_nam = \"x\"\ntoken = {TOKEN}\nrelay_host = 5\n[relay]\n");
    write_private(&config, &text);
    let check = command(&lab, &["relay", "check", "--tls-listen", "8443"], &config);
    let check = Process::spawn("check", check);
    assert_eq!(check.exit_code().await, 78);
    let output = check.output();
    for part in [
        "line 1: unknown key relay_nam, did you mean relay_name?",
        "line 2: token: string values must be quoted",
        "line 3: relay_host must be a string",
        "line 4: keys stand alone",
        "--tls-listen: must be an IP address and a port",
    ] {
        assert!(output.contains(part), "{part} is missing: {output}");
    }
    assert!(!output.contains(TOKEN), "the token is shown");
}

/// A gateway that starts from a file with these lines.
fn started(lab: &Lab, lines: &str) -> Process {
    let gateway = lab.gateway_command();
    let keys = std::fs::read_to_string(&gateway.config).expect("read");
    write_private(&gateway.config, &format!("{keys}{lines}"));
    gateway.spawn(lab.dir())
}

#[tokio::test(flavor = "multi_thread")]
async fn log_format_may_stand_in_the_file() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let is_json = |line: &str| line.starts_with('{');
    let gateway = started(&lab, "LOG_FORMAT=json\nLOG_DESTINATION=stdout\n");
    let line = gateway.wait_for_line("Gateway started successfully").await;
    assert!(is_json(&line), "{line}");
    assert!(gateway.stdout().contains("Gateway started successfully"));
    gateway.kill().await;
    let gateway = started(&lab, "LOG_FORMAT=pretty\nLOG_DESTINATION=syslog\n");
    let line = gateway.wait_for_line("Gateway started successfully").await;
    assert!(!is_json(&line), "{line}");
    assert_eq!(gateway.stdout(), "");
    for (name, line) in [("LOG_FORMAT", 2), ("LOG_DESTINATION", 3)] {
        let config = lab.dir().join("gateway-lab-gateway.conf");
        let place = format!("{name} in {} line {line}", config.display());
        let output = gateway.output();
        let warned = output
            .lines()
            .any(|text| text.contains(&place) && text.contains("WARN"));
        assert!(warned, "{place}: {output}");
    }
    drop(relay);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_log_variables_are_warnings() {
    let lab = Lab::new().await;
    let mut connect = infisical(lab.dir());
    connect.args(["connect", "edge", "--to", "db.test:5432"]);
    connect.args(["--domain", &lab.platform.url()]);
    connect.env("INFISICAL_TOKEN", TOKEN);
    connect
        .env("LOG_FORMAT", "pretty")
        .env("LOG_DESTINATION", "syslog");
    let connect = Process::spawn("connect", connect);
    for name in ["LOG_FORMAT", "LOG_DESTINATION"] {
        let line = connect
            .wait_for_line(&format!("environment variable {name}"))
            .await;
        assert!(line.contains("WARN"), "{line}");
    }
}

/// `gateway check` without a home, as in a container.
#[tokio::test(flavor = "multi_thread")]
async fn missing_home_is_a_named_warning() {
    let lab = Lab::new().await;
    for command in ["check", "start"] {
        let mut gateway = infisical(lab.dir());
        gateway.args(["gateway", command, "edge"]);
        gateway.args(["--domain", &lab.platform.url()]);
        let Some(mut gateway) = as_user(&gateway) else {
            return;
        };
        gateway.env_clear().env("INFISICAL_TOKEN", TOKEN);
        let gateway = Process::spawn(command, gateway);
        let line = gateway.wait_for_line("HOME is not set").await;
        let file = "/var/lib/infisical/gateways/edge.conf";
        assert!(line.contains(file) && line.contains("--config"), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unwritable_home_is_named() {
    let lab = Lab::new().await;
    // Not even root makes directories in /proc. The last one is no home at all.
    for home in ["/proc", "/nonexistent", "/", "/etc/passwd", ""] {
        let directory = match home {
            "" => "/var/lib/infisical".to_owned(),
            home => format!("{}/.infisical", home.trim_end_matches('/')),
        };
        for role in ["gateway", "relay"] {
            let mut command = infisical(lab.dir());
            command.args([role, "start", "--name=edge", "--enroll-method=token"]);
            command.args(["--domain", &lab.platform.url()]);
            let Some(mut command) = as_user(&command) else {
                return;
            };
            command.env("HOME", home).env("INFISICAL_TOKEN", "one-time");
            if role == "relay" {
                let address = loopback::address();
                command.args(["--ssh-listen", &format!("{address}:2222")]);
                command.args(["--tls-listen", &format!("{address}:8443")]);
            }
            let process = Process::spawn(role, command);
            let code = process.exit_code().await;
            let output = process.output();
            assert_eq!(code, PERMISSION, "{role} {home}: {output}");
            let advice = "; name another file with --config, or set HOME".to_owned();
            for part in [format!(" {directory}/{role}s"), advice] {
                assert!(output.contains(&part), "{part}: {output}");
            }
        }
    }
    assert!(
        lab.platform.requests("").is_empty(),
        "the token is spent although it cannot be kept"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_file_system_is_retried() {
    if !may_mount() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let at = loopback::address();
    let listen = [
        format!("--ssh-listen={at}:2222"),
        format!("--tls-listen={at}:8443"),
    ];
    let state = ["--listen=127.0.0.1:0", "--state-dir=/etc/platform"];
    let enroll = [
        "--name=edge",
        "--enroll-method=token",
        "--token=one-time",
        "--domain=http://127.0.0.1:1",
    ];
    let relay = [&enroll[..], &listen.each_ref().map(String::as_str)].concat();
    for (role, words, directory) in [
        ("gateway", &enroll[..], "/etc/infisical/gateways: "),
        ("relay", &relay, "/etc/infisical/relays: "),
        ("platform", &state, "state directory /etc/platform cannot"),
    ] {
        let script = "mount -t tmpfs -o ro none /etc && exec \"$@\"";
        let program = infisical(dir.path());
        let mut command = clean("unshare", dir.path());
        command.args(["--map-root-user", "--mount", "sh", "-c", script, "sh"]);
        command.arg(program.get_program()).args([role, "start"]);
        command.args(words);
        let process = Process::spawn(role, command);
        let code = process.exit_code().await;
        let output = process.output();
        assert_eq!(code, UNAVAILABLE, "{role}: {output}");
        assert!(output.contains(directory), "{role}: {output}");
        assert!(output.contains("read-only file system"), "{role}: {output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn misspelled_variables_are_warnings_of_every_command() {
    let lab = Lab::new().await;
    let url = lab.platform.url();
    let connect = ["connect", "edge", "--to", "db.test:5432"];
    let state = lab.dir().join("state").display().to_string();
    let at = loopback::address();
    let (ssh, tls) = (format!("{at}:2222"), format!("{at}:8443"));
    let relay = [
        "relay",
        "start",
        "--name=edge",
        "--host=relay.test",
        "--ssh-listen",
        &ssh,
        "--tls-listen",
        &tls,
    ];
    let start = [
        "platform",
        "start",
        "--listen=127.0.0.1:0",
        "--state-dir",
        &state,
    ];
    for words in [
        &connect[..],
        &["platform", "gateway", "list"],
        &["platform", "relay", "list"],
        &["gateway", "start", "edge"],
        &relay,
        &start,
    ] {
        let mut command = infisical(lab.dir());
        command.args(words);
        command.env("INFISICAL_DOMAIN", &url);
        command.env("INFISICAL_TOKEN", TOKEN);
        command.env("INFISICAL_TOKE", "hunter2");
        let process = Process::spawn(&words.join(" "), command);
        let line = process.wait_for_line("did you mean INFISICAL_TOKEN?").await;
        assert!(line.contains("variable=\"INFISICAL_TOKE\""), "{line}");
        assert!(!process.output().contains("hunter2"), "{line}");
    }
}

//! `systemd install` as far as it goes without systemd: what a dry run shows and refuses, and the
//! check before a reload. `tests/system` has the rest.

use crate::support::process::{Process, infisical};
use crate::support::write_private;

/// A name that no unit has.
const NAME: &str = "edge-of-a-test";

/// Runs the program with `variables`; gives its exit code and everything that it printed.
async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = infisical(dir.path());
    command.args(arguments).envs(variables.iter().copied());
    let process = Process::spawn(&arguments.join(" "), command);
    (process.exit_code().await, process.output())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installed_relay_keeps_its_limits() {
    let limits = [
        ("INFISICAL_RELAY_MAX_HANDSHAKES", "101"),
        ("INFISICAL_RELAY_MAX_CONNECTIONS_PER_SOURCE", "102"),
        ("INFISICAL_RELAY_MAX_GATEWAYS", "103"),
        ("INFISICAL_RELAY_MAX_CLIENTS", "104"),
        ("INFISICAL_RELAY_MAX_CLIENTS_PER_GATEWAY", "104"),
        ("INFISICAL_RELAY_MAX_BUFFER_MIB", "106"),
    ];
    let mut variables = limits.to_vec();
    variables.push(("INFISICAL_TOKEN", "a-token-of-a-test"));
    let install = ["relay", "systemd", "install", NAME, "--dry-run"];
    let arguments = [&install[..], &["--host", "relay.example.com"]].concat();
    let (code, output) = run(&arguments, &variables).await;
    assert_eq!(code, 0, "{output}");
    for (key, value) in limits {
        let line = format!("{key}={value}");
        assert!(output.lines().any(|said| said == line), "{line}: {output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn installed_relays_memory_fits_its_limits() {
    let install = ["relay", "systemd", "install", NAME, "--dry-run"];
    let install = [&install[..], &["--host", "relay.example.com"]].concat();
    let token = ("INFISICAL_TOKEN", "a-token-of-a-test");
    let (code, usual) = run(&install, &[token]).await;
    assert_eq!(code, 0, "{usual}");
    assert!(!usual.contains("memory.conf"), "{usual}");
    let more = [token, ("INFISICAL_RELAY_MAX_BUFFER_MIB", "16384")];
    let (code, output) = run(&install, &more).await;
    assert_eq!(code, 0, "{output}");
    for part in ["memory.conf", "MemoryHigh=29184M", "MemoryMax=38912M"] {
        assert!(output.contains(part), "{part}: {output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn system_names_are_refused_at_once() {
    for role in ["gateway", "relay"] {
        for name in ["ssh", "dbus", "systemd-networkd", "infisical-gateway"] {
            let install = [role, "systemd", "install", name, "--dry-run"];
            let arguments = [&install[..], &["--host", "relay.example.com"]].concat();
            let arguments = match role {
                "relay" => &arguments[..],
                _ => &install[..],
            };
            let token = [("INFISICAL_TOKEN", "a-token-of-a-test")];
            let (code, output) = run(arguments, &token).await;
            assert_eq!(code, 78, "{role} {name}: {output}");
            let reason = "it is the name of a service of the system";
            assert!(output.contains(reason), "{role} {name}: {output}");
            assert!(output.contains(&format!("--name {name}")), "{output}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn name_with_spaces_is_escaped() {
    let install = ["gateway", "systemd", "install", "My Gateway", "--dry-run"];
    let token = [("INFISICAL_TOKEN", "a-token-of-a-test")];
    let (code, output) = run(&install, &token).await;
    assert_eq!(code, 0, "{output}");
    for line in [
        "# /etc/infisical/gateways/My@x20Gateway.conf (mode 0600)",
        "+ /etc/systemd/system/My\\x20Gateway.service",
        "Description=Infisical gateway My Gateway",
    ] {
        assert!(output.lines().any(|said| said == line), "{line}: {output}");
    }
    assert!(output.contains("INFISICAL_GATEWAY_NAME="), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_after_change_names_the_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("gateway.conf");
    let unit = dir.path().join("edge.service");
    std::fs::create_dir(&unit).expect("a directory");
    let copy = unit.join("gateway.conf");
    write_private(&file, "INFISICAL_TOKEN=hunter2\n");
    std::fs::copy(&file, &copy).expect("a copy");
    for role in ["gateway", "relay"] {
        write_private(&file, "INFISICAL_TOKEN=hunter2\n");
        let words = [role, "systemd", "check-reload"];
        let paths = [&file, &copy].map(|path| path.to_str().expect("text"));
        let arguments = [&words[..], &paths].concat();
        let (code, output) = run(&arguments, &[]).await;
        assert_eq!((code, output.as_str()), (0, ""), "{role}");
        write_private(&file, "INFISICAL_TOKEN=hunter3\n");
        let (code, output) = run(&arguments, &[]).await;
        assert_eq!(code, 69, "{role}: {output}");
        assert!(
            output.contains("systemctl restart 'edge.service'"),
            "{output}"
        );
        assert!(!output.contains("hunter"), "{output}");
    }
}

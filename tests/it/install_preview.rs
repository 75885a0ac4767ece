//! What a dry run of `systemd install` shows: what would be written, line by line, and what would
//! no longer be.

use std::path::Path;
use std::process::Command;

use crate::support::process::{Process, clean, infisical};

const SECRET: &str = "hunter2";

/// A dry run on a machine whose `/etc` holds `files` and nothing else; gives the exit code and
/// what it printed. `None`, visibly, where this user may not mount anything.
async fn install(files: &[(&str, &str)], arguments: &[&str]) -> Option<(i32, String)> {
    let dir = tempfile::tempdir().expect("a directory");
    for (path, text) in files {
        let path = dir.path().join("etc").join(path);
        let folder = path.parent().expect("a folder");
        std::fs::create_dir_all(folder).expect("a folder");
        crate::support::write_private(&path, text);
    }
    let may = Command::new("unshare")
        .args(["--map-root-user", "--mount", "true"])
        .output();
    if !may.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: this user may not mount anything");
        return None;
    }
    let program = infisical(Path::new("/"));
    let script = "mount -t tmpfs none /etc && cp -R \"$1\"/. /etc && shift && exec \"$@\"";
    let mut command = clean("unshare", dir.path());
    command.args(["--map-root-user", "--mount", "sh", "-c", script, "sh"]);
    command.arg(dir.path().join("etc"));
    command.arg(program.get_program()).args(arguments);
    command.arg("--dry-run");
    command.env("INFISICAL_TOKEN", SECRET);
    let process = Process::spawn("install", command);
    // Warnings are on standard error, between the lines.
    let printed = match process.exit_code().await {
        0 => (0, process.stdout()),
        code => (code, process.output()),
    };
    Some(printed)
}

/// The lines of the configuration that a dry run shows.
fn configuration<'a>(output: &'a str, path: &str) -> Vec<&'a str> {
    let head = format!("# {path} (mode 0600)");
    let lines = output.lines().skip_while(|line| *line != head).skip(1);
    let is_file =
        |line: &str| matches!(line.as_bytes(), [b'+' | b'~' | b'-' | b'=', b' ', b'/', ..]);
    lines.take_while(|line| !is_file(line)).collect()
}

const FOREIGN: &str = "# The proxy of the site.\nHTTPS_PROXY=http://u:hunter2@proxy:3128\nTZ=UTC\n\
                       # INFISICAL_JWT=hunter2\nOTHER=hunter2\n";

#[tokio::test(flavor = "multi_thread")]
async fn existing_configuration_is_shown_by_line() {
    let old = format!(
        "INFISICAL_GATEWAY_NAME=edge\n{FOREIGN}INFISICAL_TOKEN=hunter2-old\n\
         INFISICAL_API_URL=https://old.example\n"
    );
    let words = ["gateway", "systemd", "install", "edge"];
    let arguments = [
        &words[..],
        &["--domain=https://new.example/login/", "-l", "debug"],
    ]
    .concat();
    let files = [("infisical/gateways/edge.conf", old.as_str())];
    let Some((code, output)) = install(&files, &arguments).await else {
        return;
    };
    assert_eq!(code, 0, "{output}");
    assert_eq!(
        configuration(&output, "/etc/infisical/gateways/edge.conf"),
        [
            "INFISICAL_GATEWAY_NAME=edge",
            "# The proxy of the site.",
            "HTTPS_PROXY=<secret>",
            "TZ=UTC",
            "# INFISICAL_JWT=<secret>",
            "OTHER=<secret>",
            "INFISICAL_TOKEN=<secret>",
            "INFISICAL_API_URL=https://new.example/api",
            "INFISICAL_LOG_LEVEL=debug",
            "",
        ]
    );
    assert!(!output.contains(SECRET), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_a_replaced_relay_are_shown() {
    let unit = "[Service]\nEnvironmentFile=/etc/infisical/relays/eu.env.conf\n\
                ExecStart=/bin/bash -c 'infisical relay start 2>&1 | tee \"/var/log/eu.log\"'\n";
    let deployed = format!(
        "INFISICAL_RELAY_NAME=eu\nINFISICAL_RELAY_HOST=relay.example.com\n\
         INFISICAL_RELAY_TYPE=org\nINFISICAL_TOKEN=hunter2\n{FOREIGN}"
    );
    let files = [
        ("systemd/system/eu.service", unit),
        ("infisical/relays/eu.env.conf", deployed.as_str()),
    ];
    let Some((code, output)) = install(&files, &["relay", "systemd", "install", "eu"]).await else {
        return;
    };
    assert_eq!(code, 0, "{output}");
    assert_eq!(
        configuration(&output, "/etc/infisical/relays/eu.conf"),
        [
            "INFISICAL_RELAY_NAME=eu",
            "INFISICAL_RELAY_HOST=relay.example.com",
            "INFISICAL_RELAY_TYPE=org",
            "INFISICAL_TOKEN=<secret>",
            "HTTPS_PROXY=<secret>",
            "TZ=UTC",
            "OTHER=<secret>",
            "",
        ]
    );
    // Where the log was is not lost without a word.
    for part in [
        "logs to /var/log/eu.log",
        "--log-file /var/log/infisical/relay.log",
    ] {
        assert!(output.contains(part), "{part}: {output}");
    }
    assert!(!output.contains(SECRET), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_enrollment_writes_is_shown() {
    for (role, more) in [
        ("gateway", &[][..]),
        ("relay", &["--host=relay.example.com"]),
    ] {
        let words = [role, "systemd", "install", "eu", "--enroll-method=token"];
        let arguments = [&words[..], more].concat();
        let Some((code, output)) = install(&[("issue", "")], &arguments).await else {
            return;
        };
        assert_eq!(code, 0, "{output}");
        let prefix = format!("INFISICAL_{}", role.to_uppercase());
        let mut expected = vec![
            format!("{prefix}_DOMAIN=https://app.infisical.com/api"),
            format!("{prefix}_ACCESS_TOKEN=<secret>"),
            format!("{prefix}_ENROLLMENT_TOKEN=<secret>"),
            format!("{prefix}_NAME=eu"),
        ];
        if role == "relay" {
            expected.push(format!("{prefix}_HOST=relay.example.com"));
        }
        expected.push(String::new());
        let path = format!("/etc/infisical/{role}s/eu.conf");
        assert_eq!(configuration(&output, &path), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_of_an_existing_configuration_are_judged() {
    let opened = "[Service]\nProtectHome=tmpfs\nBindReadOnlyPaths=/home/u/ca.pem\n";
    let relative = "a service has no directory that a relative path could begin in";
    for (path, drop_in, code, part) in [
        ("ca.pem", "", 78, relative),
        ("/home/u/ca.pem", "", 78, "its unit hides /home;"),
        (
            "/home/u/ca.pem",
            opened,
            0,
            "INFISICAL_CA_FILE=/home/u/ca.pem",
        ),
        ("/home/u/other.pem", opened, 78, "its unit hides /home;"),
    ] {
        let text = format!("INFISICAL_GATEWAY_NAME=edge\nINFISICAL_CA_FILE={path}\n");
        let files = [
            ("infisical/gateways/edge.conf", text.as_str()),
            ("systemd/system/edge.service.d/own.conf", drop_in),
        ];
        let Some((found, output)) =
            install(&files, &["gateway", "systemd", "install", "edge"]).await
        else {
            return;
        };
        assert_eq!(found, code, "{path}: {output}");
        assert!(output.contains(part), "{part}: {output}");
        let line = "INFISICAL_CA_FILE in /etc/infisical/gateways/edge.conf line 2: ";
        assert_eq!(output.contains(line), code == 78, "{output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_missing_from_service_are_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = infisical(dir.path());
    command.args(["relay", "systemd", "install", "eu-of-a-test", "--dry-run"]);
    command.args(["--host=relay.example.com"]);
    command.env("INFISICAL_TOKEN", SECRET);
    command.env("https_proxy", "http://u:hunter2@proxy:3128");
    command.env("SSL_CERT_DIR", "/etc/ssl/certs");
    command.env("TZ", "UTC");
    let process = Process::spawn("install", command);
    let code = process.exit_code().await;
    let output = process.output();
    assert_eq!(code, 0, "{output}");
    for name in ["https_proxy", "SSL_CERT_DIR"] {
        let said = format!(
            "{name} is set for this command only; to give it to the service, add a line {name}=… \
             to /etc/infisical/relays/eu-of-a-test.conf"
        );
        assert!(output.lines().any(|line| line == said), "{said}: {output}");
    }
    assert!(!output.contains("TZ is set"), "{output}");
    assert!(!output.contains(SECRET), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn program_has_one_path() {
    for words in [
        &["gateway", "systemd", "install"][..],
        &[
            "relay",
            "systemd",
            "install",
            "--name=eu",
            "--host=h.example",
        ],
        &["platform", "systemd", "install"],
    ] {
        let Some((code, output)) = install(&[("issue", "")], words).await else {
            return;
        };
        assert_eq!(code, 0, "{output}");
        let mut starts = output
            .lines()
            .filter(|line| line.starts_with("ExecStart=/"));
        let program = starts
            .next_back()
            .and_then(|line| line.strip_prefix("ExecStart="));
        let program = program.and_then(|line| line.split(' ').next());
        let program = program.expect("a program");
        // From a builder's directory it cannot be installed.
        if let Some(advice) = output.lines().find(|line| line.contains("from here: ")) {
            let named = [format!(" {program} …"), format!(" {program}")];
            assert!(named.iter().any(|end| advice.ends_with(end)), "{output}");
        }
    }
}

//! `systemd install`: files that settings name are those that were meant, and those that the
//! service will find.

use std::path::Path;

use crate::support::process::{Process, infisical};

/// A name that no unit has.
const NAME: &str = "edge-of-a-test";

/// A setting that names a file: its flag, its variable, and the arguments and variables that it
/// belongs to.
struct Setting {
    flag: &'static str,
    variable: &'static str,
    with: &'static [&'static str],
    token: bool,
}

const IDENTITY: &str = "--machine-identity-id=i";
const SETTINGS: [Setting; 4] = [
    Setting {
        flag: "--ca-file",
        variable: "INFISICAL_CA_FILE",
        with: &[],
        token: true,
    },
    Setting {
        flag: "--jwt-file",
        variable: "INFISICAL_JWT_FILE",
        with: &["--auth-method=jwt-auth", IDENTITY],
        token: false,
    },
    Setting {
        flag: "--service-account-key-file-path",
        variable: "INFISICAL_GCP_IAM_SERVICE_ACCOUNT_KEY_FILE_PATH",
        with: &["--auth-method=gcp-iam", IDENTITY],
        token: false,
    },
    Setting {
        flag: "--service-account-token-path",
        variable: "INFISICAL_KUBERNETES_SERVICE_ACCOUNT_TOKEN_PATH",
        with: &["--auth-method=kubernetes", IDENTITY],
        token: false,
    },
];

/// Runs a dry run of the installation with `setting` as `path`, typed in `directory`, by flag or by
/// variable; gives its exit code and everything that it printed.
async fn install(
    setting: &Setting,
    role: &str,
    (directory, path): (&str, &str),
    by_flag: bool,
    more: &[&str],
) -> (i32, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = infisical(dir.path());
    command.current_dir(directory);
    command.args([role, "systemd", "install", NAME, "--dry-run"]);
    if role == "relay" {
        command.args(["--host", "relay.example.com"]);
    }
    command.args(setting.with).args(more);
    if setting.token {
        command.env("INFISICAL_TOKEN", "a-token-of-a-test");
    }
    if by_flag {
        command.args([setting.flag, path]);
    } else {
        command.env(setting.variable, path);
    }
    let process = Process::spawn(setting.flag, command);
    (process.exit_code().await, process.output())
}

#[tokio::test(flavor = "multi_thread")]
async fn relative_paths_are_kept_as_whole_ones() {
    for setting in &SETTINGS {
        for role in ["gateway", "relay"] {
            for (path, kept) in [
                ("a-test/file", "/usr/share/a-test/file"),
                ("./../a-test", "/usr/a-test"),
                ("/etc/a-test", "/etc/a-test"),
            ] {
                for by_flag in [true, false] {
                    let place = ("/usr/share", path);
                    let (code, output) = install(setting, role, place, by_flag, &[]).await;
                    assert_eq!(code, 0, "{role} {path}: {output}");
                    let line = format!("{}={kept}", setting.variable);
                    assert!(output.lines().any(|said| said == line), "{line}: {output}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_file_begins_in_the_directory_too() {
    let setting = Setting {
        flag: "--log-file",
        variable: "INFISICAL_LOG_FILE",
        with: &[],
        token: true,
    };
    for by_flag in [true, false] {
        let place = ("/var/log", "a-test/gateway.log");
        let (code, output) = install(&setting, "gateway", place, by_flag, &[]).await;
        assert_eq!(code, 0, "{output}");
        let line = "INFISICAL_LOG_FILE=/var/log/a-test/gateway.log";
        assert!(output.lines().any(|said| said == line), "{output}");
        let place = ("/usr/share", "gateway.log");
        let (code, output) = install(&setting, "gateway", place, by_flag, &[]).await;
        assert_eq!(code, 78, "{output}");
        assert!(output.contains("not /usr/share/gateway.log"), "{output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_file_opens_its_directory_too() {
    let setting = Setting {
        flag: "--audit-file",
        variable: "INFISICAL_AUDIT_FILE",
        with: &[],
        token: true,
    };
    let place = ("/var/log", "a-test/audit.log");
    let (code, output) = install(&setting, "gateway", place, true, &[]).await;
    assert_eq!(code, 0, "{output}");
    assert!(output.contains("LogsDirectory=a-test"), "{output}");
    let place = ("/usr/share", "audit.log");
    let (code, output) = install(&setting, "gateway", place, true, &[]).await;
    assert_eq!(code, 78, "{output}");
    assert!(output.contains("not /usr/share/audit.log"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_hidden_from_service_are_refused() {
    for setting in &SETTINGS {
        for (path, folder) in [
            ("/home/u/a-test", "/home"),
            ("/root/a-test", "/root"),
            ("/tmp/a-test", "/tmp"),
            ("/var/tmp/a-test", "/var/tmp"),
            ("/run/user/0/a-test", "/run/user"),
            ("/run/secrets/a-test", "/run"),
            ("/opt/a-test", "/opt"),
        ] {
            for by_flag in [true, false] {
                let place = ("/", path);
                let (code, output) = install(setting, "gateway", place, by_flag, &[]).await;
                assert_eq!(code, 78, "{path}: {output}");
                let given = if by_flag {
                    setting.flag
                } else {
                    setting.variable
                };
                for part in [
                    format!(
                        "{given}: the service does not see {path}, because its unit hides {folder};"
                    ),
                    format!("install -m 0600 {path} /etc/infisical/a-test"),
                ] {
                    assert!(output.contains(&part), "{part}: {output}");
                }
            }
        }
    }
    // The directory in which a command was typed is hidden as well.
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path().to_str().expect("text");
    let (code, output) = install(&SETTINGS[0], "relay", (dir, "ca.pem"), true, &[]).await;
    let is_shown = !Path::new(dir).starts_with("/tmp") && code == 0;
    let part = format!("the service does not see {dir}/ca.pem");
    assert!(is_shown || output.contains(&part), "{output}");
    // A user of its own is kept out of the configuration's directory.
    let place = ("/", "/home/u/a-test");
    let (code, output) = install(&SETTINGS[0], "gateway", place, true, &["--user"]).await;
    assert_eq!(code, 78, "{output}");
    let advice = "a directory below /etc that the user of the service can read";
    assert!(output.contains(advice), "{output}");
}

/// A pod's identity is of no use to a service of systemd (protocol-addendum.md §1).
#[tokio::test(flavor = "multi_thread")]
async fn identity_of_a_pod_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    for (arguments, code, part) in [
        (
            &["--enroll-method=kubernetes", "--gateway-id=g"][..],
            78,
            "--enroll-method=kubernetes is for a gateway in a pod",
        ),
        (
            &[
                "--enroll-method=kubernetes",
                "--gateway-id=g",
                "--service-account-token-path=/etc/a-test",
            ],
            78,
            "run 'infisical gateway start' in the pod",
        ),
        (
            &["--auth-method=kubernetes", IDENTITY],
            78,
            "give the file of the token with --service-account-token-path",
        ),
        (
            &["--enroll-method=gcp", "--gateway-id=g"],
            0,
            "INFISICAL_GATEWAY_ENROLL_METHOD=gcp",
        ),
        (
            &["--enroll-method=aws", "--gateway-id=g"],
            0,
            "INFISICAL_GATEWAY_ID=g",
        ),
    ] {
        let mut command = infisical(dir.path());
        command.args(["gateway", "systemd", "install", NAME, "--dry-run"]);
        command.args(arguments);
        let process = Process::spawn("install", command);
        let found = process.exit_code().await;
        let output = process.output();
        assert_eq!(found, code, "{arguments:?}: {output}");
        assert!(output.contains(part), "{part}: {output}");
    }
}

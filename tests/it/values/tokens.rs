//! Each bad token from each source, and each good one.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{MARK, check, run};
use crate::support::lab::{GATEWAY, Lab, REGISTER_GATEWAY, TOKEN};
use crate::support::process::{Process, infisical};
use crate::support::write_private;

/// Where a token comes from.
#[derive(Debug, Clone, Copy)]
enum Source {
    Flag,
    Variable,
    Lines,
    Toml,
    TokenFile,
    StandardInput,
    Credential,
}

const SOURCES: [Source; 7] = [
    Source::Flag,
    Source::Variable,
    Source::Lines,
    Source::Toml,
    Source::TokenFile,
    Source::StandardInput,
    Source::Credential,
];

impl Source {
    /// Gives `token` to `command`: what is written to standard input, and the name of the source in
    /// messages. `None` for what the source cannot hold.
    fn give(self, token: &str, command: &mut Command, dir: &Path) -> Option<(Vec<u8>, String)> {
        let file = |name: &str, text: &str| -> PathBuf {
            let path = dir.join(name);
            write_private(&path, text);
            path
        };
        let is_one_line = !token.contains(['\n', '\r', '\'']);
        let mut input = Vec::new();
        let name = match self {
            Self::Flag => {
                command.args(["--token", token]);
                "--token: ".to_owned()
            }
            Self::Variable => {
                command.env("INFISICAL_TOKEN", token);
                "environment variable INFISICAL_TOKEN: ".to_owned()
            }
            Self::Lines if !is_one_line => return None,
            Self::Lines => {
                let path = file(
                    "lines.conf",
                    &format!("# mine\nINFISICAL_TOKEN='{token}'\n"),
                );
                command.arg("--config").arg(&path);
                path.display().to_string()
            }
            Self::Toml => {
                // A string of JSON is one of TOML.
                let text = serde_json::to_string(token).expect("a string");
                let path = file("toml.conf", &format!("# mine\ntoken = {text}\n"));
                command.arg("--config").arg(&path);
                path.display().to_string()
            }
            Self::TokenFile => {
                let path = file("token", token);
                command.arg("--token-file").arg(&path);
                format!("--token-file: {}", path.display())
            }
            Self::StandardInput => {
                command.args(["--token", "-"]);
                input = token.as_bytes().to_vec();
                "--token -: standard input".to_owned()
            }
            Self::Credential if !is_one_line => return None,
            Self::Credential => {
                let path = file("credential.conf", &format!("INFISICAL_TOKEN='{token}'\n"));
                command.env("CREDENTIALS_DIRECTORY", dir);
                command.arg("--config").arg(&path);
                path.display().to_string()
            }
        };
        Some((input, name))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_token_is_refused_with_its_source() {
    let dir = tempfile::tempdir().expect("a directory");
    for (token, part) in [
        ("hunter2 hunter2", "white space"),
        ("hunter2\nhunter2", "line"),
        ("hunter2\u{7}", "control character"),
        ("hunter2\u{200b}x", "control character"),
        ("hunter2\u{fc}", "not ASCII"),
        ("Bearer hunter2", "\"Bearer\""),
        ("bearer hunter2", "\"Bearer\""),
        ("\"hunter2\"", "in quotes"),
        ("'hunter2'", "in quotes"),
        ("\u{201c}hunter2\u{201d}", "in quotes"),
        ("${hunter2}", "was not replaced"),
        ("$hunter2", "was not replaced"),
        ("{{ .Values.hunter2 }}", "was not replaced"),
        ("<hunter2>", "placeholder"),
        ("{\"accessToken\":\"hunter2\"}", "JSON"),
        ("INFISICAL_TOKEN=hunter2", "KEY=value"),
        ("hunter2 # mine", "comment"),
    ] {
        let mut sources = 0;
        for source in SOURCES {
            let mut command = check(dir.path());
            let Some((input, name)) = source.give(token, &mut command, dir.path()) else {
                continue;
            };
            let (code, output) = run(command, &input).await;
            assert_eq!(code, 78, "{token:?} {source:?}: {output}");
            let is_named = output.contains(&name);
            assert!(is_named, "{token:?} {source:?}: not named: {output}");
            // A file says of a control character on which line it is.
            let is_explained = output.contains(part) || output.contains("control character");
            assert!(is_explained, "{token:?} {source:?}: {output}");
            assert!(!output.contains(MARK), "{token:?} {source:?}: {output}");
            sources += 1;
        }
        assert!(sources >= 5, "{token:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn surroundings_of_a_token_do_no_harm() {
    let dir = tempfile::tempdir().expect("a directory");
    for token in [
        "hunter2",
        "hunter2\n",
        "hunter2\r\n",
        " \thunter2 \n\n",
        "\u{feff}hunter2\n",
    ] {
        for source in SOURCES {
            let mut command = check(dir.path());
            let Some((input, _)) = source.give(token, &mut command, dir.path()) else {
                continue;
            };
            let (code, output) = run(command, &input).await;
            assert_eq!(code, 0, "{token:?} {source:?}: {output}");
            assert!(output.contains("<secret>"), "{output}");
            assert!(!output.contains(MARK), "{token:?} {source:?}: {output}");
        }
    }
}

/// Kubernetes secrets often end with a line break: it was sent in a header, which cannot hold it,
/// and the request was retried without end.
#[tokio::test(flavor = "multi_thread")]
async fn token_is_sent_without_its_line_break() {
    let lab = Lab::new().await;
    let mut command = infisical(lab.dir());
    command.args(["gateway", "start", GATEWAY, "--domain", &lab.platform.url()]);
    command.env("INFISICAL_TOKEN", format!("{TOKEN}\n"));
    command.args(["--target-relay-name", "lab-relay"]);
    let gateway = Process::spawn("gateway", command);
    let request = lab.platform.asked(REGISTER_GATEWAY, 1).await;
    assert_eq!(request.bearer, TOKEN);
    gateway.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_token_ends_start_without_request() {
    let lab = Lab::new().await;
    for words in [
        &["gateway", "start", "edge-1"][..],
        &[
            "relay",
            "start",
            "--name",
            "eu-1",
            "--host",
            "relay.example",
        ],
    ] {
        let mut command = infisical(lab.dir());
        command.args(words).args(["--domain", &lab.platform.url()]);
        command.env("INFISICAL_TOKEN", "hunter2\nhunter2");
        let (code, output) = run(command, b"").await;
        assert_eq!(code, 78, "{output}");
        assert!(
            output.contains("environment variable INFISICAL_TOKEN"),
            "{output}"
        );
        assert!(!output.contains(MARK), "{output}");
    }
    assert!(lab.platform.requests("").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn client_commands_name_a_bad_tokens_source() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("token");
    write_private(&file, "Bearer hunter2\n");
    for words in [
        &["connect", "edge-1", "--to", "db:1", "--stdio"][..],
        &["platform", "gateway", "list"],
    ] {
        let mut by_variable = infisical(dir.path());
        by_variable
            .args(words)
            .env("INFISICAL_TOKEN", "hunter2 hunter2");
        let mut by_file = infisical(dir.path());
        by_file.args(words).arg("--token-file").arg(&file);
        for (command, name) in [
            (
                by_variable,
                "environment variable INFISICAL_TOKEN".to_owned(),
            ),
            (by_file, file.display().to_string()),
        ] {
            let (code, output) = run(command, b"").await;
            assert_eq!(code, 78, "{words:?}: {output}");
            assert!(output.contains(&name), "{words:?}: {output}");
            assert!(!output.contains(MARK), "{words:?}: {output}");
        }
    }
}

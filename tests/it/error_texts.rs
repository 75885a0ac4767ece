//! What the program says of the most frequent mistakes, compared with `error_texts.txt`.
//! `UPDATE_GENERATED=1 cargo test --test it error_texts` writes it.

use std::path::Path;

use crate::support::process::{Process, infisical};
use crate::support::write_private;

/// Where the expected texts are.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/error_texts.txt");

/// Command lines that cannot work.
const CASES: &[&[&str]] = &[
    // Usage.
    &["frobnicate"],
    &["secrets"],
    &["gatewy", "start"],
    &["gateway", "start", "edge-1", "--tokn-file", "x"],
    &["gateway", "start", "-token-file", "x"],
    &["gateway", "start", "edge-1", "--auth-method", "magic"],
    &[
        "gateway",
        "start",
        "edge-1",
        "--token-file",
        "x",
        "--auth-method",
        "universal-auth",
    ],
    &["relay", "start", "--type", "mine"],
    &["connect", "edge-1"],
    &["connect", "edge-1", "--to", "db.internal"],
    &["platform", "enrollment-token", "create"],
    &["platform", "identity", "create", "x", "--role", "root"],
    &["platform", "identity", "remove", "edge-1"],
    &["completions", "tcsh"],
    // Configuration.
    &["gateway", "start", "edge-1"],
    &["gateway", "start", "edge-1", "--token-file", "HOME/absent"],
    &["gateway", "start", "edge-1", "--token-file", "HOME/empty"],
    &["gateway", "start", "edge-1", "--config", "HOME/wrong.conf"],
    &["relay", "start"],
    &[
        "relay",
        "start",
        "--name",
        "eu-1",
        "--host",
        "https://relay.example.com",
    ],
    &[
        "connect",
        "edge-1",
        "--to",
        "db:1",
        "--domain",
        "ftp://example.com",
    ],
    &[
        "platform",
        "gateway",
        "list",
        "--domain",
        "https://platform.example",
    ],
    &[
        "platform",
        "start",
        "--listen",
        "0.0.0.0:0",
        "--state-dir",
        "HOME/state",
    ],
    // Something is not there.
    &[
        "platform",
        "gateway",
        "list",
        "--token-file",
        "HOME/token",
        "--domain",
        "http://127.0.0.1:1",
    ],
    &["gateway", "wait-online", "edge-1", "--timeout", "0"],
    &["man", "HOME/absent"],
];

async fn text(home: &Path, words: &[&str]) -> String {
    let directory = home.to_str().expect("text");
    let mut command = infisical(home);
    command.args(words.iter().map(|word| word.replace("HOME", directory)));
    let process = Process::spawn("mistaken", command);
    let code = process.exit_code().await;
    let output = process.output().replace(directory, "HOME");
    // Lines before the error have a time, and depend on the user.
    let lines = output.lines().filter(|line| !line.contains(" INFO "));
    let lines: String = lines.map(|line| format!("{line}\n")).collect();
    format!("$ infisical {}\n{lines}exit code {code}\n", words.join(" "))
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_explained_as_written_down() {
    let home = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| write_private(&home.path().join(name), text);
    file("token", "a-token-of-a-test");
    file("empty", "\n");
    file("wrong.conf", "INFISICAL_TOKN=x\nINFISICAL_LOG_LEVEL=loud\n");
    let mut texts = Vec::new();
    for words in CASES {
        texts.push(text(home.path(), words).await);
    }
    let found = texts.join("\n");
    assert!(!found.contains("a-token-of-a-test"), "{found}");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(FILE, found).expect("written");
        return;
    }
    let expected = std::fs::read_to_string(FILE).unwrap_or_default();
    assert_eq!(found, expected, "see the module");
}

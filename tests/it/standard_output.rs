//! Standard output that is a pipe without a reader, or a full disk: as other programs of Unix treat
//! it.

use std::fs::OpenOptions;
use std::process::{Output, Stdio};

use crate::support::admin::Platform;
use crate::support::process::infisical;
use crate::support::{loopback, soon};

/// Commands that print, each a different way to standard output.
fn commands(platform: &Platform) -> Vec<Vec<String>> {
    let token = platform.token_file().display().to_string();
    let list = [
        "platform",
        "gateway",
        "list",
        "--domain",
        &platform.url,
        "--token-file",
        &token,
    ];
    let check = [
        "gateway",
        "check",
        "edge",
        "--domain",
        &platform.url,
        "--token",
        "0123456789",
    ];
    let install = [
        "gateway",
        "systemd",
        "install",
        "edge",
        "--dry-run",
        "--user",
        "--token",
        "0123456789",
    ];
    [
        &["--help"][..],
        &["--version"],
        &["gateway", "start", "--help"],
        &check,
        &list,
        &install,
    ]
    .map(|words| words.iter().map(|&word| word.to_owned()).collect())
    .to_vec()
}

async fn run(dir: &std::path::Path, words: &[String], stdout: Stdio) -> Output {
    let mut command = tokio::process::Command::from(infisical(dir));
    command.args(words).stdin(Stdio::null()).stdout(stdout);
    command.stderr(Stdio::piped()).kill_on_drop(true);
    let child = command.spawn().expect("started");
    let output = soon("the end", child.wait_with_output());
    output.await.expect("an output")
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_pipe_ends_silently_with_141() {
    let dir = tempfile::tempdir().expect("a directory");
    let platform = Platform::start(dir.path(), loopback::address(), 0, &[]).await;
    for words in commands(&platform) {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = run(dir.path(), &words, Stdio::from(writer)).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(141), "{words:?}: {stderr}");
        assert!(!stderr.contains("standard output"), "{words:?}: {stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disk_is_an_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let platform = Platform::start(dir.path(), loopback::address(), 0, &[]).await;
    for words in commands(&platform) {
        let full = OpenOptions::new().write(true).open("/dev/full");
        let output = run(dir.path(), &words, Stdio::from(full.expect("a device"))).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(69), "{words:?}: {stderr}");
        let words_of_it = "cannot write to standard output: no space left on device";
        assert!(stderr.contains(words_of_it), "{words:?}: {stderr}");
    }
}

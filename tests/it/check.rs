//! `check`: what would make a start fail is said without a start.

use std::path::Path;

use crate::support::lab::Lab;
use crate::support::process::{Process, infisical};
use crate::support::write_private;

/// `gateway check edge` with `words`; its exit code and its output.
async fn check(lab: &Lab, words: &[&str]) -> (i32, String) {
    let mut command = infisical(lab.dir());
    command.args(["gateway", "check", "edge"]).args(words);
    let process = Process::spawn("check", command);
    let code = process.exit_code().await;
    (code, process.output())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn check_reads_the_file_of_a_login() {
    let lab = Lab::new().await;
    let (broken, jwt) = (lab.dir().join("broken"), lab.dir().join("jwt"));
    write_private(&broken, "two words\n");
    write_private(&jwt, "a.b.c\n");
    let identity = ["--machine-identity-id", "i", "--auth-method"];
    let key_flag = "--service-account-key-file-path";
    for (method, flag, path, code, expected) in [
        (
            "jwt-auth",
            "--jwt-file",
            "/nonexistent",
            78,
            "--jwt-file: cannot read the JSON web token from /nonexistent",
        ),
        (
            "jwt-auth",
            "--jwt-file",
            text(&broken),
            78,
            "does not hold the JSON web token",
        ),
        ("jwt-auth", "--jwt-file", text(&jwt), 0, "Nothing is wrong"),
        (
            "gcp-iam",
            key_flag,
            "/nonexistent",
            78,
            "cannot read the key of a GCP service account",
        ),
        (
            "gcp-iam",
            key_flag,
            text(&jwt),
            78,
            "it is not JSON with client_email",
        ),
        // A pod has it, and this machine is none.
        (
            "kubernetes",
            "--service-account-token-path",
            "/nonexistent",
            0,
            "Missing, without which a start fails:\n  - --service-account-token-path: cannot read",
        ),
        (
            "kubernetes",
            "--service-account-token-path",
            text(&broken),
            78,
            "does not hold the pod's service account token",
        ),
    ] {
        let words = [&identity[..], &[method, flag, path]].concat();
        let (found, output) = check(&lab, &words).await;
        assert_eq!(found, code, "{words:?}: {output}");
        assert!(output.contains(expected), "{words:?}: {output}");
        let is_right = output.contains("Nothing is wrong");
        assert_eq!(is_right, expected == "Nothing is wrong", "{words:?}");
    }
}

/// A token that was given and cannot be used is one problem, not two.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_file_is_the_only_problem() {
    let lab = Lab::new().await;
    let broken = lab.dir().join("broken");
    write_private(&broken, "two words\n");
    for enrolls in [&[][..], &["--enroll-method", "token"]] {
        let words = [&["--token-file", text(&broken)][..], enrolls].concat();
        let (code, output) = check(&lab, &words).await;
        assert_eq!(code, 78, "{output}");
        assert!(
            output.contains("wrong configuration: --token-file"),
            "{output}"
        );
        assert!(!output.contains("no credential"), "{output}");
        assert!(!output.contains("one-time"), "{output}");
    }
}

//! `check`: what would make a start fail is said without a start.

use std::path::Path;

use crate::support::admin::Platform;
use crate::support::lab::Lab;
use crate::support::process::{Process, infisical};
use crate::support::{loopback, write_private};

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
async fn wrong_token_file_is_the_only_problem() {
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

#[tokio::test(flavor = "multi_thread")]
async fn usage_mistakes_have_one_form_and_hint() {
    let lab = Lab::new().await;
    for (words, expected) in [
        (
            &["gateway", "start", "-domain=https://a"][..],
            "infisical: use --domain (two dashes)",
        ),
        (&["relay", "install"], "infisical relay systemd install"),
        (&["gateway", "stat"], "infisical: unrecognized subcommand"),
        (
            &["relay", "start", "--nam", "x"],
            "infisical: unexpected argument",
        ),
    ] {
        let mut command = infisical(lab.dir());
        command.args(words);
        let process = Process::spawn("usage", command);
        assert_eq!(process.exit_code().await, 64, "{words:?}");
        let output = process.output();
        assert!(output.contains(expected), "{words:?}: {output}");
        assert!(!output.contains("error:"), "{words:?}: {output}");
        assert!(!output.contains("'install'"), "{words:?}: {output}");
    }
}

/// The name is an argument of both roles.
#[tokio::test(flavor = "multi_thread")]
async fn relay_is_named_like_a_gateway() {
    let lab = Lab::new().await;
    let mut command = infisical(lab.dir());
    command.args(["relay", "check", "rr", "--host", "192.0.2.1"]);
    command.env("INFISICAL_TOKEN", "t");
    let process = Process::spawn("check", command);
    assert_eq!(process.exit_code().await, 0, "{}", process.output());
    assert!(process.stdout().contains("rr"), "{}", process.stdout());
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_token_is_named_by_source() {
    let dir = tempfile::tempdir().expect("a directory");
    let platform = Platform::start(dir.path(), loopback::address(), 0, &[]).await;
    for words in [
        &["platform", "gateway", "list"][..],
        &["connect", "g", "--to", "h:1", "--stdio"],
    ] {
        let mut command = infisical(dir.path());
        command.args(words).env("INFISICAL_TOKEN", "wrong");
        command.args(["--domain", &platform.url]);
        let process = Process::spawn("refused", command);
        assert_eq!(process.exit_code().await, 77, "{words:?}");
        let output = process.output();
        let expected = "the token from environment variable INFISICAL_TOKEN was refused";
        assert!(output.contains(expected), "{words:?}: {output}");
    }
}

/// With `fsGroup` the kubelet gives each file of a volume to the pod's group, at every start.
#[tokio::test(flavor = "multi_thread")]
async fn pods_volume_group_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt as _;

    let lab = Lab::new().await;
    let file = lab.dir().join("edge.conf");
    write_private(&file, "INFISICAL_TOKEN=t\n");
    let of_a_pod = [
        ("KUBERNETES_SERVICE_HOST", "192.0.2.1"),
        ("KUBERNETES_SERVICE_PORT_HTTPS", "443"),
    ];
    for (mode, environment, code) in [
        (0o660, &of_a_pod[..], 0),
        (0o660, &[], 78),
        (0o604, &of_a_pod, 78),
    ] {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&file, permissions).expect("a mode");
        let mut command = infisical(lab.dir());
        command.args(["gateway", "check", "edge", "--config", text(&file)]);
        command.envs(environment.iter().copied());
        let process = Process::spawn("check", command);
        let found = process.exit_code().await;
        assert_eq!(found, code, "{mode:o}: {}", process.output());
    }
}

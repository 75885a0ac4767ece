//! Bad values of the other settings, and what `check` shows of a domain.

use std::os::unix::ffi::OsStringExt as _;

use super::{MARK, check, run};
use crate::support::process::infisical;

/// Words after `infisical`, variables, and a part of the message.
type Case = (
    &'static [&'static str],
    &'static [(&'static str, &'static str)],
    &'static str,
);

const GATEWAY: &[&str] = &["gateway", "check", "edge-1", "--token", "t"];
const RELAY: &[&str] = &["relay", "check", "--name", "eu-1", "--token", "t"];

#[tokio::test(flavor = "multi_thread")]
async fn bad_setting_is_refused_with_its_source() {
    let dir = tempfile::tempdir().expect("a directory");
    let universal: &[&str] = &["gateway", "check", "edge-1", "--auth-method=universal-auth"];
    let kubernetes: &[&str] = &["gateway", "check", "edge-1", "--auth-method=kubernetes"];
    let jwt: &[&str] = &[
        "gateway",
        "check",
        "edge-1",
        "--auth-method=jwt-auth",
        "--machine-identity-id=1",
    ];
    let aws: &[&str] = &["gateway", "check", "edge-1", "--enroll-method=aws"];
    let instance: &[&str] = &[
        "relay",
        "check",
        "--name",
        "eu-1",
        "--host",
        "h",
        "--type=instance",
    ];
    let cases: [Case; 22] = [
        (
            GATEWAY,
            &[("INFISICAL_API_URL", "https://hunter2 # ours")],
            "environment variable INFISICAL_API_URL: the value ends with a comment",
        ),
        (
            GATEWAY,
            &[("INFISICAL_API_URL", "\"https://hunter2\"")],
            "environment variable INFISICAL_API_URL: the value is in quotes",
        ),
        (
            GATEWAY,
            &[("INFISICAL_API_URL", "hunter2.example")],
            "environment variable INFISICAL_API_URL: the URL must begin with https:// or http://",
        ),
        (
            GATEWAY,
            &[("INFISICAL_API_URL", "https://${hunter2}")],
            "environment variable INFISICAL_API_URL: the value holds a variable",
        ),
        (
            GATEWAY,
            &[("INFISICAL_CUSTOM_HEADERS", "X-A=${hunter2}")],
            "environment variable INFISICAL_CUSTOM_HEADERS: header X-A holds a variable",
        ),
        (
            GATEWAY,
            &[("INFISICAL_CUSTOM_HEADERS", "\"X-A=hunter2\"")],
            "environment variable INFISICAL_CUSTOM_HEADERS: quotes belong around",
        ),
        (
            GATEWAY,
            &[("INFISICAL_LOG_FILE", "~/hunter2.log")],
            "environment variable INFISICAL_LOG_FILE: the path begins with '~'",
        ),
        (
            GATEWAY,
            &[("INFISICAL_RELAY_NAME", "'hunter2'")],
            "environment variable INFISICAL_RELAY_NAME: the value is in quotes",
        ),
        (
            universal,
            &[
                ("INFISICAL_UNIVERSAL_AUTH_CLIENT_ID", "hunter2 x"),
                ("INFISICAL_UNIVERSAL_AUTH_CLIENT_SECRET", "s"),
            ],
            "environment variable INFISICAL_UNIVERSAL_AUTH_CLIENT_ID: the value holds white space",
        ),
        (
            universal,
            &[
                ("INFISICAL_UNIVERSAL_AUTH_CLIENT_ID", "i"),
                ("INFISICAL_UNIVERSAL_AUTH_CLIENT_SECRET", "'hunter2'"),
            ],
            "environment variable INFISICAL_UNIVERSAL_AUTH_CLIENT_SECRET: the value is in quotes",
        ),
        (
            universal,
            &[
                ("INFISICAL_UNIVERSAL_AUTH_CLIENT_ID", "i"),
                ("INFISICAL_UNIVERSAL_AUTH_CLIENT_SECRET", "s"),
                ("INFISICAL_AUTH_ORGANIZATION_SLUG", "hunter2 x"),
            ],
            "environment variable INFISICAL_AUTH_ORGANIZATION_SLUG: the value holds white space",
        ),
        (
            kubernetes,
            &[("INFISICAL_MACHINE_IDENTITY_ID", "<hunter2>")],
            "environment variable INFISICAL_MACHINE_IDENTITY_ID: the value is a placeholder",
        ),
        (
            kubernetes,
            &[
                ("INFISICAL_MACHINE_IDENTITY_ID", "1"),
                (
                    "INFISICAL_KUBERNETES_SERVICE_ACCOUNT_TOKEN_PATH",
                    "${hunter2}/token",
                ),
            ],
            "environment variable INFISICAL_KUBERNETES_SERVICE_ACCOUNT_TOKEN_PATH: the value holds a variable",
        ),
        (
            jwt,
            &[("INFISICAL_JWT", "hunter2")],
            "environment variable INFISICAL_JWT: the value is not a JSON web token",
        ),
        (
            aws,
            &[("INFISICAL_GATEWAY_ID", "\"hunter2\"")],
            "environment variable INFISICAL_GATEWAY_ID: the value is in quotes",
        ),
        (
            instance,
            &[("INFISICAL_RELAY_AUTH_SECRET", "hunter2\nx")],
            "environment variable INFISICAL_RELAY_AUTH_SECRET: the value has several lines",
        ),
        (
            RELAY,
            &[("INFISICAL_RELAY_HOST", "0.0.0.0")],
            "environment variable INFISICAL_RELAY_HOST: 0.0.0.0 stands for every address",
        ),
        (
            RELAY,
            &[("INFISICAL_RELAY_HOST", "relay.example.")],
            "environment variable INFISICAL_RELAY_HOST: a dot at the end is not part of the name \
             here; write relay.example",
        ),
        (
            RELAY,
            &[("INFISICAL_RELAY_HOST", "[2001:db8::1]")],
            "environment variable INFISICAL_RELAY_HOST: write an IPv6 address without brackets: \
             2001:db8::1",
        ),
        (
            RELAY,
            &[(
                "INFISICAL_RELAY_HOST",
                "https://u:hunter2@relay.example:8443/",
            )],
            "environment variable INFISICAL_RELAY_HOST: write the host alone, not a URL: \
             relay.example",
        ),
        (
            &["gateway", "check", "edge-1"],
            &[("INFISICAL_GATEWAY_ACCESS_TOKEN", "Bearer hunter2")],
            "environment variable INFISICAL_GATEWAY_ACCESS_TOKEN: the value begins with",
        ),
        (
            &["gateway", "check", "edge-1", "--enroll-method=token"],
            &[("INFISICAL_TOKEN", "hunter2 hunter2")],
            "environment variable INFISICAL_TOKEN: the value holds white space",
        ),
    ];
    for (words, variables, expected) in cases {
        let mut command = infisical(dir.path());
        command.args(words).envs(variables.iter().copied());
        let (code, output) = run(command, b"").await;
        assert_eq!(code, 78, "{words:?} {variables:?}: {output}");
        assert!(output.contains(expected), "{variables:?}: {output}");
        assert!(!output.contains(MARK), "{variables:?}: {output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn non_text_variable_is_named_by_commands() {
    let dir = tempfile::tempdir().expect("a directory");
    for words in [
        &["gateway", "check", "edge-1"][..],
        &["connect", "edge-1", "--to", "db:1", "--stdio"],
        &["platform", "gateway", "list"],
    ] {
        let mut command = infisical(dir.path());
        let value = std::ffi::OsString::from_vec(b"hunter2\xff".to_vec());
        command.args(words).env("INFISICAL_TOKEN", value);
        let (code, output) = run(command, b"").await;
        assert_eq!(code, 78, "{words:?}: {output}");
        let named = "environment variable INFISICAL_TOKEN: the value is not UTF-8 text";
        assert!(output.contains(named), "{words:?}: {output}");
        assert!(!output.contains(MARK), "{words:?}: {output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_shows_the_address_that_is_used() {
    let dir = tempfile::tempdir().expect("a directory");
    for (given, shown) in [
        (None, "https://app.infisical.com/api"),
        (Some("https://host.example"), "https://host.example/api"),
        (Some("https://host.example//"), "https://host.example/api"),
        (
            Some("https://host.example/api/"),
            "https://host.example/api",
        ),
        (
            Some("https://host.example/api/v1/x"),
            "https://host.example/api",
        ),
        (
            Some("https://host.example/login"),
            "https://host.example/api",
        ),
        (
            Some(" https://host.example/x\n"),
            "https://host.example/x/api",
        ),
    ] {
        let mut command = check(dir.path());
        command.args(["--token", "t"]);
        command.envs(given.map(|given| ("INFISICAL_API_URL", given)));
        let (code, output) = run(command, b"").await;
        assert_eq!(code, 0, "{given:?}: {output}");
        let mut words = output.split_whitespace();
        assert!(words.any(|word| word == shown), "{given:?}: {output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_file_that_is_none_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    for (flag, part) in [("", "it is empty"), ("-", "'-' is not a file")] {
        let mut command = check(dir.path());
        command.args(["--token", "t", "--log-file", flag]);
        let (code, output) = run(command, b"").await;
        assert_eq!(code, 78, "{flag:?}: {output}");
        let is_named = output.contains("--log-file") && output.contains(part);
        assert!(is_named, "{flag:?}: {output}");
    }
    assert!(!dir.path().join("-").exists());
    // A variable may be set and empty.
    let mut command = check(dir.path());
    command.args(["--token", "t"]).env("INFISICAL_LOG_FILE", "");
    let (code, output) = run(command, b"").await;
    assert_eq!(code, 0, "{output}");
}

//! Starting and stopping: what is refused, what is written, what is let go of.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::{DEFAULT_AUDIT_RETENTION, Error, Settings, TlsFiles, build};
use crate::authority::KeyAlgorithm;
use crate::error::Reason;
use crate::metrics::Metrics;
use crate::scope::Scope;

const SOON: Duration = Duration::from_secs(30);

fn settings(directory: &Path) -> Settings {
    Settings {
        ready_file: Some(directory.join("ready")),
        ..plain_settings(&directory.join("state"))
    }
}

/// A platform on loopback with its state in `state_dir`, and nothing else.
pub(crate) fn plain_settings(state_dir: &Path) -> Settings {
    Settings {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        state_dir: state_dir.to_owned(),
        key_algorithm: None,
        organization: None,
        tls: None,
        trusted_proxies: Vec::new(),
        ready_file: None,
        public_url: None,
        audit_retention: DEFAULT_AUDIT_RETENTION,
        oidc: None,
        session_lifetime: std::time::Duration::from_secs(3600),
        gateway_lifetime: None,
    }
}

#[tokio::test]
async fn plain_http_stays_on_loopback() {
    let directory = tempfile::tempdir().expect("a directory");
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:8080"] {
        let error = build(
            Settings {
                listen: address.parse().expect("an address"),
                ..settings(directory.path())
            },
            Metrics::default(),
        )
        .await
        .expect_err("plain HTTP");
        assert!(matches!(error, Error::NeedsTls(_)), "{error:?}");
        assert!(error.to_string().contains("--tls-cert"), "{error}");
        assert_eq!(error.reason(), Reason::Configuration);
    }
    assert!(!directory.path().join("state").exists(), "nothing was made");
}

#[tokio::test]
async fn directory_serves_one_platform_at_a_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let algorithm = Some(KeyAlgorithm::Ed25519);
    for round in 0..2 {
        let platform = build(
            Settings {
                key_algorithm: algorithm.filter(|_| round == 0),
                ..settings(directory.path())
            },
            Metrics::default(),
        )
        .await
        .expect("built");
        let url = platform.url.clone();
        let scope = Scope::new("test");
        let run = platform.run(scope.clone());
        scope.spawn("platform", async move { run.await.expect("a clean end") });
        let client = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client");
        let answer = client.get(&url).send().await.expect("an answer");
        // The web page, which begins with the login.
        assert_eq!(answer.status(), 200);
        let ready = std::fs::read_to_string(directory.path().join("ready")).expect("it serves");
        assert_eq!(ready.trim(), url);
        scope.cancel();
        assert!(scope.finish(SOON).await);
        client.get(&url).send().await.expect_err("it has stopped");
    }
    let error = build(
        Settings {
            key_algorithm: Some(KeyAlgorithm::Rsa2048),
            ..settings(directory.path())
        },
        Metrics::default(),
    )
    .await
    .expect_err("other keys");
    assert_eq!(error.reason(), Reason::Configuration);
}

#[tokio::test]
async fn running_platform_is_not_started_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let _first = build(settings(directory.path()), Metrics::default())
        .await
        .expect("built");
    let error = build(settings(directory.path()), Metrics::default())
        .await
        .expect_err("in use");
    assert_eq!(error.reason(), Reason::Unavailable);
    let text = crate::error::chain(&error).to_string();
    assert!(text.contains("another platform"), "{text}");
}

#[tokio::test]
async fn state_secrets_are_kept_and_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("state/admin-token");
    drop(
        build(settings(directory.path()), Metrics::default())
            .await
            .expect("built"),
    );
    let token = std::fs::read_to_string(&file).expect("a token");
    drop(
        build(settings(directory.path()), Metrics::default())
            .await
            .expect("built"),
    );
    assert_eq!(std::fs::read_to_string(&file).expect("a token"), token);
    let exposed = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&file, exposed).expect("opened up");
    let error = build(settings(directory.path()), Metrics::default())
        .await
        .expect_err("exposed");
    assert_eq!(error.reason(), Reason::Configuration);
    let text = crate::error::chain(&error).to_string();
    assert!(
        text.contains("admin-token") && !text.contains(token.trim()),
        "{text}"
    );
}

#[tokio::test]
async fn https_is_served_with_the_given_certificate() {
    let directory = tempfile::tempdir().expect("a directory");
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("made");
    let files = TlsFiles {
        certificate: directory.path().join("cert.pem"),
        key: directory.path().join("key.pem"),
    };
    std::fs::write(&files.certificate, own.cert.pem()).expect("written");
    std::fs::write(&files.key, own.signing_key.serialize_pem()).expect("written");
    let secure = |tls| Settings {
        // Every address: allowed, since this is not plain HTTP.
        listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        tls: Some(tls),
        ..settings(directory.path())
    };
    let platform = build(secure(files.clone()), Metrics::default())
        .await
        .expect("built");
    let url = platform.url.clone();
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    let scope = Scope::new("test");
    let run = platform.run(scope.clone());
    scope.spawn("platform", async move { run.await.expect("a clean end") });
    let root = reqwest::Certificate::from_pem(own.cert.pem().as_bytes()).expect("a root");
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([root])
        .build()
        .expect("a client");
    let answer = client.get(format!("{url}/api/v1/relays")).send().await;
    assert_eq!(answer.expect("an answer").status(), 401);
    scope.cancel();
    assert!(scope.finish(SOON).await);

    let swapped = TlsFiles {
        certificate: files.key.clone(),
        key: files.certificate,
    };
    let absent = TlsFiles {
        certificate: directory.path().join("absent"),
        key: files.key,
    };
    for wrong in [swapped, absent] {
        let error = build(secure(wrong), Metrics::default())
            .await
            .expect_err("no certificate");
        assert_eq!(error.reason(), Reason::Configuration);
    }
}

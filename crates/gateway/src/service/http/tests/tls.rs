//! Whom an https target must convince, and when.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use tokio::io::AsyncWriteExt as _;
use tokio_rustls::TlsAcceptor;

use super::support::{Setup, TestTarget, listen, ok, target_on};
use crate::pki::tls::provider;
use crate::scope::Scope;

/// A CA of the test's own.
pub(super) struct Ca {
    params: CertificateParams,
    key: KeyPair,
    pub(super) pem: String,
}

impl Ca {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a CA").pem();
        Self { params, key, pem }
    }

    /// A server's TLS for `name`.
    pub(super) fn acceptor(&self, name: &str) -> TlsAcceptor {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        acceptor(certificate.der().clone(), &key)
    }
}

fn acceptor(certificate: rustls_pki_types::CertificateDer<'static>, key: &KeyPair) -> TlsAcceptor {
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())
        .expect("a certificate and its key");
    TlsAcceptor::from(Arc::new(config))
}

pub(super) async fn tls_target(scope: &Scope, acceptor: TlsAcceptor) -> TestTarget {
    let (listener, port) = listen().await;
    target_on(scope, listener, port, Some(acceptor), |_| ok("secret"))
}

pub(super) fn ca_word(pem: &str) -> String {
    format!("ca={}", STANDARD.encode(pem))
}

/// The answer's body, or the message of the failure.
async fn ask(scope: &Scope, host: &str, port: u16, line: &str) -> Result<String, String> {
    let mut client = Setup::to(host, port).serve(scope);
    client.send(&format!("{line}\n")).await;
    // The connection goes on after a failure, and the next one is the same.
    let answer = client.get("/").await;
    let again = client.get("/").await;
    assert_eq!(answer.status(), again.status());
    let result = if answer.status() == 200 {
        Ok(answer.text().to_owned())
    } else {
        Err(answer.json())
    };
    client.finish().await.expect("a clean end");
    result
}

#[tokio::test]
async fn the_line_says_whom_to_trust() {
    let scope = Scope::new("test");
    let (right, wrong) = (Ca::new(), Ca::new());
    let mut web = tls_target(&scope, right.acceptor("localhost")).await;
    let (right, wrong) = (ca_word(&right.pem), ca_word(&wrong.pem));
    for (line, trusted) in [
        (format!("CONFIG {right} verify=true"), true),
        (format!("CONFIG {wrong} verify=true"), false),
        (format!("CONFIG {wrong} {right} verify=true"), true),
        ("verify=true".to_owned(), false),
        (format!("verify=true {wrong} verify=false"), true),
        (format!("CONFIG {wrong} verify=false"), true),
        (wrong.clone(), true),
        ("verify=false".to_owned(), true),
        (String::new(), true),
    ] {
        let got = ask(&scope, "https://localhost", web.port, &line).await;
        assert_eq!(got.is_ok(), trusted, "{line}: {got:?}");
        match got {
            Ok(body) => {
                assert_eq!(body, "secret");
                let (one, two) = (web.seen().await, web.seen().await);
                assert_eq!(one.connection, two.connection, "the connection is kept");
            }
            Err(message) => {
                assert!(
                    message.starts_with("gateway: failed to reach target"),
                    "{message}"
                );
                assert!(web.saw_nothing_more(), "no request before trust");
            }
        }
    }
}

#[tokio::test]
async fn the_name_is_verified_too() {
    let scope = Scope::new("test");
    let ca = Ca::new();
    let named = tls_target(&scope, ca.acceptor("localhost")).await;
    let numbered = tls_target(&scope, ca.acceptor("127.0.0.1")).await;
    let verified = format!("{} verify=true", ca_word(&ca.pem));
    ask(&scope, "https://127.0.0.1", numbered.port, &verified)
        .await
        .expect("the address");
    ask(&scope, "https://127.0.0.1", named.port, &verified)
        .await
        .expect_err("another name");
    ask(&scope, "https://localhost", numbered.port, &verified)
        .await
        .expect_err("another name");
    ask(&scope, "https://127.0.0.1", named.port, "verify=false")
        .await
        .expect("any name");
}

#[tokio::test]
async fn self_signed_certificate_may_be_own_ca() {
    let scope = Scope::new("test");
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    for is_ca in [IsCa::NoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
        params.is_ca = is_ca;
        let certificate = params.self_signed(&key).expect("a certificate");
        let web = tls_target(&scope, acceptor(certificate.der().clone(), &key)).await;
        let verified = format!("{} verify=true", ca_word(&certificate.pem()));
        ask(&scope, "https://localhost", web.port, &verified)
            .await
            .expect("its own root");
        // The name still counts.
        ask(&scope, "https://127.0.0.1", web.port, &verified)
            .await
            .expect_err("another name");
    }

    for change in ["expired", "not yet valid", "a client's"] {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        match change {
            "expired" => params.not_after = rcgen::date_time_ymd(2020, 1, 1),
            "not yet valid" => params.not_before = rcgen::date_time_ymd(3000, 1, 1),
            _ => params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
        }
        let certificate = params.self_signed(&key).expect("a certificate");
        let web = tls_target(&scope, acceptor(certificate.der().clone(), &key)).await;
        let verified = format!("{} verify=true", ca_word(&certificate.pem()));
        ask(&scope, "https://localhost", web.port, &verified)
            .await
            .expect_err(change);
    }
}

#[tokio::test]
async fn target_without_tls_is_networking_error() {
    let scope = Scope::new("test");
    let (listener, port) = listen().await;
    scope.spawn("plain target", async move {
        loop {
            let (mut tcp, _) = listener.accept().await.expect("a connection");
            let refusal = b"HTTP/1.1 400 Bad Request\r\n\r\n";
            tcp.write_all(refusal).await.expect("answer");
        }
    });
    let message = ask(&scope, "https://127.0.0.1", port, "").await;
    let message = message.expect_err("no TLS");
    assert!(
        message.contains(&format!("TLS with 127.0.0.1:{port} failed")),
        "{message}"
    );
}

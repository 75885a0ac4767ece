//! What a person reads when the connection to the platform fails: what is wrong, which names and
//! dates are meant, and what helps. No word of a library.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use nix::sys::signal::Signal;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use crate::support::admin::Platform;
use crate::support::daemon::GatewayCommand;
use crate::support::process::{Process, infisical};
use crate::support::targets::Target;
use crate::support::x509::{Ca, Leaf, Pem};
use crate::support::{loopback, write_private};

/// Words of libraries, which must never reach a person.
const JARGON: &[&str] = &[
    "os error",
    "rustls",
    "hyper",
    "webpki",
    "invalid peer certificate",
    "InvalidContentType",
    "UnknownIssuer",
    "CaUsedAsEndEntity",
    "NotValidForName",
    "DnsName(",
    "error sending request",
    "client error",
    "builder error",
    "connect error",
    "handshake eof",
    "UNIX",
    "section",
];

pub(crate) fn acceptor(pem: &Pem, clients: Option<&Ca>) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions");
    let builder = match clients {
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            let anchor = CertificateDer::from_pem_slice(ca.pem().as_bytes()).expect("PEM");
            roots.add(anchor).expect("an anchor");
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        }
        None => builder.with_no_client_auth(),
    };
    let chain = CertificateDer::from_pem_slice(pem.certificate.as_bytes()).expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).expect("a key");
    let config = builder.with_single_cert(vec![chain], key).expect("a pair");
    TlsAcceptor::from(Arc::new(config))
}

/// A server that takes TLS connections and says nothing.
pub(crate) async fn tls_server(host: Ipv4Addr, pem: &Pem, clients: Option<&Ca>) -> Target {
    let acceptor = acceptor(pem, clients);
    Target::serve(host, move |tcp| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(tcp).await?;
            stream.read_u8().await.map(drop)
        }
    })
    .await
}

/// A command that asks the platform once.
fn ask(dir: &Path, domain: &str) -> Command {
    let token = dir.join("token");
    write_private(&token, "the-administrators-token");
    let mut command = infisical(dir);
    command.args(["platform", "gateway", "list", "--domain", domain]);
    command.arg("--token-file").arg(&token);
    command
}

fn assert_words(name: &str, output: &str, words: &[&str]) {
    for word in words {
        assert!(output.contains(word), "{name}: no {word:?} in: {output}");
    }
    for word in JARGON {
        assert!(!output.contains(word), "{name}: {word:?} in: {output}");
    }
}

fn file(dir: &Path, name: &str, content: &str) -> PathBuf {
    let path = dir.join(name);
    write_private(&path, content);
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn each_cause_has_its_words() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let host = loopback::address();
    let (trusted, other) = (Ca::root("Trusted CA"), Ca::root("Corp Root CA"));
    let roots = file(dir, "roots.pem", &trusted.pem());
    let leaf = || Leaf::relay_server(host);
    let elsewhere = Ipv4Addr::new(192, 0, 2, 7);

    let good = tls_server(host, &trusted.sign(&leaf()), None).await;
    let unknown = tls_server(host, &other.sign(&leaf()), None).await;
    let misnamed = tls_server(host, &trusted.sign(&Leaf::relay_server(elsewhere)), None).await;
    let expired = tls_server(host, &trusted.sign(&leaf().expired()), None).await;
    let early = tls_server(host, &trusted.sign(&leaf().not_yet_valid()), None).await;
    let mutual = tls_server(host, &trusted.sign(&leaf()), Some(&trusted)).await;
    let plain = Target::serve(host, |mut tcp| async move {
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await?;
        tcp.read_u8().await.map(drop)
    })
    .await;
    let closing = Target::serve(host, |mut tcp| async move {
        let mut hello = [0; 64];
        tcp.read_exact(&mut hello).await?;
        tcp.shutdown().await
    })
    .await;
    let free = {
        let listener = std::net::TcpListener::bind((host, 0)).expect("a port");
        listener.local_addr().expect("an address")
    };
    let own = host.to_string();
    let own = own.as_str();
    let cases: Vec<(&str, SocketAddr, Vec<&str>)> = vec![
        (
            "no TLS",
            plain.address,
            vec!["this port does not speak TLS"],
        ),
        (
            "closed",
            closing.address,
            vec!["the other side closed the connection during the TLS handshake"],
        ),
        (
            "unknown CA",
            unknown.address,
            vec![
                "issued by CN=Corp Root CA",
                "--ca-file",
                "INFISICAL_CA_FILE",
            ],
        ),
        (
            "name",
            misnamed.address,
            vec!["not for", own, "but for 192.0.2.7"],
        ),
        (
            "expired",
            expired.address,
            vec!["its certificate expired on 20", "UTC"],
        ),
        (
            "early",
            early.address,
            vec!["is not valid before 20", "clock right"],
        ),
        (
            "mutual",
            mutual.address,
            vec!["the other side wants a certificate"],
        ),
        ("refused", free, vec!["connection refused"]),
    ];
    for (name, address, words) in cases {
        let mut command = ask(dir, &format!("https://{address}"));
        command.env("SSL_CERT_FILE", &roots);
        let process = Process::spawn(name, command);
        assert_eq!(process.exit_code().await, 69, "{name}");
        let output = process.output();
        let url = format!("cannot reach the platform at https://{address}");
        assert!(output.contains(&url), "{name}: {output}");
        assert_words(name, &output, &words);
    }
    // The other way round: plain HTTP to a port with TLS.
    let process = Process::spawn("no HTTP", ask(dir, &format!("http://{}", good.address)));
    assert_eq!(process.exit_code().await, 69);
    assert_words(
        "no HTTP",
        &process.output(),
        &["the other side does not speak plain HTTP"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_root_files_are_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let host = loopback::address();
    let platform = Platform::start(dir.path(), host, 0, &[]).await;
    let empty = file(dir.path(), "empty.pem", "");
    let absent = dir.path().join("absent.pem");
    for (variable, path) in [("SSL_CERT_FILE", &empty), ("INFISICAL_CA_FILE", &absent)] {
        let mut command = ask(dir.path(), "https://127.0.0.1:1");
        command.env(variable, path);
        let process = Process::spawn(variable, command);
        assert_eq!(process.exit_code().await, 78);
        let path = path.display().to_string();
        assert_words(variable, &process.output(), &[variable, &path]);
    }
    for (name, value) in [
        ("SSL_CERT_FILE", ""),
        ("SSL_CERT_FILE", "/nonexistent"),
        ("SSL_CERT_DIR", "/nonexistent"),
    ] {
        let listed = infisical_list(dir.path(), &platform, &[(name, value)]);
        assert_eq!(
            listed.exit_code().await,
            0,
            "{name}={value}: {}",
            listed.output()
        );
    }
}

fn infisical_list(dir: &Path, platform: &Platform, environment: &[(&str, &str)]) -> Process {
    let mut command = infisical(dir);
    command.args(["platform", "gateway", "list", "--domain", &platform.url]);
    command.arg("--token-file").arg(platform.token_file());
    command.envs(environment.iter().copied());
    Process::spawn("list", command)
}

#[tokio::test(flavor = "multi_thread")]
async fn ca_file_makes_a_private_ca_trusted() {
    let dir = tempfile::tempdir().expect("a directory");
    let ca = Ca::root("Private CA");
    let platform = Platform::with_tls(dir.path(), loopback::address(), &ca).await;
    let ca_file = file(dir.path(), "ca.pem", &ca.pem()).display().to_string();
    let refused = infisical_list(dir.path(), &platform, &[]);
    assert_eq!(refused.exit_code().await, 69);
    let listed = infisical_list(dir.path(), &platform, &[("INFISICAL_CA_FILE", &ca_file)]);
    assert_eq!(listed.exit_code().await, 0, "{}", listed.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn running_gateway_uses_a_later_ca() {
    let dir = tempfile::tempdir().expect("a directory");
    let host = loopback::address();
    let (first, added) = (Ca::root("First CA"), Ca::root("Added CA"));
    let platform = Platform::with_tls(dir.path(), host, &added).await;
    let roots = file(dir.path(), "roots.pem", &first.pem());
    let keys = "INFISICAL_TOKEN=not-a-token-of-this-platform\n";
    let gateway = GatewayCommand::new(dir.path(), "edge", &platform.url, "relay", keys);
    let mut command = gateway.command(dir.path());
    command.env("SSL_CERT_FILE", &roots);
    let gateway = Process::spawn("gateway", command);
    gateway.wait_for_line("issued by CN=Added CA").await;
    // As update-ca-certificates does: a new file in the old one's place.
    let new = file(dir.path(), "new.pem", &(first.pem() + &added.pem()));
    std::fs::rename(new, &roots).expect("replaced");
    gateway.wait_for_line("root certificates reloaded").await;
    gateway.wait_for_line("401").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn platform_names_its_certificates_fault() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let ca = Ca::root("Private CA");
    let leaf = || ca.sign(&Leaf::relay_server(Ipv4Addr::LOCALHOST));
    let (good, other) = (leaf(), leaf());
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let reversed = ca.pem() + &good.certificate;
    for (name, certificate, key, words) in [
        (
            "encrypted",
            &good.certificate,
            encrypted,
            vec!["--tls-key", "encrypted", "openssl"],
        ),
        (
            "other key",
            &good.certificate,
            &other.key,
            vec!["does not belong"],
        ),
        ("order", &reversed, &good.key, vec!["must come first"]),
        (
            "swapped",
            &good.key,
            &good.certificate,
            vec!["--tls-cert", "holds none"],
        ),
        (
            "no key",
            &good.certificate,
            &good.certificate,
            vec!["--tls-key", "no key"],
        ),
    ] {
        let certificate = file(dir, "server.pem", certificate);
        let key = file(dir, "server.key", key);
        let mut command = infisical(dir);
        command.args(["platform", "start", "--listen", "127.0.0.1:0"]);
        command.arg("--state-dir").arg(dir.join("state"));
        command
            .arg("--tls-cert")
            .arg(certificate)
            .arg("--tls-key")
            .arg(key);
        let process = Process::spawn(name, command);
        assert_eq!(process.exit_code().await, 78, "{name}");
        assert_words(name, &process.output(), &words);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_and_reconnect_read_the_roots_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let (ca, more) = (Ca::root("Private CA"), Ca::root("Another CA"));
    let platform = Platform::with_tls(dir.path(), loopback::address(), &ca).await;
    let roots = file(dir.path(), "roots.pem", &ca.pem());
    let token = platform.identity_token("edge").await;
    // The platform knows a relay; nothing listens there.
    let relay = json!({"name": "relay", "host": loopback::address().to_string()});
    let register = "v1/relays/register-org-relay";
    let relays = platform.identity_token("relay").await;
    let (status, answer) = platform
        .api(reqwest::Method::POST, register, &relays, Some(&relay))
        .await;
    assert_eq!(status, 200, "{answer}");
    let keys = format!("INFISICAL_TOKEN={token}\n");
    let gateway = GatewayCommand::new(dir.path(), "edge", &platform.url, "relay", &keys);
    let mut command = gateway.command(dir.path());
    command.env("SSL_CERT_FILE", &roots);
    let gateway = Process::spawn("gateway", command);
    // It asked the platform, so the roots are in use.
    gateway.wait_for_line("Successfully registered").await;
    let mut bundle = ca.pem();
    for signal in [Signal::SIGUSR2, Signal::SIGHUP] {
        let mark = gateway.mark();
        bundle.push_str(&more.pem());
        bundle.push_str(&Ca::root("One more CA").pem());
        let new = file(dir.path(), "new.pem", &bundle);
        std::fs::rename(new, &roots).expect("replaced");
        gateway.signal(signal);
        gateway
            .wait_for_line_after(mark, "root certificates reloaded")
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn installer_keeps_absolute_ca_file_path() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = infisical(dir.path());
    command.args([
        "gateway",
        "systemd",
        "install",
        "edge",
        "--dry-run",
        "--user",
    ]);
    command.args(["--ca-file", "ca.pem", "--token", "0123456789"]);
    // A service does not see temporary directories.
    command.current_dir("/usr/share");
    let install = Process::spawn("install", command);
    assert_eq!(install.exit_code().await, 0, "{}", install.output());
    let line = "INFISICAL_CA_FILE=/usr/share/ca.pem";
    let output = install.output();
    assert!(output.lines().any(|kept| kept == line), "{line}: {output}");
}

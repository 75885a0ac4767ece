//! What is issued is read back by other hands: `x509-parser`, `ssh-key`, OpenSSH's and OpenSSL's
//! own programs, and this program's TLS and certificate checks.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Actor, Authority, GatewaySubject, KeyAlgorithm, Organization, RelaySubject, Target};
use crate::api::types::{ClientPki, ServerPki};
use crate::clock::Clock;
use crate::config::settings::RelayKind;
use crate::names::{GatewayId, GatewayName, RelayHost, RelayName};
use crate::pki;
use crate::ssh::cert::{self, HostPolicy, UserPolicy};
use crate::ssh::keys;

const ALGORITHMS: [KeyAlgorithm; 3] = [
    KeyAlgorithm::EcdsaP256,
    KeyAlgorithm::Ed25519,
    KeyAlgorithm::Rsa2048,
];
const ORG: &str = "11111111-2222-4333-8444-555555555555";
const GATEWAY: &str = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee";

struct World {
    authority: Authority,
    gateway: GatewayId,
    name: GatewayName,
    relay: RelayName,
    host: RelayHost,
    now: SystemTime,
}

/// Making a dozen RSA keys takes seconds, so each algorithm's CAs are made once.
static WORLDS: [OnceLock<World>; 3] = [OnceLock::new(), OnceLock::new(), OnceLock::new()];

impl World {
    fn of(algorithm: KeyAlgorithm) -> &'static Self {
        WORLDS[algorithm as usize].get_or_init(|| Self::new(algorithm))
    }

    fn new(algorithm: KeyAlgorithm) -> Self {
        let organization = Organization {
            id: ORG.to_owned(),
            name: "acme".to_owned(),
        };
        let now = SystemTime::now();
        let records = Authority::generate(algorithm, &organization, now).expect("CAs");
        Self {
            authority: Authority::load(algorithm, organization, 1, &records).expect("loaded"),
            gateway: GatewayId::try_new(GATEWAY).expect("an id"),
            name: GatewayName::try_new("office").expect("a name"),
            relay: RelayName::try_new("eu-1").expect("a name"),
            host: RelayHost::try_new("relay.example.com").expect("a host"),
            now,
        }
    }

    fn gateway(&self) -> GatewaySubject<'_> {
        GatewaySubject {
            id: &self.gateway,
            name: &self.name,
        }
    }

    fn relay(&self, kind: RelayKind) -> RelaySubject<'_> {
        RelaySubject {
            kind,
            name: &self.relay,
            host: &self.host,
        }
    }

    fn target() -> Target<'static> {
        Target {
            host: "db.internal",
            port: 5432,
            addresses: &[],
        }
    }
}

/// Runs a program on `input`; `None`, visibly, where this machine does not have it.
fn run(program: &str, arguments: &[&str], input: &str) -> Option<String> {
    let spawned = Command::new(program)
        .args(arguments)
        .env("TZ", "UTC")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = spawned else {
        eprintln!("skipped: there is no {program} here");
        return None;
    };
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).expect("written");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    Some(String::from_utf8(output.stdout).expect("text"))
}

fn key_name(algorithm: KeyAlgorithm) -> &'static str {
    match algorithm {
        KeyAlgorithm::EcdsaP256 => "ECDSA",
        KeyAlgorithm::Ed25519 => "ED25519",
        KeyAlgorithm::Rsa2048 => "RSA",
    }
}

#[test]
fn ssh_keygen_reads_issued_certificates() {
    for algorithm in ALGORITHMS {
        let world = World::of(algorithm);
        let relay = world.relay(RelayKind::Org);
        let gateway = world
            .authority
            .gateway(world.gateway(), relay, None, world.now)
            .expect("credentials");
        let kind = key_name(algorithm);
        let Some(text) = run(
            "ssh-keygen",
            &["-L", "-f", "-"],
            &gateway.ssh.client_certificate,
        ) else {
            return;
        };
        assert!(text.contains("user certificate"), "{text}");
        assert!(
            text.contains(&format!("Public key: {kind}-CERT SHA256:")),
            "{text}"
        );
        assert!(
            text.contains(&format!("Signing CA: {kind} SHA256:")),
            "{text}"
        );
        assert!(text.contains("Key ID: \"client-eu-1\""), "{text}");
        let principals =
            format!("Principals: \n                {GATEWAY}\n                office\n");
        assert!(text.contains(&principals), "{text}");
        assert!(text.contains("Critical Options: (none)"), "{text}");
        for extension in super::ssh::DEFAULT_EXTENSIONS {
            assert!(text.contains(extension), "{extension} is missing: {text}");
        }
        if algorithm == KeyAlgorithm::Rsa2048 {
            assert!(text.contains("(using rsa-sha2-512)"), "{text}");
        }

        let relay = world
            .authority
            .relay(relay, world.now)
            .expect("credentials");
        let text = run(
            "ssh-keygen",
            &["-L", "-f", "-"],
            &relay.ssh.server_certificate,
        )
        .expect("it ran before");
        assert!(text.contains("host certificate"), "{text}");
        assert!(text.contains("Key ID: \"relay-server\""), "{text}");
        let principals = "Principals: \n                relay.example.com:2222\n";
        assert!(text.contains(principals), "{text}");
        assert!(text.contains("Extensions: (none)"), "{text}");

        // OpenSSH reads the private keys, and they belong to the certificates.
        for (private, certificate) in [
            (
                &gateway.ssh.client_private_key,
                &gateway.ssh.client_certificate,
            ),
            (&relay.ssh.server_private_key, &relay.ssh.server_certificate),
        ] {
            let directory = tempfile::tempdir().expect("a directory");
            let file = directory.path().join("key");
            crate::files::replace(&file, private.expose()).expect("written");
            let file = file.to_str().expect("text");
            let public = run("ssh-keygen", &["-y", "-f", file], "").expect("it ran before");
            let key = keys::parse_private_key(private).expect("a key");
            let line = key.public_key().to_openssh().expect("a line");
            assert_eq!(public.split_whitespace().nth(1), line.split(' ').nth(1));
            let certificate = keys::parse_certificate(certificate).expect("a certificate");
            keys::CertifiedKey::try_new(&key, certificate).expect("they belong together");
        }
    }
}

#[test]
fn instance_relay_does_not_see_gateway_names() {
    let world = World::of(KeyAlgorithm::Ed25519);
    let issued = world
        .authority
        .gateway(
            world.gateway(),
            world.relay(RelayKind::Instance),
            None,
            world.now,
        )
        .expect("credentials");
    let certificate = keys::parse_certificate(&issued.ssh.client_certificate).expect("one");
    assert_eq!(certificate.valid_principals(), [GATEWAY]);
}

#[test]
fn ssh_certificates_are_bound_to_their_audience() {
    for algorithm in ALGORITHMS {
        let world = World::of(algorithm);
        let relay = world.relay(RelayKind::Org);
        let gateway = world
            .authority
            .gateway(world.gateway(), relay, None, world.now)
            .expect("credentials");
        let relay = world
            .authority
            .relay(relay, world.now)
            .expect("credentials");
        let user = keys::parse_certificate(&gateway.ssh.client_certificate).expect("one");
        let host = keys::parse_certificate(&relay.ssh.server_certificate).expect("one");
        let user_ca = keys::parse_public_key(&relay.ssh.client_ca_public_key).expect("a key");
        let host_ca = keys::parse_public_key(&gateway.ssh.server_ca_public_key).expect("a key");
        let user_policy = |ca: &ssh_key::PublicKey| UserPolicy {
            ca: ca.clone(),
            key_id: world.relay.client_key_id(),
        };
        let host_policy = |ca: &ssh_key::PublicKey| HostPolicy {
            ca: ca.clone(),
            principal: world.host.host_principal(),
        };
        let user_at =
            |ca: &ssh_key::PublicKey, at| cert::verify_user(&user, GATEWAY, &user_policy(ca), at);
        let host_at = |ca: &ssh_key::PublicKey, at| cert::verify_host(&host, &host_policy(ca), at);

        user_at(&user_ca, world.now).expect("the relay believes it");
        host_at(&host_ca, world.now).expect("the gateway believes it");
        // A peer whose clock is a little behind.
        user_at(&user_ca, world.now - Duration::from_secs(240)).expect("backdated");
        host_at(&host_ca, world.now - Duration::from_secs(240)).expect("backdated");

        let wrong = user_at(&host_ca, world.now).expect_err("the other role's CA");
        assert!(matches!(wrong, cert::Error::WrongCa { .. }), "{wrong:?}");
        let wrong = host_at(&user_ca, world.now).expect_err("the other role's CA");
        assert!(matches!(wrong, cert::Error::WrongCa { .. }), "{wrong:?}");

        let day = Duration::from_secs(24 * 3600);
        let late = user_at(&user_ca, world.now + day).expect_err("a day later");
        assert!(matches!(late, cert::Error::Expired(_)), "{late:?}");
        host_at(&host_ca, world.now + 29 * day).expect("it lives 30 days");
        let late = host_at(&host_ca, world.now + 30 * day).expect_err("30 days later");
        assert!(matches!(late, cert::Error::Expired(_)), "{late:?}");
    }
}

#[test]
fn test_gateway_certificates_can_end_sooner() {
    let life = Duration::from_secs(60);
    let mut world = World::new(KeyAlgorithm::EcdsaP256);
    world.authority = world.authority.with_gateway_lifetime(life);
    let relay = world.relay(RelayKind::Org);
    let gateway = world
        .authority
        .gateway(world.gateway(), relay, None, world.now)
        .expect("credentials");
    let ends = pki::expires("leaf", &gateway.pki.server_certificate).expect("PEM");
    let ssh = keys::parse_certificate(&gateway.ssh.client_certificate).expect("a certificate");
    for end in [ends, cert::expires(&ssh).expect("an end")] {
        let left = end.duration_since(world.now).expect("it is valid");
        assert!(
            left <= life && left > life.saturating_sub(Duration::from_secs(2)),
            "{left:?}"
        );
    }
}

#[test]
fn leaves_say_what_the_protocol_wants() {
    for algorithm in ALGORITHMS {
        let world = World::of(algorithm);
        let relay = world.relay(RelayKind::Org);
        let now = world.now;
        let gateway = world
            .authority
            .gateway(world.gateway(), relay, None, now)
            .expect("credentials");
        let session = world
            .authority
            .session(
                world.gateway(),
                relay,
                &Actor::Platform,
                World::target(),
                None,
                now,
            )
            .expect("credentials");
        let relay = world.authority.relay(relay, now).expect("credentials");

        let der = pki::parse_certificates("leaf", &gateway.pki.server_certificate).expect("PEM");
        assert_eq!(der.len(), 1, "only the leaf");
        let leaf = parse(&der[0]);
        assert_eq!(leaf.subject().to_string(), format!("O={ORG}, CN=Gateway"));
        assert_eq!(names(&leaf), ["localhost", "127.0.0.1", "::1"]);
        let usage = leaf.extended_key_usage().expect("one").expect("there");
        assert!(usage.critical && usage.value.server_auth && !usage.value.client_auth);
        assert_eq!(lifetime(&leaf), 24 * 3600 + 300);
        assert!(!leaf.is_ca());

        let der = pki::parse_certificates("leaf", &relay.pki.server_certificate).expect("PEM");
        assert_eq!(names(&parse(&der[0])), ["relay.example.com"]);
        assert_eq!(lifetime(&parse(&der[0])), 24 * 3600 + 300);

        let der = pki::parse_certificates("leaf", &session.relay.client_certificate).expect("PEM");
        let leaf = parse(&der[0]);
        assert_eq!(
            leaf.subject().to_string(),
            format!("O=acme-{ORG}, OU=relay-client, CN={GATEWAY}")
        );
        assert_eq!(
            pki::extensions::parse_common_name(&der[0]).expect("a name"),
            GATEWAY
        );
        assert_eq!(extension(&leaf, ".100.3"), r#"{"name":"office"}"#);
        assert_eq!(lifetime(&leaf), 300 + 300);

        let der =
            pki::parse_certificates("leaf", &session.gateway.client_certificate).expect("PEM");
        let leaf = parse(&der[0]);
        assert_eq!(
            leaf.subject().to_string(),
            format!("O={ORG}, OU=gateway-client, CN=platform:{GATEWAY}")
        );
        assert_eq!(
            extension(&leaf, ".100.1"),
            r#"{"targetHost":"db.internal","targetPort":5432}"#
        );
        assert_eq!(extension(&leaf, ".100.2"), r#"{"type":"platform"}"#);
        let actor = Actor::User {
            id: Some("7f3c".to_owned()),
            name: Some("alice".to_owned()),
        };
        let relay_of_session = world.relay(RelayKind::Org);
        let (gateway_of_session, target) = (world.gateway(), World::target());
        let session = world
            .authority
            .session(
                gateway_of_session,
                relay_of_session,
                &actor,
                target,
                None,
                now,
            )
            .expect("credentials");
        let der_of_user =
            pki::parse_certificates("leaf", &session.gateway.client_certificate).expect("PEM");
        assert_eq!(
            extension(&parse(&der_of_user[0]), ".100.2"),
            r#"{"id":"7f3c","name":"alice","type":"user"}"#
        );
        let usage = leaf.extended_key_usage().expect("one").expect("there");
        assert!(usage.critical && usage.value.client_auth && !usage.value.server_auth);
        let claims = pki::extensions::parse_claims(&der[0]).expect("claims");
        assert!(claims.actor.expect("an actor").is_platform());
    }
}

#[test]
fn the_gateway_root_is_the_odd_one() {
    let world = World::of(KeyAlgorithm::EcdsaP256);
    let relay = world.relay(RelayKind::Org);
    let gateway = world
        .authority
        .gateway(world.gateway(), relay, None, world.now)
        .expect("credentials");
    let chain =
        pki::parse_certificates("chain", &gateway.pki.client_certificate_chain).expect("PEM");
    let [client_ca, root] = chain.as_slice() else {
        panic!("the chain is the client CA and the root");
    };
    let (client_ca, root) = (parse(client_ca), parse(root));
    assert_eq!(
        root.subject().to_string(),
        format!("O={ORG}, CN=Infisical Gateway Root CA")
    );
    assert!(root.basic_constraints().expect("none").is_none());
    assert!(
        root.key_usage()
            .expect("one")
            .expect("there")
            .value
            .key_cert_sign()
    );
    assert_eq!(client_ca.issuer(), root.subject());
    assert!(client_ca.is_ca());

    let relay = world
        .authority
        .relay(relay, world.now)
        .expect("credentials");
    let chain = pki::parse_certificates("chain", &relay.pki.client_certificate_chain).expect("PEM");
    assert_eq!(chain.len(), 3, "client CA, relay CA, root");
    assert!(chain.iter().all(|der| parse(der).is_ca()));
}

#[test]
fn openssl_reads_and_verifies_the_relay_chain() {
    for algorithm in ALGORITHMS {
        let world = World::of(algorithm);
        let relay = world.relay(RelayKind::Instance);
        let issued = world
            .authority
            .relay(relay, world.now)
            .expect("credentials");
        let probe = world
            .authority
            .relay_probe(relay, None, world.now)
            .expect("credentials");
        let Some(text) = run(
            "openssl",
            &["x509", "-noout", "-text"],
            &issued.pki.server_certificate,
        ) else {
            return;
        };
        assert!(text.contains("DNS:relay.example.com"), "{text}");
        assert!(
            text.contains("X509v3 Extended Key Usage: critical\n                TLS Web Server"),
            "{text}"
        );
        let signature = match algorithm {
            KeyAlgorithm::Rsa2048 => "sha256WithRSAEncryption",
            KeyAlgorithm::EcdsaP256 | KeyAlgorithm::Ed25519 => "ecdsa-with-SHA256",
        };
        assert!(text.contains(signature), "{text}");

        let directory = tempfile::tempdir().expect("a directory");
        let anchors = directory.path().join("anchors.pem");
        std::fs::write(&anchors, &probe.server_certificate_chain).expect("written");
        let anchors = anchors.to_str().expect("text");
        let verify = [
            "verify",
            "-x509_strict",
            "-purpose",
            "sslserver",
            "-CAfile",
            anchors,
        ];
        run("openssl", &verify, &issued.pki.server_certificate).expect("it ran before");

        // PKCS#8, and the certificate's own.
        let key = issued.pki.server_private_key.expose();
        assert!(key.starts_with("-----BEGIN PRIVATE KEY-----"));
        let public = run("openssl", &["pkey", "-pubout"], key).expect("it ran before");
        let certified = run(
            "openssl",
            &["x509", "-noout", "-pubkey"],
            &issued.pki.server_certificate,
        );
        assert_eq!(Some(public), certified);
    }
}

#[tokio::test]
async fn issued_credentials_complete_both_handshakes() {
    for algorithm in [KeyAlgorithm::EcdsaP256, KeyAlgorithm::Rsa2048] {
        for kind in [RelayKind::Org, RelayKind::Instance] {
            let world = World::of(algorithm);
            let relay = world.relay(kind);
            let now = world.now;
            let gateway = world
                .authority
                .gateway(world.gateway(), relay, None, now)
                .expect("credentials");
            let session = world
                .authority
                .session(
                    world.gateway(),
                    relay,
                    &Actor::User {
                        id: None,
                        name: None,
                    },
                    World::target(),
                    None,
                    now,
                )
                .expect("credentials");
            let probe = world
                .authority
                .relay_probe(relay, None, now)
                .expect("credentials");
            let relay = world.authority.relay(relay, now).expect("credentials");

            let host = world.host.as_str();
            let common_name = handshake(&relay.pki, &session.relay, None, host)
                .await
                .expect("TLS 1");
            assert_eq!(common_name, GATEWAY);
            let common_name = handshake(&relay.pki, &probe, None, host)
                .await
                .expect("TLS 1");
            assert_eq!(common_name, GatewayId::HEALTH_CHECK);
            let alpn = Some("infisical-health");
            handshake(&gateway.pki, &session.gateway, alpn, "localhost")
                .await
                .expect("TLS 2");

            // Each leaf opens its own door only.
            handshake(&relay.pki, &session.gateway, None, host)
                .await
                .expect_err("TLS 2's client at the relay");
            handshake(&gateway.pki, &session.relay, alpn, "localhost")
                .await
                .expect_err("TLS 1's client at the gateway");
            handshake(&relay.pki, &session.relay, None, "other.example.com")
                .await
                .expect_err("another relay's name");
        }
    }
}

#[tokio::test]
async fn tls_uses_the_given_clock() {
    let world = World::of(KeyAlgorithm::EcdsaP256);
    let relay = world.relay(RelayKind::Org);
    let server = world
        .authority
        .relay(relay, world.now)
        .expect("credentials")
        .pki;
    let client = world
        .authority
        .relay_probe(relay, None, world.now)
        .expect("credentials");
    let later = Clock::showing(|| SystemTime::now() + Duration::from_secs(1000 * 24 * 3600));
    let (now, host) = (Clock::new(), world.host.as_str());
    for (clocks, is_good) in [
        ([&now, &now], true),
        ([&later, &now], false),
        ([&now, &later], false),
    ] {
        let result = handshake_at(&server, &client, None, host, clocks).await;
        assert_eq!(result.is_ok(), is_good, "{result:?}");
    }
}

/// Runs a handshake over a pipe and returns the client's common name as the server sees it.
async fn handshake(
    server: &ServerPki,
    client: &ClientPki,
    alpn: Option<&str>,
    name: &str,
) -> std::io::Result<String> {
    let now = Clock::new();
    handshake_at(server, client, alpn, name, [&now, &now]).await
}

/// The same with the server's clock and the client's.
async fn handshake_at(
    server: &ServerPki,
    client: &ClientPki,
    alpn: Option<&str>,
    name: &str,
    clocks: [&Clock; 2],
) -> std::io::Result<String> {
    let services: Vec<&str> = alpn.into_iter().collect();
    let server = pki::tls::server(server, &services, clocks[0]).expect("a server's configuration");
    let client = pki::tls::client(client, &services, clocks[1]).expect("a client's configuration");
    let name = name.to_owned().try_into().expect("a name");
    let (near, far) = tokio::io::duplex(64 * 1024);
    let accept = async {
        let mut stream = tokio_rustls::TlsAcceptor::from(server).accept(far).await?;
        stream.write_all(b"ok").await?;
        stream.shutdown().await?;
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        Ok(pki::extensions::parse_common_name(&certificates[0]).expect("a name"))
    };
    let connect = async {
        let mut stream = tokio_rustls::TlsConnector::from(client)
            .connect(name, near)
            .await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await
    };
    let (accepted, connected) = tokio::join!(accept, connect);
    connected?;
    accepted
}

fn parse(der: &[u8]) -> X509Certificate<'_> {
    let (rest, certificate) = X509Certificate::from_der(der).expect("a certificate");
    assert!(rest.is_empty());
    certificate
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    use x509_parser::extensions::GeneralName;
    let names = certificate
        .subject_alternative_name()
        .expect("one")
        .expect("there");
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress([a, b, c, d]) => std::net::Ipv4Addr::new(*a, *b, *c, *d).to_string(),
        GeneralName::IPAddress(bytes) => {
            let bytes: [u8; 16] = (*bytes).try_into().expect("IPv6");
            std::net::Ipv6Addr::from(bytes).to_string()
        }
        other => panic!("unexpected name {other:?}"),
    };
    names.value.general_names.iter().map(text).collect()
}

/// Seconds from begin to end.
fn lifetime(certificate: &X509Certificate<'_>) -> i64 {
    let validity = certificate.validity();
    validity.not_after.timestamp() - validity.not_before.timestamp()
}

fn extension<'a>(certificate: &'a X509Certificate<'_>, suffix: &str) -> &'a str {
    let mut found = certificate
        .extensions()
        .iter()
        .filter(|extension| extension.oid.to_id_string().ends_with(suffix));
    let extension = found.next().expect("the extension");
    assert!(!extension.critical);
    assert!(found.next().is_none());
    std::str::from_utf8(extension.value).expect("raw JSON")
}

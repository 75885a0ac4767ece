//! A certificate authority for the relay's tests: everything that the platform would issue, and what it
//! never would.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use ssh_key::certificate::{Builder, CertType};
use ssh_key::private::Ed25519Keypair;
use ssh_key::{Certificate, LineEnding, PrivateKey};

use crate::api::types::{ClientPki, RelayCredentials, RelaySsh, ServerPki};
use crate::secret::Secret;
use crate::ssh::cert::HostPolicy;
use crate::ssh::keys::CertifiedKey;
use crate::ssh::{Keepalive, client};

/// The relay's name.
pub(super) const NAME: &str = "relay-1";
/// The relay's host.
pub(super) const HOST: &str = "127.0.0.1";
/// Limit for whatever a test waits for; reached only when it fails.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

const HOST_CA: u8 = 1;
const USER_CA: u8 = 2;
const HOST_KEY: u8 = 3;
const USER_KEY: u8 = 4;

/// All the platform's CAs.
pub(super) struct Authority {
    servers: CertifiedIssuer<'static, KeyPair>,
    clients: CertifiedIssuer<'static, KeyPair>,
}

/// A user certificate, good unless changed.
pub(super) struct UserCertificate {
    pub(super) ca: u8,
    pub(super) kind: CertType,
    pub(super) key_id: String,
    pub(super) principals: Vec<String>,
    pub(super) expired: bool,
}

impl UserCertificate {
    pub(super) fn of(gateway: &str) -> Self {
        Self {
            ca: USER_CA,
            kind: CertType::User,
            key_id: format!("client-{NAME}"),
            principals: vec![gateway.to_owned(), "gateway-name".to_owned()],
            expired: false,
        }
    }

    fn sign(&self) -> Certificate {
        certificate(self, USER_KEY)
    }
}

/// The CA of host certificates, as the signer of a [`UserCertificate`].
pub(super) const OTHER_ROLES_CA: u8 = HOST_CA;
/// A CA of nobody.
pub(super) const STRANGERS_CA: u8 = 99;

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

fn pem(seed: u8) -> Secret {
    Secret::new(key(seed).to_openssh(LineEnding::LF).expect("PEM").as_str())
}

fn certificate(what: &UserCertificate, subject: u8) -> Certificate {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    let end = if what.expired { now - 10 } else { now + 3600 };
    let public = key(subject).public_key().clone();
    let mut builder = Builder::new([7; 16], public, now - 3600, end).expect("a builder");
    builder.cert_type(what.kind).expect("a type");
    builder.key_id(what.key_id.clone()).expect("a key id");
    if what.principals.is_empty() {
        builder.all_principals_valid().expect("a list");
    }
    for principal in &what.principals {
        builder
            .valid_principal(principal.clone())
            .expect("a principal");
    }
    builder.sign(&key(what.ca)).expect("a signature")
}

fn issuer(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA")
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// PEM of a leaf and of its key.
fn leaf(
    issuer: &CertifiedIssuer<'static, KeyPair>,
    name: &str,
    hosts: &[&str],
    usage: ExtendedKeyUsagePurpose,
) -> (String, Secret) {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("names");
    params.distinguished_name = named(name);
    params.extended_key_usages = vec![usage];
    params.not_after = (SystemTime::now() + Duration::from_secs(3600)).into();
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, issuer).expect("a certificate");
    (certificate.pem(), Secret::new(key.serialize_pem()))
}

impl Authority {
    pub(super) fn new() -> Self {
        Self {
            servers: issuer("relay server CA"),
            clients: issuer("relay client CA"),
        }
    }

    /// Credentials R.
    pub(super) fn relay(&self) -> RelayCredentials {
        let host = UserCertificate {
            ca: HOST_CA,
            kind: CertType::Host,
            key_id: "relay-server".to_owned(),
            principals: vec![format!("{HOST}:2222")],
            expired: false,
        };
        let usage = ExtendedKeyUsagePurpose::ServerAuth;
        let (server_certificate, server_private_key) = leaf(&self.servers, "relay", &[HOST], usage);
        RelayCredentials {
            pki: ServerPki {
                server_certificate,
                server_private_key,
                client_certificate_chain: self.clients.as_ref().pem(),
            },
            ssh: RelaySsh {
                server_certificate: certificate(&host, HOST_KEY).to_openssh().expect("a line"),
                server_private_key: pem(HOST_KEY),
                client_ca_public_key: key(USER_CA).public_key().to_openssh().expect("a line"),
            },
        }
    }

    /// A user certificate as a line.
    pub(super) fn user_certificate_line(&self) -> String {
        UserCertificate::of("g")
            .sign()
            .to_openssh()
            .expect("a line")
    }

    /// What a client needs to reach the gateway `name`.
    pub(super) fn client(&self, name: &str) -> ClientPki {
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        let (client_certificate, client_private_key) = leaf(&self.clients, name, &[], usage);
        ClientPki {
            client_certificate,
            client_private_key,
            server_certificate_chain: self.servers.as_ref().pem(),
        }
    }

    /// The same from a CA that the relay does not know, which itself knows the relay's.
    pub(super) fn stranger(&self, name: &str) -> ClientPki {
        ClientPki {
            server_certificate_chain: self.servers.as_ref().pem(),
            ..Self::new().client(name)
        }
    }
}

/// How a gateway connects with `certificate` as the SSH user `user`.
pub(super) fn gateway(user: &str, certificate: &UserCertificate) -> client::Config {
    client::Config {
        user: user.to_owned(),
        identity: CertifiedKey::try_new(key(USER_KEY), certificate.sign()).expect("a pair"),
        host: HostPolicy {
            ca: key(HOST_CA).public_key().clone(),
            principal: format!("{HOST}:2222"),
        },
        keepalive: Keepalive::DEFAULT,
        handshake: LIMIT,
    }
}

/// A port of loopback that the kernel chose.
pub(super) fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

//! The leaf certificates of the gateway PKI and the relay PKI (protocol.md §4).
//!
//! Peers present their leaf only, so every chain given out holds all CAs above it.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SignatureAlgorithm,
};
use serde_json::json;
use time::OffsetDateTime;

use super::ca::Ca;
use super::{
    Actor, CLIENT_LIFETIME, CaRecord, Error, Issued, KeyAlgorithm, Organization, RelaySubject,
    SERVER_LIFETIME, Target, record, validity,
};
use crate::config::settings::RelayKind;
use crate::names::{GatewayId, GatewayName};
use crate::secret::Secret;

/// Extended key usage (RFC 5280 §4.2.1.12).
const EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];
/// `SEQUENCE { id-kp-serverAuth }`. Written by hand because it must be critical.
const SERVER_AUTH: &[u8] = b"\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01";
/// `SEQUENCE { id-kp-clientAuth }`.
const CLIENT_AUTH: &[u8] = b"\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x02";
/// Infisical's extensions (protocol.md §4): routing, actor, and the gateway's name.
const ROUTING: &[u64] = &[1, 3, 6, 1, 4, 1, 12345, 100, 1];
const ACTOR: &[u64] = &[1, 3, 6, 1, 4, 1, 12345, 100, 2];
const DETAIL: &[u64] = &[1, 3, 6, 1, 4, 1, 12345, 100, 3];

/// All X.509 CAs, ready to sign.
pub(super) struct X509 {
    algorithm: KeyAlgorithm,
    cas: Vec<(Ca, Loaded)>,
}

struct Loaded {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl std::fmt::Debug for X509 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("X509").finish_non_exhaustive()
    }
}

/// What a leaf certificate says.
struct Leaf<'a> {
    subject: &'a [(DnType, &'a str)],
    names: Vec<SanType>,
    usage: &'static [u8],
    extensions: &'a [(&'static [u64], serde_json::Value)],
    lifetime: Duration,
}

impl X509 {
    pub(super) fn load(algorithm: KeyAlgorithm, records: &[CaRecord]) -> Result<Self, Error> {
        let load = |ca: Ca| {
            let record = record(records, ca.name())?;
            let key =
                KeyPair::from_pem(record.private_key.expose()).map_err(wrap("read a CA key"))?;
            let issuer = Issuer::from_ca_cert_pem(&record.certificate, key)
                .map_err(wrap("read a CA certificate"))?;
            let certificate = record.certificate.clone();
            Ok((
                ca,
                Loaded {
                    issuer,
                    certificate,
                },
            ))
        };
        let cas = Ca::ALL
            .into_iter()
            .map(load)
            .collect::<Result<_, Error>>()?;
        Ok(Self { algorithm, cas })
    }

    fn ca(&self, ca: Ca) -> Result<&Loaded, Error> {
        self.cas
            .iter()
            .find(|(name, _)| *name == ca)
            .map(|(_, loaded)| loaded)
            .ok_or_else(|| Error::Missing(ca.name()))
    }

    /// `ca` and every CA above it, PEM.
    fn chain(&self, ca: Ca) -> Result<String, Error> {
        let mut chain = String::new();
        let mut next = Some(ca);
        while let Some(ca) = next {
            chain.push_str(&self.ca(ca)?.certificate);
            next = ca.issuer();
        }
        Ok(chain)
    }

    pub(super) fn gateway_client_anchors(&self) -> Result<String, Error> {
        self.chain(Ca::GatewayClient)
    }

    pub(super) fn gateway_server_anchors(&self) -> Result<String, Error> {
        self.chain(Ca::GatewayServer)
    }

    pub(super) fn relay_client_anchors(&self, kind: RelayKind) -> Result<String, Error> {
        self.chain(Ca::relay_client(kind))
    }

    pub(super) fn relay_server_anchors(&self, kind: RelayKind) -> Result<String, Error> {
        self.chain(Ca::relay_server(kind))
    }

    /// The server's certificate of TLS 2.
    pub(super) fn gateway_server(
        &self,
        organization: &Organization,
        now: SystemTime,
    ) -> Result<Issued, Error> {
        let leaf = Leaf {
            subject: &[
                (DnType::OrganizationName, &organization.id),
                (DnType::CommonName, "Gateway"),
            ],
            names: vec![
                SanType::DnsName(dns("localhost")?),
                SanType::IpAddress(IpAddr::from([127, 0, 0, 1])),
                SanType::IpAddress(IpAddr::from(std::net::Ipv6Addr::LOCALHOST)),
            ],
            usage: SERVER_AUTH,
            extensions: &[],
            lifetime: SERVER_LIFETIME,
        };
        self.issue(Ca::GatewayServer, leaf, now)
    }

    /// The client's certificate of TLS 2.
    pub(super) fn gateway_client(
        &self,
        organization: &Organization,
        gateway: &GatewayId,
        actor: &Actor,
        target: Target<'_>,
        now: SystemTime,
    ) -> Result<Issued, Error> {
        let (kind, actor) = match actor {
            Actor::Platform => ("platform", json!({"type": "platform"})),
            Actor::User { id, name } => {
                let known = [("id", id.as_deref()), ("name", name.as_deref())];
                let known = known.into_iter().chain([("type", Some("user"))]);
                let known = known.filter_map(|(key, value)| Some((key, value?)));
                ("user", known.collect())
            }
        };
        let (host, port) = (target.host, target.port);
        let routing = match target.addresses {
            [] => json!({"targetHost": host, "targetPort": port}),
            addresses => {
                json!({"targetHost": host, "targetPort": port, "targetAddresses": addresses})
            }
        };
        let leaf = Leaf {
            subject: &[
                (DnType::OrganizationName, &organization.id),
                (DnType::OrganizationalUnitName, "gateway-client"),
                (DnType::CommonName, &format!("{kind}:{gateway}")),
            ],
            names: Vec::new(),
            usage: CLIENT_AUTH,
            extensions: &[(ROUTING, routing), (ACTOR, actor)],
            lifetime: CLIENT_LIFETIME,
        };
        self.issue(Ca::GatewayClient, leaf, now)
    }

    /// The server's certificate of TLS 1.
    pub(super) fn relay_server(
        &self,
        organization: &Organization,
        relay: RelaySubject<'_>,
        now: SystemTime,
    ) -> Result<Issued, Error> {
        let host = relay.host.as_str();
        let ca = Ca::relay_server(relay.kind);
        let name = match host.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(dns(host)?),
        };
        let leaf = Leaf {
            subject: &[
                (DnType::OrganizationName, ca.owner(organization)),
                (DnType::OrganizationalUnitName, "relay-server"),
                // Not the host, which may be longer than a common name may be.
                (DnType::CommonName, relay.name.as_str()),
            ],
            names: vec![name],
            usage: SERVER_AUTH,
            extensions: &[],
            lifetime: SERVER_LIFETIME,
        };
        self.issue(ca, leaf, now)
    }

    /// The client's certificate of TLS 1; its common name `gateway` is where the relay sends it.
    pub(super) fn relay_client(
        &self,
        organization: &Organization,
        kind: RelayKind,
        gateway: &str,
        name: Option<&GatewayName>,
        now: SystemTime,
    ) -> Result<Issued, Error> {
        let owner = format!("{}-{}", organization.name, organization.id);
        let details: Vec<_> = name
            .map(|name| (DETAIL, json!({"name": name})))
            .into_iter()
            .collect();
        let leaf = Leaf {
            subject: &[
                (DnType::OrganizationName, &owner),
                (DnType::OrganizationalUnitName, "relay-client"),
                (DnType::CommonName, gateway),
            ],
            names: Vec::new(),
            usage: CLIENT_AUTH,
            extensions: &details,
            lifetime: CLIENT_LIFETIME,
        };
        self.issue(Ca::relay_client(kind), leaf, now)
    }

    fn issue(&self, ca: Ca, leaf: Leaf<'_>, now: SystemTime) -> Result<Issued, Error> {
        let key = generate_key(self.algorithm)?;
        let mut params = params(leaf.subject, leaf.lifetime, now)?;
        params.subject_alt_names = leaf.names;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages.push(KeyUsagePurpose::DigitalSignature);
        if self.algorithm == KeyAlgorithm::Rsa2048 {
            // For TLS 1.2 peers that still let the client encrypt the secret to the server's key.
            params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
        }
        let mut usage = CustomExtension::from_oid_content(EXTENDED_KEY_USAGE, leaf.usage.to_vec());
        usage.set_criticality(true);
        params.custom_extensions.push(usage);
        for (oid, value) in leaf.extensions {
            // Raw JSON, without further ASN.1 (protocol.md §4).
            let bytes = value.to_string().into_bytes();
            params
                .custom_extensions
                .push(CustomExtension::from_oid_content(oid, bytes));
        }
        let certificate = params
            .signed_by(&key, &self.ca(ca)?.issuer)
            .map_err(wrap("sign a certificate"))?
            .pem();
        Ok(Issued {
            certificate,
            private_key: Secret::new(key.serialize_pem()),
        })
    }
}

/// A certificate's subject and validity, and nothing else yet.
pub(super) fn params(
    subject: &[(DnType, &str)],
    lifetime: Duration,
    now: SystemTime,
) -> Result<CertificateParams, Error> {
    let (begin, end) = validity(now, lifetime)?;
    let time = |seconds: u64| {
        let seconds = i64::try_from(seconds).map_err(|_| Error::Time)?;
        OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| Error::Time)
    };
    let mut params = CertificateParams::default();
    params.not_before = time(begin)?;
    params.not_after = time(end)?;
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in subject {
        params.distinguished_name.push(kind.clone(), *value);
    }
    Ok(params)
}

pub(super) fn generate_key(algorithm: KeyAlgorithm) -> Result<KeyPair, Error> {
    let algorithm: &'static SignatureAlgorithm = match algorithm {
        KeyAlgorithm::EcdsaP256 | KeyAlgorithm::Ed25519 => &rcgen::PKCS_ECDSA_P256_SHA256,
        KeyAlgorithm::Rsa2048 => &rcgen::PKCS_RSA_SHA256,
    };
    KeyPair::generate_for(algorithm).map_err(wrap("generate a key"))
}

fn dns(name: &str) -> Result<Ia5String, Error> {
    Ia5String::try_from(name).map_err(wrap("write a host name"))
}

pub(super) fn wrap(action: &'static str) -> impl Fn(rcgen::Error) -> Error {
    move |source| Error::X509 { action, source }
}

//! X.509 authorities and leaves of any quality, shaped as protocol.md §4 says.

use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::{Value, json};
use time::OffsetDateTime;

const ROUTING: &[u64] = &[1, 3, 6, 1, 4, 1, 12345, 100, 1];
const ACTOR: &[u64] = &[1, 3, 6, 1, 4, 1, 12345, 100, 2];
const GATEWAY_NAME: &[u64] = &[1, 3, 6, 1, 4, 1, 12345, 100, 3];
const DAY: Duration = Duration::from_secs(86_400);

/// A certificate and its key, both PEM.
#[derive(Debug, Clone)]
pub struct Pem {
    pub certificate: String,
    pub key: String,
}

/// A certificate authority.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    /// A self-signed authority.
    pub fn root(name: &str) -> Self {
        let mut params = authority(name);
        // The deployed gateway root has none; anchors must work without.
        params.is_ca = IsCa::NoCa;
        let issuer = CertifiedIssuer::self_signed(params, key()).expect("a root");
        Self(issuer)
    }

    /// An authority signed by this one.
    pub fn intermediate(&self, name: &str) -> Self {
        let issuer = CertifiedIssuer::signed_by(authority(name), key(), &self.0);
        Self(issuer.expect("an intermediate"))
    }

    /// Its certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Signs a leaf.
    pub fn sign(&self, leaf: &Leaf) -> Pem {
        let key = key();
        let certificate = leaf.0.signed_by(&key, &self.0).expect("a leaf");
        Pem {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

fn key() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key")
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A leaf before it is signed.
pub struct Leaf(CertificateParams);

impl Leaf {
    fn new(common_name: &str, unit: &str, usage: ExtendedKeyUsagePurpose) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in [
            (DnType::OrganizationName, "org-test"),
            (DnType::OrganizationalUnitName, unit),
            (DnType::CommonName, common_name),
        ] {
            if !value.is_empty() {
                params.distinguished_name.push(kind, value);
            }
        }
        params.extended_key_usages = vec![usage];
        let now = OffsetDateTime::now_utc();
        params.not_before = now - Duration::from_secs(300);
        params.not_after = now + DAY;
        Self(params)
    }

    /// TLS 1 client: `common_name` is the gateway's id, the routing key.
    pub fn relay_client(common_name: &str) -> Self {
        Self::new(
            common_name,
            "relay-client",
            ExtendedKeyUsagePurpose::ClientAuth,
        )
        .extension(GATEWAY_NAME, json!({"name": "lab"}).to_string().as_bytes())
    }

    /// Of a client of another organization.
    pub fn of(mut self, organization: &str) -> Self {
        let subject = &mut self.0.distinguished_name;
        subject.push(DnType::OrganizationName, organization);
        self
    }

    /// TLS 1 server.
    pub fn relay_server(host: Ipv4Addr) -> Self {
        let mut leaf = Self::new(&host.to_string(), "", ExtendedKeyUsagePurpose::ServerAuth);
        leaf.0.subject_alt_names = vec![SanType::IpAddress(host.into())];
        leaf
    }

    /// TLS 2 client for a target.
    pub fn gateway_client(gateway_id: &str, target: (&str, u16)) -> Self {
        let route = json!({"targetHost": target.0, "targetPort": target.1});
        Self::gateway_client_without_route(gateway_id).routed(route.to_string().as_bytes())
    }

    /// TLS 2 client whose certificate names no target.
    pub fn gateway_client_without_route(gateway_id: &str) -> Self {
        let actor = json!({"type": "platform"}).to_string();
        Self::new(
            &format!("platform:{gateway_id}"),
            "gateway-client",
            ExtendedKeyUsagePurpose::ClientAuth,
        )
        .extension(ACTOR, actor.as_bytes())
    }

    /// With these common names, two at most.
    pub fn common_names(mut self, names: &[&str]) -> Self {
        let subject = &mut self.0.distinguished_name;
        // Each type may be there once, but this one has two spellings.
        let kinds = [DnType::CommonName, DnType::CustomDnType(vec![2, 5, 4, 3])];
        for (number, kind) in kinds.into_iter().enumerate() {
            subject.remove(kind.clone());
            if let Some(name) = names.get(number) {
                subject.push(kind, *name);
            }
        }
        self
    }

    /// TLS 2 server.
    pub fn gateway_server() -> Self {
        let mut leaf = Self::new("Gateway", "", ExtendedKeyUsagePurpose::ServerAuth);
        leaf.0.subject_alt_names = vec![
            SanType::DnsName("localhost".try_into().expect("a name")),
            SanType::IpAddress(Ipv4Addr::LOCALHOST.into()),
        ];
        leaf
    }

    /// Adds the routing extension with any content.
    pub fn routed(self, content: &[u8]) -> Self {
        self.extension(ROUTING, content)
    }

    fn extension(mut self, oid: &[u64], content: &[u8]) -> Self {
        let extension = CustomExtension::from_oid_content(oid, content.to_vec());
        self.0.custom_extensions.push(extension);
        self
    }

    /// On behalf of this actor.
    pub fn acting(mut self, actor: &Value) -> Self {
        let extensions = &mut self.0.custom_extensions;
        extensions.retain(|known| !known.oid_components().eq(ACTOR.iter().copied()));
        self.extension(ACTOR, actor.to_string().as_bytes())
    }

    /// No extended key usage at all.
    pub fn without_usage(mut self) -> Self {
        self.0.extended_key_usages.clear();
        self
    }

    /// The other role's extended key usage.
    pub fn with_server_usage(mut self) -> Self {
        self.0.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self
    }

    /// It expires after `life`.
    pub fn lasting(mut self, life: Duration) -> Self {
        self.0.not_after = OffsetDateTime::now_utc() + life;
        self
    }

    /// It is valid between these times.
    pub fn within(mut self, not_before: SystemTime, not_after: SystemTime) -> Self {
        self.0.not_before = not_before.into();
        self.0.not_after = not_after.into();
        self
    }

    /// Its time is over.
    pub fn expired(mut self) -> Self {
        let now = OffsetDateTime::now_utc();
        self.0.not_before = now - 2 * DAY;
        self.0.not_after = now - DAY;
        self
    }

    /// Its time has not come.
    pub fn not_yet_valid(mut self) -> Self {
        let now = OffsetDateTime::now_utc();
        self.0.not_before = now + DAY;
        self.0.not_after = now + 2 * DAY;
        self
    }
}

/// The relay's PKI.
pub struct RelayPki {
    root: Ca,
    relay: Ca,
    pub clients: Ca,
    pub servers: Ca,
}

impl Default for RelayPki {
    fn default() -> Self {
        Self::new()
    }
}

impl RelayPki {
    pub fn new() -> Self {
        let root = Ca::root("Test Relay Root CA");
        let relay = root.intermediate("Test Organization Relay CA");
        Self {
            clients: relay.intermediate("Test Relay Client CA"),
            servers: relay.intermediate("Test Relay Server CA"),
            root,
            relay,
        }
    }

    /// Anchors for TLS 1 clients.
    pub fn client_anchors(&self) -> String {
        self.clients.pem() + &self.relay.pem() + &self.root.pem()
    }

    /// Anchors for relays.
    pub fn server_anchors(&self) -> String {
        self.servers.pem() + &self.relay.pem() + &self.root.pem()
    }

    /// The `pki` of credentials R.
    pub fn credentials(&self, host: Ipv4Addr) -> Value {
        let leaf = self.servers.sign(&Leaf::relay_server(host));
        json!({
            "serverCertificate": leaf.certificate,
            "serverPrivateKey": leaf.key,
            "clientCertificateChain": self.client_anchors(),
        })
    }
}

/// The gateway's PKI.
pub struct GatewayPki {
    root: Ca,
    pub clients: Ca,
    pub servers: Ca,
}

impl Default for GatewayPki {
    fn default() -> Self {
        Self::new()
    }
}

impl GatewayPki {
    pub fn new() -> Self {
        let root = Ca::root("Infisical Gateway Root CA");
        Self {
            clients: root.intermediate("Test Gateway Client CA"),
            servers: root.intermediate("Test Gateway Server CA"),
            root,
        }
    }

    /// Anchors for TLS 2 clients.
    pub fn client_anchors(&self) -> String {
        self.clients.pem() + &self.root.pem()
    }

    /// Anchors for gateways.
    pub fn server_anchors(&self) -> String {
        self.servers.pem() + &self.root.pem()
    }

    /// The `pki` of credentials G.
    pub fn credentials(&self) -> Value {
        let leaf = self.servers.sign(&Leaf::gateway_server());
        json!({
            "serverCertificate": leaf.certificate,
            "serverPrivateKey": leaf.key,
            "clientCertificateChain": self.client_anchors(),
        })
    }
}

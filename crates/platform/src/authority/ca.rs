//! The X.509 CAs: who signs whom, and how they are made (protocol.md §4).
//!
//! ```text
//! gateway root ─┬─ gateway server CA ── gateways        relay root ─┬─ organization relay CA ─┬─ server CA
//!               └─ gateway client CA ── clients, TLS 2              │                         └─ client CA
//!                                                                   └─ instance relay CA ─┬─ server CA
//!                                                                                         └─ client CA
//! ```
//! The gateway root has key usage but no basic constraints, as the deployed platform's: the one who
//! verifies must take it as an anchor.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::x509::{generate_key, params, wrap};
use super::{CaRecord, Error, KeyAlgorithm, Organization};
use crate::config::settings::RelayKind;
use crate::secret::Secret;

/// CAs live as long as no one wants to think about them: 20 years.
pub(crate) const CA_LIFETIME: Duration = Duration::from_secs(20 * 365 * 24 * 3600);
/// The organization in the CAs that belong to the instance.
const INSTANCE: &str = "Infisical";

/// Subject key identifier (RFC 5280 §4.2.1.2).
const SUBJECT_KEY_ID: &[u64] = &[2, 5, 29, 14];

/// Every X.509 CA of the platform, each after its issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ca {
    GatewayRoot,
    GatewayServer,
    GatewayClient,
    RelayRoot,
    OrgRelay,
    OrgRelayServer,
    OrgRelayClient,
    InstanceRelay,
    InstanceRelayServer,
    InstanceRelayClient,
}

impl Ca {
    pub(super) const ALL: [Self; 10] = [
        Self::GatewayRoot,
        Self::GatewayServer,
        Self::GatewayClient,
        Self::RelayRoot,
        Self::OrgRelay,
        Self::OrgRelayServer,
        Self::OrgRelayClient,
        Self::InstanceRelay,
        Self::InstanceRelayServer,
        Self::InstanceRelayClient,
    ];

    /// Its name in the store.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::GatewayRoot => "gateway-root",
            Self::GatewayServer => "gateway-server",
            Self::GatewayClient => "gateway-client",
            Self::RelayRoot => "relay-root",
            Self::OrgRelay => "org-relay",
            Self::OrgRelayServer => "org-relay-server",
            Self::OrgRelayClient => "org-relay-client",
            Self::InstanceRelay => "instance-relay",
            Self::InstanceRelayServer => "instance-relay-server",
            Self::InstanceRelayClient => "instance-relay-client",
        }
    }

    fn common_name(self) -> &'static str {
        match self {
            Self::GatewayRoot => "Infisical Gateway Root CA",
            Self::GatewayServer => "Infisical Gateway Server CA",
            Self::GatewayClient => "Infisical Gateway Client CA",
            Self::RelayRoot => "Infisical Relay Root CA",
            Self::OrgRelay => "Infisical Organization Relay CA",
            Self::OrgRelayServer => "Infisical Organization Relay Server CA",
            Self::OrgRelayClient => "Infisical Organization Relay Client CA",
            Self::InstanceRelay => "Infisical Instance Relay CA",
            Self::InstanceRelayServer => "Infisical Instance Relay Server CA",
            Self::InstanceRelayClient => "Infisical Instance Relay Client CA",
        }
    }

    /// Who signs it; `None` signs itself.
    pub(super) fn issuer(self) -> Option<Self> {
        match self {
            Self::GatewayRoot | Self::RelayRoot => None,
            Self::GatewayServer | Self::GatewayClient => Some(Self::GatewayRoot),
            Self::OrgRelay | Self::InstanceRelay => Some(Self::RelayRoot),
            Self::OrgRelayServer | Self::OrgRelayClient => Some(Self::OrgRelay),
            Self::InstanceRelayServer | Self::InstanceRelayClient => Some(Self::InstanceRelay),
        }
    }

    /// How many CAs may follow below it; `None` omits basic constraints altogether.
    fn path_length(self) -> Option<u8> {
        match self {
            Self::GatewayRoot => None,
            Self::RelayRoot => Some(2),
            Self::OrgRelay | Self::InstanceRelay => Some(1),
            Self::GatewayServer
            | Self::GatewayClient
            | Self::OrgRelayServer
            | Self::OrgRelayClient
            | Self::InstanceRelayServer
            | Self::InstanceRelayClient => Some(0),
        }
    }

    /// The organization in its subject.
    pub(super) fn owner(self, organization: &Organization) -> &str {
        match self {
            Self::RelayRoot
            | Self::InstanceRelay
            | Self::InstanceRelayServer
            | Self::InstanceRelayClient => INSTANCE,
            Self::GatewayRoot
            | Self::GatewayServer
            | Self::GatewayClient
            | Self::OrgRelay
            | Self::OrgRelayServer
            | Self::OrgRelayClient => &organization.id,
        }
    }

    pub(super) fn relay_server(kind: RelayKind) -> Self {
        match kind {
            RelayKind::Org => Self::OrgRelayServer,
            RelayKind::Instance => Self::InstanceRelayServer,
        }
    }

    pub(super) fn relay_client(kind: RelayKind) -> Self {
        match kind {
            RelayKind::Org => Self::OrgRelayClient,
            RelayKind::Instance => Self::InstanceRelayClient,
        }
    }
}

/// Makes all CAs.
pub(super) fn generate(
    algorithm: KeyAlgorithm,
    organization: &Organization,
    now: SystemTime,
) -> Result<Vec<CaRecord>, Error> {
    let mut made: Vec<(Ca, Issuer<'static, KeyPair>)> = Vec::new();
    let mut records = Vec::new();
    for ca in Ca::ALL {
        let key = generate_key(algorithm)?;
        let params = ca_params(ca, organization, &key, now)?;
        let signed = match ca.issuer() {
            None => params.self_signed(&key),
            Some(issuer) => {
                let (_, issuer) = made
                    .iter()
                    .find(|(made, _)| *made == issuer)
                    .ok_or_else(|| Error::Missing(issuer.name()))?;
                params.signed_by(&key, issuer)
            }
        };
        let certificate = signed.map_err(wrap("sign a CA"))?.pem();
        records.push(CaRecord {
            name: ca.name().to_owned(),
            private_key: Secret::new(key.serialize_pem()),
            certificate,
        });
        made.push((ca, Issuer::new(params, key)));
    }
    Ok(records)
}

fn ca_params(
    ca: Ca,
    organization: &Organization,
    key: &KeyPair,
    now: SystemTime,
) -> Result<CertificateParams, Error> {
    let mut params = params(
        &[
            (DnType::OrganizationName, ca.owner(organization)),
            (DnType::CommonName, ca.common_name()),
        ],
        CA_LIFETIME,
        now,
    )?;
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = ca.issuer().is_some();
    match ca.path_length() {
        Some(length) => params.is_ca = IsCa::Ca(BasicConstraints::Constrained(length)),
        None => params.custom_extensions.push(key_id(&params, key)),
    }
    Ok(params)
}

/// The subject key identifier, which the library writes only beside basic constraints.
fn key_id(params: &CertificateParams, key: &KeyPair) -> CustomExtension {
    let id = params.key_identifier(key);
    // OCTET STRING; the identifier has 20 bytes, so one byte of length will do.
    let mut der = vec![0x04, u8::try_from(id.len()).unwrap_or(u8::MAX)];
    der.extend(id);
    CustomExtension::from_oid_content(SUBJECT_KEY_ID, der)
}

//! Everything that the platform signs: SSH certificates of gateways and relays, X.509 certificates
//! of gateways, relays and clients (protocol.md §2 and §4), and the CAs behind them.
//!
//! Invariants: a CA key is made once and kept by the store; each certificate has a key pair of its
//! own, which is handed out with it and not kept. Everything here computes: callers run it off the
//! async threads, since RSA keys take a while. Time is an argument.
//!
//! It does not decide who gets a certificate; the routes do.

mod ca;
mod ssh;
#[cfg(test)]
mod tests;
mod x509;

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::api::session_reports::SESSION_REPORTS;
pub(crate) use ca::CA_LIFETIME;

use crate::api::types::{
    ClientPki, GatewayCredentials, GatewaySsh, RelayCredentials, RelaySsh, ServerPki,
    SessionCredentials, TARGET_ADDRESSES,
};
use crate::config::settings::RelayKind;
use crate::names::{GatewayId, GatewayName, RelayHost, RelayName};
use crate::secret::Secret;

/// Certificates begin this long before they are issued, for peers whose clock is behind.
const BACKDATED: Duration = Duration::from_secs(5 * 60);
/// Lifetime of the certificates of gateways and relays (protocol.md §4), and of a gateway's SSH
/// certificate (§2).
pub(crate) const SERVER_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Lifetime of a relay's SSH host certificate (protocol.md §2).
const HOST_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// Lifetime of a client's certificates, which open connections and do not limit them.
const CLIENT_LIFETIME: Duration = Duration::from_secs(5 * 60);

/// Which keys the platform makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyAlgorithm {
    /// ECDSA on P-256 everywhere.
    EcdsaP256,
    /// Ed25519 for SSH. X.509 stays with ECDSA P-256, since many TLS peers cannot verify Ed25519.
    #[default]
    Ed25519,
    /// RSA with 2048 bits everywhere, as the deployed platform.
    Rsa2048,
}

impl KeyAlgorithm {
    /// The name on the command line and in the store.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "ecdsa-p256",
            Self::Ed25519 => "ed25519",
            Self::Rsa2048 => "rsa-2048",
        }
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A key algorithm that does not exist here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("key algorithms are ecdsa-p256, ed25519 and rsa-2048")]
pub struct UnknownAlgorithm;

impl FromStr for KeyAlgorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, UnknownAlgorithm> {
        [Self::EcdsaP256, Self::Ed25519, Self::Rsa2048]
            .into_iter()
            .find(|algorithm| algorithm.as_str() == text)
            .ok_or(UnknownAlgorithm)
    }
}

/// Why nothing could be signed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum Error {
    #[error("the SSH authority cannot {action}")]
    Ssh {
        action: &'static str,
        #[source]
        source: ssh_key::Error,
    },
    #[error("the X.509 authority cannot {action}")]
    X509 {
        action: &'static str,
        #[source]
        source: rcgen::Error,
    },
    #[error("cannot generate a key")]
    Generate,
    #[error("the store has no key of the {0} CA")]
    Missing(&'static str),
    #[error("the {0} CA's key in the store is unusable")]
    Unusable(&'static str),
    #[error("the clock shows a time that certificates cannot hold")]
    Time,
}

/// The one organization of an embedded platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organization {
    /// A UUID, forever.
    pub id: String,
    /// What a person called it.
    pub name: String,
}

/// A CA as the store keeps it.
#[derive(Debug, Clone)]
pub struct CaRecord {
    /// Which CA it is.
    pub name: String,
    /// PKCS#8 PEM, or OpenSSH PEM for SSH.
    pub private_key: Secret,
    /// PEM; empty for SSH, whose CAs are bare keys.
    pub certificate: String,
}

/// The relay that a certificate is for.
#[derive(Debug, Clone, Copy)]
pub struct RelaySubject<'a> {
    /// Whose relay it is.
    pub kind: RelayKind,
    /// Its name.
    pub name: &'a RelayName,
    /// Its host.
    pub host: &'a RelayHost,
}

/// The gateway that a certificate is for.
#[derive(Debug, Clone, Copy)]
pub struct GatewaySubject<'a> {
    /// Its id.
    pub id: &'a GatewayId,
    /// Its name.
    pub name: &'a GatewayName,
}

/// On whose behalf a client connects (protocol.md §4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// The platform itself, which a gateway lets use privileged actions.
    Platform,
    /// A person at the command line, as gateways name it in their records.
    User {
        /// The identity's id; the administrator has none.
        id: Option<String>,
        /// The identity's name, if it is still there.
        name: Option<String>,
    },
}

/// Where a client wants to go.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// As the gateway resolves it.
    pub host: &'a str,
    /// 0 where the service needs none.
    pub port: u16,
    /// Rules for the addresses that the gateway resolves the host to; none leaves them to it.
    pub addresses: &'a [String],
}

/// The CAs of one generation, ready to sign.
#[derive(Debug)]
struct Keys {
    generation: i64,
    ssh: ssh::Ssh,
    x509: x509::X509,
}

impl Keys {
    fn load(algorithm: KeyAlgorithm, generation: i64, records: &[CaRecord]) -> Result<Self, Error> {
        Ok(Self {
            generation,
            ssh: ssh::Ssh::load(algorithm, records)?,
            x509: x509::X509::load(algorithm, records)?,
        })
    }
}

/// All CAs of the platform: those that sign, and others whose anchors are handed out as well.
#[derive(Debug)]
pub struct Authority {
    algorithm: KeyAlgorithm,
    organization: Organization,
    signing: Keys,
    others: Vec<Keys>,
    /// How long certificates of gateways are good for.
    gateway_lifetime: Duration,
}

impl Authority {
    /// Makes all CAs of a new platform.
    ///
    /// # Errors
    /// No key can be made.
    pub(crate) fn generate(
        algorithm: KeyAlgorithm,
        organization: &Organization,
        now: SystemTime,
    ) -> Result<Vec<CaRecord>, Error> {
        let mut records = ssh::generate(algorithm)?;
        records.extend(ca::generate(algorithm, organization, now)?);
        Ok(records)
    }

    /// Reads the CAs that [`Self::generate`] made, as generation `generation`.
    ///
    /// # Errors
    /// One is missing or unreadable.
    pub(crate) fn load(
        algorithm: KeyAlgorithm,
        organization: Organization,
        generation: i64,
        records: &[CaRecord],
    ) -> Result<Self, Error> {
        Ok(Self {
            algorithm,
            organization,
            signing: Keys::load(algorithm, generation, records)?,
            others: Vec::new(),
            gateway_lifetime: SERVER_LIFETIME,
        })
    }

    /// The same, whose anchors are handed out as well.
    ///
    /// # Errors
    /// One is missing or unreadable.
    pub(crate) fn trusting(mut self, generation: i64, records: &[CaRecord]) -> Result<Self, Error> {
        let keys = Keys::load(self.algorithm, generation, records)?;
        self.others.push(keys);
        Ok(self)
    }

    /// The generation that signs.
    pub(crate) fn generation(&self) -> i64 {
        self.signing.generation
    }

    /// The newest generation whose anchors are handed out.
    pub(crate) fn newest_generation(&self) -> i64 {
        let others = self.others.iter().map(|keys| keys.generation);
        others.fold(self.signing.generation, i64::max)
    }

    /// Whether anchors of other generations than the one that signs are handed out.
    pub(crate) fn trusts_others(&self) -> bool {
        !self.others.is_empty()
    }

    /// How long certificates of gateways are good for.
    pub(crate) fn gateway_lifetime(&self) -> Duration {
        self.gateway_lifetime
    }

    /// The generation of SSH CAs for a gateway whose relay has credentials of the generation
    /// `relay`: that one, while it is kept.
    pub(crate) fn ssh_generation(&self, relay: Option<i64>) -> i64 {
        self.keys(relay).generation
    }

    /// The CAs of that generation, or those that sign.
    fn keys(&self, generation: Option<i64>) -> &Keys {
        let mut others = self.others.iter();
        let found = others.find(|keys| Some(keys.generation) == generation);
        found.unwrap_or(&self.signing)
    }

    /// The CAs for a client of peers that hold anchors up to the generation `held`, where that is not
    /// yet the one that signs.
    fn keys_for(&self, held: Option<i64>) -> &Keys {
        self.keys(held.filter(|held| *held < self.signing.generation))
    }

    /// Anchors of all generations, those that sign first.
    fn anchors(&self, of: impl Fn(&x509::X509) -> Result<String, Error>) -> Result<String, Error> {
        let keys = std::iter::once(&self.signing).chain(&self.others);
        keys.map(|keys| of(&keys.x509)).collect()
    }

    /// The same, with certificates of gateways that end sooner: tests wait for that end.
    #[must_use]
    pub(crate) fn with_gateway_lifetime(mut self, lifetime: Duration) -> Self {
        self.gateway_lifetime = lifetime.min(SERVER_LIFETIME);
        self
    }

    /// Which keys it makes.
    #[must_use]
    pub(crate) fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// The organization that it signs for.
    #[must_use]
    pub(crate) fn organization(&self) -> &Organization {
        &self.organization
    }

    /// Credentials G of `gateway` for a tunnel to `relay`, whose own credentials are of the
    /// generation `relay_generation`, if that is known: a program that takes one SSH CA only must have
    /// that of its peer.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) fn gateway(
        &self,
        gateway: GatewaySubject<'_>,
        relay: RelaySubject<'_>,
        relay_generation: Option<i64>,
        now: SystemTime,
    ) -> Result<GatewayCredentials, Error> {
        // As if issued some time ago: anyone who checks them sees certificates of the usual length.
        let spent = SERVER_LIFETIME.saturating_sub(self.gateway_lifetime);
        let now = now.checked_sub(spent).unwrap_or(now);
        let keys = self.keys(relay_generation);
        let ssh = keys.ssh.gateway(gateway, relay, now)?;
        let leaf = self.signing.x509.gateway_server(&self.organization, now)?;
        Ok(GatewayCredentials {
            gateway_id: gateway.id.clone(),
            name: Some(gateway.name.clone()),
            relay_host: relay.host.clone(),
            pki: ServerPki {
                server_certificate: leaf.certificate,
                server_private_key: leaf.private_key,
                client_certificate_chain: self.anchors(x509::X509::gateway_client_anchors)?,
            },
            ssh: GatewaySsh {
                client_certificate: ssh.certificate,
                client_private_key: ssh.private_key,
                server_ca_public_key: keys.ssh.host_ca().to_owned(),
            },
            accepted_capabilities: vec![TARGET_ADDRESSES.to_owned(), SESSION_REPORTS.to_owned()],
        })
    }

    /// Credentials R of `relay`.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) fn relay(
        &self,
        relay: RelaySubject<'_>,
        now: SystemTime,
    ) -> Result<RelayCredentials, Error> {
        let ssh = self.signing.ssh.relay(relay, now)?;
        let leaf = self
            .signing
            .x509
            .relay_server(&self.organization, relay, now)?;
        Ok(RelayCredentials {
            name: Some(relay.name.clone()),
            pki: ServerPki {
                server_certificate: leaf.certificate,
                server_private_key: leaf.private_key,
                client_certificate_chain: self
                    .anchors(|x509| x509.relay_client_anchors(relay.kind))?,
            },
            ssh: RelaySsh {
                server_certificate: ssh.certificate,
                server_private_key: ssh.private_key,
                client_ca_public_key: self.signing.ssh.user_ca().to_owned(),
            },
        })
    }

    /// What a client needs to reach `target` behind `gateway` through `relay`, which both hold anchors
    /// up to the generation `held`, if that is known.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) fn session(
        &self,
        gateway: GatewaySubject<'_>,
        relay: RelaySubject<'_>,
        actor: &Actor,
        target: Target<'_>,
        held: Option<i64>,
        now: SystemTime,
    ) -> Result<SessionCredentials, Error> {
        let keys = self.keys_for(held);
        let outer = keys.x509.relay_client(
            &self.organization,
            relay.kind,
            gateway.id.as_str(),
            Some(gateway.name),
            now,
        )?;
        let inner = keys
            .x509
            .gateway_client(&self.organization, gateway.id, actor, target, now)?;
        Ok(SessionCredentials {
            gateway_id: gateway.id.clone(),
            relay_host: relay.host.clone(),
            relay: self.relay_pki(relay.kind, outer)?,
            gateway: ClientPki {
                client_certificate: inner.certificate,
                client_private_key: inner.private_key,
                server_certificate_chain: self.anchors(x509::X509::gateway_server_anchors)?,
            },
            gateway_heartbeat: None,
        })
    }

    /// What the platform needs for TLS 1 with `relay` that ends there: its health check. The relay
    /// holds anchors up to the generation `held`, if that is known.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) fn relay_probe(
        &self,
        relay: RelaySubject<'_>,
        held: Option<i64>,
        now: SystemTime,
    ) -> Result<ClientPki, Error> {
        let no_one = GatewayId::HEALTH_CHECK;
        let leaf = self.keys_for(held).x509.relay_client(
            &self.organization,
            relay.kind,
            no_one,
            None,
            now,
        )?;
        self.relay_pki(relay.kind, leaf)
    }

    fn relay_pki(&self, kind: RelayKind, leaf: Issued) -> Result<ClientPki, Error> {
        Ok(ClientPki {
            client_certificate: leaf.certificate,
            client_private_key: leaf.private_key,
            server_certificate_chain: self.anchors(|x509| x509.relay_server_anchors(kind))?,
        })
    }
}

/// A certificate and the private key that was made for it.
#[derive(Debug)]
struct Issued {
    certificate: String,
    private_key: Secret,
}

/// Begin and end of a certificate issued at `now`, in seconds since 1970.
fn validity(now: SystemTime, lifetime: Duration) -> Result<(u64, u64), Error> {
    let now = now.duration_since(UNIX_EPOCH).map_err(|_| Error::Time)?;
    Ok((
        now.saturating_sub(BACKDATED).as_secs(),
        now.saturating_add(lifetime).as_secs(),
    ))
}

fn record<'a>(records: &'a [CaRecord], name: &'static str) -> Result<&'a CaRecord, Error> {
    records
        .iter()
        .find(|record| record.name == name)
        .ok_or(Error::Missing(name))
}

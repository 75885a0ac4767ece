//! Credentials G made ready to use: the SSH client's configuration and TLS 2's, all or nothing.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;

use super::service::Service;
use crate::agent::renew::RenewalTime;
use crate::api::types::GatewayCredentials;
use crate::clock::Clock;
use crate::names::{GatewayId, GatewayName, RelayHost, RelayName};
use crate::pki;
use crate::ssh::cert::HostPolicy;
use crate::ssh::keys::CertifiedKey;
use crate::ssh::{cert, client, keys};

/// Limit for the SSH handshake, authentication included; the same as deployed gateways give a
/// relay.
const SSH_HANDSHAKE: Duration = Duration::from_secs(30);
/// Credentials are renewed at least this often, as deployed gateways do (protocol.md §5).
const RENEW_AT_MOST: Duration = Duration::from_secs(6 * 3600);
/// Why credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A part of the SSH material.
    #[error("the platform's {field} cannot be used")]
    Ssh {
        /// The field of the API.
        field: &'static str,
        /// Why.
        #[source]
        source: keys::Error,
    },
    /// A part of the X.509 material.
    #[error("the platform's credentials for TLS cannot be used")]
    Pki(#[from] pki::Error),
}

/// What a gateway is to its relay and to its clients.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) gateway_id: GatewayId,
    /// What the platform calls the gateway, where it tells.
    pub(crate) gateway_name: Option<GatewayName>,
    pub(crate) relay_name: RelayName,
    pub(crate) relay_host: RelayHost,
    pub(crate) ssh: client::Config,
    pub(crate) tls: Arc<ServerConfig>,
    /// When the first of the certificates expires, by the platform's time.
    pub(crate) expires: SystemTime,
    /// When to ask for new ones.
    pub(crate) renewal: RenewalTime,
    clock: Clock,
}

impl Identity {
    /// Checks and prepares everything that the platform sent for `relay_name`.
    ///
    /// # Errors
    /// Names the first field that cannot be used.
    pub(crate) fn try_new(
        relay_name: RelayName,
        credentials: &GatewayCredentials,
        clock: &Clock,
    ) -> Result<Self, Error> {
        let ssh = |field| move |source| Error::Ssh { field, source };
        let certificate = keys::parse_certificate(&credentials.ssh.client_certificate)
            .map_err(ssh("ssh.clientCertificate"))?;
        let key = keys::parse_private_key(&credentials.ssh.client_private_key)
            .map_err(ssh("ssh.clientPrivateKey"))?;
        let ca = keys::parse_public_key(&credentials.ssh.server_ca_public_key)
            .map_err(ssh("ssh.serverCAPublicKey"))?;
        let ssh_expires = cert::expires(&certificate);
        // The principals are the id and, of an organization's relay, the name (protocol.md §2).
        let name = certificate.valid_principals().get(1);
        let name = name.and_then(|name| name.parse().ok());
        let identity =
            CertifiedKey::try_new(&key, certificate).map_err(ssh("ssh.clientPrivateKey"))?;

        let tls = pki::tls::server(&credentials.pki, &Service::ALPN, clock)?;
        let tls_expires =
            pki::expires("pki.serverCertificate", &credentials.pki.server_certificate)?;
        let expires = ssh_expires.map_or(tls_expires, |ssh| ssh.min(tls_expires));

        Ok(Self {
            gateway_id: credentials.gateway_id.clone(),
            gateway_name: credentials.name.clone().or(name),
            relay_name,
            relay_host: credentials.relay_host.clone(),
            ssh: client::Config {
                handshake: SSH_HANDSHAKE,
                clock: clock.clone(),
                ..client::Config::new(
                    credentials.gateway_id.to_string(),
                    identity,
                    HostPolicy {
                        ca,
                        principal: credentials.relay_host.host_principal(),
                    },
                )
            },
            tls,
            expires,
            renewal: RenewalTime::new(expires, RENEW_AT_MOST, clock),
            clock: clock.clone(),
        })
    }

    /// True if both are for the same gateway at the same relay: a tunnel made with one is good for
    /// the other.
    pub(crate) fn shares_tunnel_with(&self, other: &Self) -> bool {
        self.gateway_id == other.gateway_id && self.relay_host == other.relay_host
    }

    /// True while no certificate has expired.
    pub(crate) fn is_usable(&self) -> bool {
        self.clock.now() < self.expires
    }

    /// How long the certificates are still valid.
    pub(crate) fn expires_in(&self) -> Duration {
        let left = self.expires.duration_since(self.clock.now());
        left.unwrap_or_default()
    }
}

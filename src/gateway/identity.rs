//! Credentials G made ready to use: the SSH client's configuration and TLS 2's, all or nothing.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustls::ServerConfig;

use super::service::Service;
use crate::api::types::GatewayCredentials;
use crate::names::{GatewayId, RelayHost, RelayName};
use crate::ssh::cert::HostPolicy;
use crate::ssh::keys::CertifiedKey;
use crate::ssh::{cert, client, keys};
use crate::{backoff, pki};

/// Limit for the SSH handshake, authentication included; the same as deployed gateways give a relay.
const SSH_HANDSHAKE: Duration = Duration::from_secs(30);
/// Credentials are renewed at least this often, as deployed gateways do (protocol.md §5).
const RENEW_AT_MOST: Duration = Duration::from_secs(6 * 3600);
/// The part of their life after which they are renewed, in percent: a random one, so that gateways that
/// began together do not renew together, and always below two thirds.
const RENEW_PERCENT: std::ops::Range<u64> = 50..66;

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
    pub(crate) relay_name: RelayName,
    pub(crate) relay_host: RelayHost,
    pub(crate) ssh: client::Config,
    pub(crate) tls: Arc<ServerConfig>,
    /// When the first of the certificates expires, by this machine's clock.
    pub(crate) expires: SystemTime,
    /// When to ask for new ones. Monotonic: a jump of the clock does not delay it.
    pub(crate) renew_at: Instant,
}

impl Identity {
    /// Checks and prepares everything that the platform sent for `relay_name`.
    ///
    /// # Errors
    /// Names the first field that cannot be used.
    pub(crate) fn try_new(
        relay_name: RelayName,
        credentials: &GatewayCredentials,
    ) -> Result<Self, Error> {
        let ssh = |field| move |source| Error::Ssh { field, source };
        let certificate = keys::parse_certificate(&credentials.ssh.client_certificate)
            .map_err(ssh("ssh.clientCertificate"))?;
        let key = keys::parse_private_key(&credentials.ssh.client_private_key)
            .map_err(ssh("ssh.clientPrivateKey"))?;
        let ca = keys::parse_public_key(&credentials.ssh.server_ca_public_key)
            .map_err(ssh("ssh.serverCAPublicKey"))?;
        let ssh_expires = cert::expires(&certificate);
        let identity =
            CertifiedKey::try_new(&key, certificate).map_err(ssh("ssh.clientPrivateKey"))?;

        let tls = pki::tls::server(&credentials.pki, &Service::ALPN)?;
        let tls_expires =
            pki::expires("pki.serverCertificate", &credentials.pki.server_certificate)?;
        let expires = ssh_expires.map_or(tls_expires, |ssh| ssh.min(tls_expires));

        Ok(Self {
            gateway_id: credentials.gateway_id.clone(),
            relay_name,
            relay_host: credentials.relay_host.clone(),
            ssh: client::Config {
                handshake: SSH_HANDSHAKE,
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
            renew_at: renew_at(expires, backoff::random()),
        })
    }

    /// True if both are for the same gateway at the same relay: a tunnel made with one is good for the other.
    pub(crate) fn shares_tunnel_with(&self, other: &Self) -> bool {
        self.gateway_id == other.gateway_id && self.relay_host == other.relay_host
    }

    /// True while no certificate has expired.
    pub(crate) fn is_usable(&self) -> bool {
        SystemTime::now() < self.expires
    }
}

/// When to renew what was just received and expires at `expires`.
fn renew_at(expires: SystemTime, random: u64) -> Instant {
    let life = expires
        .duration_since(SystemTime::now())
        .unwrap_or(Duration::ZERO);
    let span = RENEW_PERCENT.end.saturating_sub(RENEW_PERCENT.start).max(1);
    let percent = RENEW_PERCENT.start.saturating_add(random % span);
    let part = life.saturating_mul(u32::try_from(percent).unwrap_or(50)) / 100;
    let now = Instant::now();
    now.checked_add(part.min(RENEW_AT_MOST)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::{RENEW_AT_MOST, renew_at};
    use std::time::{Duration, Instant, SystemTime};

    #[test]
    fn renewal_comes_before_two_thirds_of_the_life() {
        let life = Duration::from_secs(3600);
        for random in 0..200 {
            let expires = SystemTime::now() + life;
            let wait = renew_at(expires, random).duration_since(Instant::now());
            assert!(wait < life * 2 / 3 && wait > life * 49 / 100, "{wait:?}");
        }
    }

    #[test]
    fn long_lived_credentials_are_renewed_as_often_as_deployed_ones() {
        let expires = SystemTime::now() + Duration::from_secs(30 * 24 * 3600);
        assert!(renew_at(expires, 0).duration_since(Instant::now()) <= RENEW_AT_MOST);
    }

    #[test]
    fn expired_credentials_are_renewed_at_once() {
        let expires = SystemTime::now() - Duration::from_secs(60);
        assert!(renew_at(expires, 0) <= Instant::now());
    }
}

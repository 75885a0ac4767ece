//! Credentials G made ready to use: the SSH client's configuration and TLS 2's, all or nothing.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustls::ServerConfig;

use super::service::Service;
use crate::api::types::GatewayCredentials;
use crate::backoff::random;
use crate::clock::Clock;
use crate::names::{GatewayId, GatewayName, RelayHost, RelayName};
use crate::pki;
use crate::ssh::cert::HostPolicy;
use crate::ssh::keys::CertifiedKey;
use crate::ssh::{cert, client, keys};

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
    /// What the platform calls the gateway, where it tells.
    pub(crate) gateway_name: Option<GatewayName>,
    pub(crate) relay_name: RelayName,
    pub(crate) relay_host: RelayHost,
    pub(crate) ssh: client::Config,
    pub(crate) tls: Arc<ServerConfig>,
    /// When the first of the certificates expires, by the platform's time.
    pub(crate) expires: SystemTime,
    /// When to ask for new ones. Monotonic: a jump of the clock does not delay it.
    pub(crate) renew_at: Instant,
    /// The same by the platform's time, which goes on while the machine sleeps.
    renew_by: SystemTime,
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

        let now = clock.now();
        let keep = renew_after(expires.duration_since(now).unwrap_or_default(), random());
        let renew_at = Instant::now();
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
            renew_at: renew_at.checked_add(keep).unwrap_or(renew_at),
            renew_by: now.checked_add(keep).unwrap_or(now),
            clock: clock.clone(),
        })
    }

    /// True if both are for the same gateway at the same relay: a tunnel made with one is good for the other.
    pub(crate) fn shares_tunnel_with(&self, other: &Self) -> bool {
        self.gateway_id == other.gateway_id && self.relay_host == other.relay_host
    }

    /// True while no certificate has expired.
    pub(crate) fn is_usable(&self) -> bool {
        self.clock.now() < self.expires
    }

    /// True if it is time to ask for new ones, whatever the timers say that stood still while the machine slept.
    pub(crate) fn is_due(&self) -> bool {
        is_due(self.renew_at, self.renew_by, &self.clock)
    }
}

/// Whether either time has come.
fn is_due(at: Instant, by: SystemTime, clock: &Clock) -> bool {
    Instant::now() >= at || clock.now() >= by
}

/// How long to keep what lives for another `life`.
fn renew_after(life: Duration, random: u64) -> Duration {
    let span = RENEW_PERCENT.end.saturating_sub(RENEW_PERCENT.start).max(1);
    let percent = RENEW_PERCENT.start.saturating_add(random % span);
    // Divided first: certificates that never expire have lives near the type's end.
    let part = (life / 100).saturating_mul(u32::try_from(percent).unwrap_or(50));
    part.min(RENEW_AT_MOST)
}

#[cfg(test)]
mod tests {
    use super::{RENEW_AT_MOST, is_due, renew_after};
    use crate::clock::{Clock, Reading};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

    const HOUR: Duration = Duration::from_secs(3600);
    const BEGIN: u64 = 1_800_000_000;

    #[test]
    fn after_a_long_sleep_renewal_is_due_although_timers_stood_still() {
        let slept = Arc::new(AtomicU64::new(0));
        let passed = Arc::clone(&slept);
        let clock = Clock::of(move || Reading {
            system: UNIX_EPOCH + Duration::from_secs(BEGIN),
            since_boot: Some(Duration::from_secs(100 + passed.load(Ordering::Relaxed))),
        });
        clock.observe(UNIX_EPOCH + Duration::from_secs(BEGIN), clock.ask());
        let (at, by) = (Instant::now() + HOUR, clock.now() + HOUR);
        assert!(!is_due(at, by, &clock));
        slept.store(3599, Ordering::Relaxed);
        assert!(!is_due(at, by, &clock));
        slept.store(3601, Ordering::Relaxed);
        assert!(is_due(at, by, &clock));
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_delay_renewal() {
        let clock = Clock::showing(|| UNIX_EPOCH);
        let by = SystemTime::now() + HOUR;
        assert!(is_due(Instant::now(), by, &clock));
        assert!(!is_due(Instant::now() + HOUR, by, &clock));
    }

    #[test]
    fn renewal_comes_before_two_thirds_of_the_life() {
        let life = Duration::from_secs(3600);
        for random in 0..200 {
            let wait = renew_after(life, random);
            assert!(wait < life * 2 / 3 && wait > life * 49 / 100, "{wait:?}");
        }
    }

    #[test]
    fn long_lived_credentials_are_renewed_as_often_as_deployed_ones() {
        for life in [Duration::from_secs(30 * 24 * 3600), Duration::MAX] {
            assert_eq!(renew_after(life, 0), RENEW_AT_MOST);
        }
    }

    #[test]
    fn expired_credentials_are_renewed_at_once() {
        assert_eq!(renew_after(Duration::ZERO, 7), Duration::ZERO);
    }
}

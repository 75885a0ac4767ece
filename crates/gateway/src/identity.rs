//! Credentials G made ready to use: the SSH client's configuration and TLS 2's, all or nothing.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use ssh_key::certificate::CertType;

use super::service::Service;
use crate::agent::credentials::{Error, Ssh};
use crate::agent::renew::Lifetime;
use crate::agent::status::{RelayAddress, Reporter};
use crate::api::types::GatewayCredentials;
use crate::clock::Clock;
use crate::names::{GatewayId, GatewayName, RelayHost, RelayName};
use crate::pki;
use crate::ssh::cert::HostPolicy;
use crate::ssh::client;

/// Limit for the SSH handshake, authentication included; the same as deployed gateways give a
/// relay.
const SSH_HANDSHAKE: Duration = Duration::from_secs(30);
/// Credentials are renewed at least this often, as deployed gateways do (protocol.md §5).
const RENEW_AT_MOST: Duration = Duration::from_secs(6 * 3600);
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
    /// Until the first of the certificates expires.
    pub(crate) lifetime: Lifetime,
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
        let given = &credentials.ssh;
        let ssh = Ssh::try_new(
            CertType::User,
            ("ssh.clientCertificate", &given.client_certificate),
            ("ssh.clientPrivateKey", &given.client_private_key),
            ("ssh.serverCAPublicKey", &given.server_ca_public_key),
        )?;
        // The principals are the id and, of an organization's relay, the name (protocol.md §2).
        let name = ssh.certificate.valid_principals().get(1);
        let name = name.and_then(|name| name.parse().ok());
        let tls = pki::tls::server(&credentials.pki, &Service::ALPN, clock)?;
        let expires = ssh.first_expiry(&credentials.pki)?;

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
                    ssh.key,
                    HostPolicy {
                        ca: ssh.ca,
                        principal: credentials.relay_host.host_principal(),
                    },
                )
            },
            tls,
            lifetime: Lifetime::new(expires, RENEW_AT_MOST, clock),
        })
    }

    /// Tells `reporter` of it.
    pub(crate) fn report(&self, reporter: &Reporter) {
        let name = self.gateway_name.as_ref().map(GatewayName::as_str);
        let id = self.gateway_id.as_str();
        reporter.credentials(self.lifetime.clone(), name, Some(id));
        reporter.address(RelayAddress::new(&self.relay_host, &self.ssh.host.ca));
    }

    /// True if both are for the same gateway at the same relay: a tunnel made with one is good for
    /// the other.
    pub(crate) fn shares_tunnel_with(&self, other: &Self) -> bool {
        self.gateway_id == other.gateway_id && self.relay_host == other.relay_host
    }
}

#[cfg(test)]
mod tests {
    use super::RENEW_AT_MOST;
    use std::time::Duration;

    #[test]
    fn renewal_interval_is_the_deployed_gateways() {
        assert_eq!(RENEW_AT_MOST, Duration::from_secs(21_600));
    }
}

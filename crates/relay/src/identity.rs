//! Credentials R made ready to use: the SSH server's configuration and TLS 1's, all or nothing.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use ssh_key::PublicKey;
use ssh_key::certificate::CertType;

use crate::agent::credentials::{self, Ssh};
use crate::agent::renew::Lifetime;
use crate::agent::status::{RelayAddress, Reporter};
use crate::api::types::RelayCredentials;
use crate::clock::Clock;
use crate::names::{RelayHost, RelayName, SSH_PORT};
use crate::pki;
use crate::ssh::cert::UserPolicy;
use crate::ssh::server;

/// Limit for everything a gateway does before it has authenticated.
const SSH_HANDSHAKE: Duration = Duration::from_secs(10);
/// Credentials are renewed at least this often.
const RENEW_AT_MOST: Duration = Duration::from_secs(24 * 3600);

/// Why credentials cannot be used. Each names the field of the API.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A part that cannot be read.
    #[error(transparent)]
    Unreadable(#[from] credentials::Error),
    /// A certificate without the address that gateways verify.
    #[error(
        "the platform's ssh.serverCertificate names no host; give the relay's host with --host"
    )]
    NoHost,
}

impl From<pki::Error> for Error {
    fn from(error: pki::Error) -> Self {
        Self::Unreadable(error.into())
    }
}

/// What a relay is to its gateways and clients.
#[derive(Debug)]
pub(crate) struct Identity {
    /// Where gateways and clients reach it.
    pub(crate) host: RelayHost,
    pub(crate) ssh: server::Config,
    pub(crate) tls: Arc<ServerConfig>,
    /// Until the first of the certificates expires.
    pub(crate) lifetime: Lifetime,
    /// Where gateways find it, and whose host certificate it shows them.
    address: RelayAddress,
}

impl Identity {
    /// Checks and prepares everything that the platform sent to the relay `name` at `host`; without
    /// a host it is the one that the host certificate names.
    ///
    /// # Errors
    /// Names the first field that cannot be used.
    pub(crate) fn try_new(
        name: &RelayName,
        host: Option<&RelayHost>,
        credentials: &RelayCredentials,
        clock: &Clock,
    ) -> Result<Self, Error> {
        let given = &credentials.ssh;
        let ssh = Ssh::try_new(
            CertType::Host,
            ("ssh.serverCertificate", &given.server_certificate),
            ("ssh.serverPrivateKey", &given.server_private_key),
            ("ssh.clientCAPublicKey", &given.client_ca_public_key),
        )?;
        let host = match host {
            Some(host) => host.clone(),
            None => host_of(&ssh.certificate).ok_or(Error::NoHost)?,
        };
        let principal = host.host_principal();
        if !ssh.certificate.valid_principals().contains(&principal) {
            // Gateways decide, not we; but the operator should not have to learn it from them.
            tracing::warn!(
                relay.name = %name,
                due = principal,
                found = ?ssh.certificate.valid_principals(),
                "the host certificate is for another address; gateways will refuse it; {}",
                right_host(&ssh.certificate)
            );
        }
        let (field, pem) = ("pki.serverCertificate", &credentials.pki.server_certificate);
        if !pki::is_for(field, pem, host.as_str())? {
            tracing::warn!(
                relay.name = %name,
                relay.host = %host,
                "the TLS certificate is for another address; clients will refuse it; \
                 --host must be the relay's host on the platform"
            );
        }
        let tls = pki::tls::server(&credentials.pki, &[], clock)?;
        let expires = ssh.first_expiry(&credentials.pki)?;
        let host_ca = PublicKey::from(ssh.certificate.signature_key().clone());

        Ok(Self {
            address: RelayAddress::new(&host, &host_ca),
            host,
            ssh: server::Config {
                handshake: SSH_HANDSHAKE,
                clock: clock.clone(),
                ..server::Config::new(
                    ssh.key,
                    UserPolicy {
                        ca: ssh.ca,
                        key_id: name.client_key_id(),
                    },
                )
            },
            tls,
            lifetime: Lifetime::new(expires, RENEW_AT_MOST, clock),
        })
    }

    /// Tells `reporter` of it.
    pub(crate) fn report(&self, reporter: &Reporter) {
        reporter.credentials(self.lifetime.clone(), None, None);
        reporter.address(self.address.clone());
    }
}

/// The host that a host certificate is for (protocol.md §2).
fn host_of(certificate: &ssh_key::Certificate) -> Option<RelayHost> {
    let port = format!(":{SSH_PORT}");
    let mut principals = certificate.valid_principals().iter();
    principals.find_map(|principal| principal.strip_suffix(&port)?.parse().ok())
}

/// What to do about a host certificate for another address.
fn right_host(certificate: &ssh_key::Certificate) -> String {
    match host_of(certificate) {
        Some(host) => {
            format!("start this relay with --host {host}, or give the platform this relay's host")
        }
        None => "--host must be the relay's host on the platform".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Error, Identity, RENEW_AT_MOST};
    use crate::api::types::RelayCredentials;
    use crate::clock::Clock;
    use crate::secret::Secret;
    use crate::testing::{Authority, HOST, NAME};
    use std::time::Duration;

    fn read(credentials: &RelayCredentials) -> Result<Identity, Error> {
        let name = NAME.parse().expect("a name");
        let host = HOST.parse().expect("a host");
        Identity::try_new(&name, Some(&host), credentials, &Clock::new())
    }

    #[test]
    fn good_credentials_are_ready_to_use() {
        let identity = read(&Authority::new().relay()).expect("an identity");
        assert!(!identity.lifetime.is_due());
        assert_eq!(identity.ssh.users.key_id, format!("client-{NAME}"));
    }

    #[test]
    fn renewal_interval_is_a_day() {
        assert_eq!(RENEW_AT_MOST, Duration::from_secs(86_400));
    }

    #[test]
    fn enrolled_relay_reads_host_from_certificate() {
        let name = NAME.parse().expect("a name");
        let credentials = Authority::new().relay();
        let identity = Identity::try_new(&name, None, &credentials, &Clock::new());
        assert_eq!(identity.expect("an identity").host.as_str(), HOST);
    }

    #[test]
    fn unusable_field_is_named() {
        type Spoil = fn(&mut RelayCredentials);
        let cases: [(&str, Spoil); 7] = [
            ("ssh.serverCertificate", |c| {
                c.ssh.server_certificate.clear();
            }),
            ("ssh.serverPrivateKey", |c| {
                c.ssh.server_private_key = Secret::new("no key");
            }),
            ("ssh.clientCAPublicKey", |c| {
                c.ssh.client_ca_public_key.clear();
            }),
            ("pki.serverCertificate", |c| {
                c.pki.server_certificate.clear();
            }),
            ("pki.serverPrivateKey", |c| {
                c.pki.server_private_key = Secret::new("no key");
            }),
            ("pki.clientCertificateChain", |c| {
                c.pki.client_certificate_chain.clear();
            }),
            ("host certificate", |c| {
                c.ssh.server_certificate = Authority::new().user_certificate_line();
            }),
        ];
        for (field, spoil) in cases {
            let mut credentials = Authority::new().relay();
            spoil(&mut credentials);
            let error = read(&credentials).expect_err(field);
            let text = crate::error::chain(&error).to_string();
            assert!(text.contains(field), "{field}: {text}");
        }
    }
}

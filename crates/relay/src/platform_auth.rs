//! How the relay proves itself to the platform: which endpoints it calls, and with which token.

use std::path::{Path, PathBuf};

use crate::agent::access::call;
use crate::agent::last_known_good::Fingerprint;
use crate::api::login::{TokenExpiry, TokenSource};
use crate::api::types::{HeartbeatAnswer, RegisterRelay, RelayCredentials};
use crate::api::{self, Client};
use crate::clock::Clock;
use crate::config::credential::Credential;
use crate::config::settings::{RelayCredential, RelayKind, RelaySettings};
use crate::error::Class;
use crate::events::{self, Event};
use crate::names::{RelayHost, RelayName};
use crate::secret::Secret;

/// The relay as the platform knows it.
#[derive(Debug, Clone)]
pub(crate) struct PlatformAuth {
    client: Client,
    name: RelayName,
    host: Option<RelayHost>,
    proof: Proof,
    source: TokenSource,
    /// The file that may hold the access token.
    store: PathBuf,
}

/// Which endpoints it calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// A machine identity registers an organization's relay.
    Identity,
    /// The instance's secret registers a relay of the instance.
    Instance,
    /// The relay was enrolled and has a token of its own.
    Enrolled,
}

impl PlatformAuth {
    /// For a relay that need not enroll; `None` for one that must.
    pub(crate) fn of(client: &Client, settings: &RelaySettings) -> Option<Self> {
        let (proof, source) = match &settings.credential {
            RelayCredential::Own(Credential::Identity(credential)) => {
                let source = TokenSource::new(client.clone(), credential.clone());
                (Proof::Identity, source)
            }
            RelayCredential::AuthSecret(secret) => (
                Proof::Instance,
                TokenSource::given("instance", secret.clone()),
            ),
            RelayCredential::Own(Credential::AccessToken(token)) => {
                return Some(Self::enrolled(client, settings, token.clone()));
            }
            RelayCredential::Own(Credential::Machine(enrollment)) => {
                let (domain, store) = (&settings.common.domain, &settings.common.store);
                let source =
                    TokenSource::machine(client.clone(), enrollment.clone(), domain, store);
                (Proof::Enrolled, source)
            }
            RelayCredential::Own(Credential::Enroll { .. }) => return None,
        };
        Some(Self::new(client, settings, proof, source))
    }

    /// For a relay whose enrollment obtained `token`.
    pub(crate) fn enrolled(client: &Client, settings: &RelaySettings, token: Secret) -> Self {
        let source = TokenSource::given("relay", token);
        Self::new(client, settings, Proof::Enrolled, source)
    }

    /// The platform's time.
    pub(crate) fn clock(&self) -> &Clock {
        self.client.clock()
    }

    fn new(client: &Client, settings: &RelaySettings, proof: Proof, source: TokenSource) -> Self {
        Self {
            client: client.clone(),
            name: settings.name.clone(),
            host: settings.host.clone(),
            proof,
            source,
            store: settings.common.store.clone(),
        }
    }

    /// When its access token expires, now and later.
    pub(crate) fn token_expiry(&self) -> TokenExpiry {
        self.source.expiry()
    }

    /// What the platform knows the relay by.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        let [kind, id, secret] = self.source.parts();
        let (base, name) = (self.client.base(), self.name.as_str());
        Fingerprint::of(&[base, name, kind, id, secret])
    }

    pub(crate) fn name(&self) -> &RelayName {
        &self.name
    }

    /// The file that holds the access token of an enrolled relay.
    pub(crate) fn store(&self) -> Option<&Path> {
        (self.proof == Proof::Enrolled).then_some(&self.store)
    }

    /// Where gateways and clients reach it; `None` if only the platform knows.
    pub(crate) fn host(&self) -> Option<&RelayHost> {
        self.host.as_ref()
    }

    /// The event that credentials R were issued.
    pub(crate) fn issued(&self) -> Event {
        match self.proof {
            Proof::Identity | Proof::Instance => events::RELAY_REGISTERED,
            Proof::Enrolled => events::RELAY_CONNECTED,
        }
    }

    /// Asks for credentials R.
    ///
    /// # Errors
    /// With the class that says what to do about it.
    pub(crate) async fn credentials(&self) -> Result<RelayCredentials, (api::Error, Class)> {
        let request = self.host.clone().map(|host| RegisterRelay {
            host,
            name: self.name.clone(),
        });
        call(&self.source, |token| async move {
            match (self.proof, request) {
                (Proof::Identity, Some(request)) => {
                    self.client.register_org_relay(&token, &request).await
                }
                (Proof::Instance, Some(request)) => {
                    self.client.register_instance_relay(&token, &request).await
                }
                // Without a host it is enrolled ([`is_consistent`]).
                (Proof::Enrolled, _) | (_, None) => self.client.relay_connect(&token).await,
            }
        })
        .await
    }

    /// Sends a heartbeat; success proves that the platform reaches the relay's TLS port.
    ///
    /// # Errors
    /// With the class that says what to do about it.
    pub(crate) async fn heartbeat(&self) -> Result<HeartbeatAnswer, (api::Error, Class)> {
        let (client, name) = (&self.client, &self.name);
        call(&self.source, |token| async move {
            match self.proof {
                Proof::Identity => client.relay_heartbeat_org(&token, name).await,
                Proof::Instance => client.relay_heartbeat_instance(&token, name).await,
                Proof::Enrolled => client.relay_heartbeat(&token).await,
            }
        })
        .await
    }
}

/// True if the kind of the relay and what it proves itself with belong together, and a relay that
/// must register its host has one.
pub(crate) fn is_consistent(settings: &RelaySettings) -> bool {
    match &settings.credential {
        RelayCredential::Own(Credential::Identity(_)) => {
            settings.kind == RelayKind::Org && settings.host.is_some()
        }
        RelayCredential::AuthSecret(_) => {
            settings.kind == RelayKind::Instance && settings.host.is_some()
        }
        RelayCredential::Own(_) => true,
    }
}

/// The usual file of the relay `name`, beside that of `settings`; `None` if that one is not the
/// usual one of its own name, or if the file is there already.
pub(crate) fn store_of(settings: &RelaySettings, name: &RelayName) -> Option<PathBuf> {
    let usual = |name: &RelayName| format!("{name}.conf");
    let file = settings.common.store.file_name()?;
    let store = settings.common.store.with_file_name(usual(name));
    (file == usual(&settings.name).as_str() && store.symlink_metadata().is_err()).then_some(store)
}

//! How the relay proves itself to the platform: which endpoints it calls, and with which token.
//!
//! An enrollment token is spent at most once: the file that will keep the access token is proved
//! writable before, and what the token bought is on the disk before anything else is done with it.

use std::path::{Path, PathBuf};

use crate::agent::known::Fingerprint;
use crate::api::login::TokenSource;
use crate::api::types::{RegisterRelay, RelayCredentials};
use crate::api::{self, Client};
use crate::clock::Clock;
use crate::config::env::Variable;
use crate::config::file;
use crate::config::role::RELAY;
use crate::config::settings::{ApiBase, RelayCredential, RelayKind, RelaySettings};
use crate::error::{Class, Reason};
use crate::events::{self, Event};
use crate::names::{RelayHost, RelayName};
use crate::secret::Secret;

/// The access token of an enrolled relay cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be changed.
    #[error(transparent)]
    File(#[from] file::Error),
    /// The write did not come to an end.
    #[error("the write was interrupted")]
    Interrupted(#[source] tokio::task::JoinError),
}

impl StoreError {
    /// Why it ends a start.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::File(error) => error.reason_unwritable(),
            Self::Interrupted(_) => Reason::Unavailable,
        }
    }
}

/// The relay as the platform knows it.
#[derive(Debug, Clone)]
pub(crate) struct Access {
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

impl Access {
    /// For a relay that need not enroll; `None` for one that must.
    pub(crate) fn of(client: &Client, settings: &RelaySettings) -> Option<Self> {
        let (proof, source) = match &settings.credential {
            RelayCredential::Identity(credential) => {
                let source = TokenSource::new(client.clone(), credential.clone());
                (Proof::Identity, source)
            }
            RelayCredential::AuthSecret(secret) => (
                Proof::Instance,
                TokenSource::given("instance", secret.clone()),
            ),
            RelayCredential::AccessToken(token) => {
                return Some(Self::enrolled(client, settings, token.clone()));
            }
            RelayCredential::Machine(enrollment) => {
                let (enrollment, store) = (enrollment.clone(), &settings.store);
                let source =
                    TokenSource::machine(client.clone(), enrollment, &settings.domain, store);
                (Proof::Enrolled, source)
            }
            RelayCredential::Enroll { .. } => return None,
        };
        Some(Self::new(client, settings, proof, source))
    }

    /// For a relay whose enrollment bought `token`.
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
            store: settings.store.clone(),
        }
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
        let token = self.token().await?;
        let request = self.host.clone().map(|host| RegisterRelay {
            host,
            name: self.name.clone(),
        });
        let result = match (self.proof, request) {
            (Proof::Identity, Some(request)) => {
                self.client.register_org_relay(&token, &request).await
            }
            (Proof::Instance, Some(request)) => {
                self.client.register_instance_relay(&token, &request).await
            }
            // Without a host it is enrolled ([`is_consistent`]).
            (Proof::Enrolled, _) | (_, None) => self.client.relay_connect(&token).await,
        };
        self.classed(result, &token).await
    }

    /// Sends a heartbeat; success proves that the platform reaches the relay's TLS port.
    ///
    /// # Errors
    /// With the class that says what to do about it.
    pub(crate) async fn heartbeat(&self) -> Result<(), (api::Error, Class)> {
        let token = self.token().await?;
        let result = match self.proof {
            Proof::Identity => self.client.relay_heartbeat_org(&token, &self.name).await,
            Proof::Instance => {
                let heartbeat = self.client.relay_heartbeat_instance(&token, &self.name);
                heartbeat.await
            }
            Proof::Enrolled => self.client.relay_heartbeat(&token).await,
        };
        self.classed(result, &token).await
    }

    async fn token(&self) -> Result<Secret, (api::Error, Class)> {
        match self.source.token().await {
            Ok(token) => Ok(token),
            Err(error) => {
                let class = self.source.class(&error, None).await;
                Err((error, class))
            }
        }
    }

    async fn classed<T>(
        &self,
        result: Result<T, api::Error>,
        token: &Secret,
    ) -> Result<T, (api::Error, Class)> {
        match result {
            Ok(value) => Ok(value),
            Err(error) => {
                let class = self.source.class(&error, Some(token)).await;
                Err((error, class))
            }
        }
    }
}

/// True if the kind of the relay and what it proves itself with belong together, and a relay that
/// must register its host has one.
pub(crate) fn is_consistent(settings: &RelaySettings) -> bool {
    match &settings.credential {
        RelayCredential::Identity(_) => settings.kind == RelayKind::Org && settings.host.is_some(),
        RelayCredential::AuthSecret(_) => {
            settings.kind == RelayKind::Instance && settings.host.is_some()
        }
        RelayCredential::AccessToken(_)
        | RelayCredential::Machine(_)
        | RelayCredential::Enroll { .. } => true,
    }
}

/// The usual file of the relay `name`, beside that of `settings`; `None` if that one is not the
/// usual one of its own name, or if the file is there already.
pub(crate) fn store_of(settings: &RelaySettings, name: &RelayName) -> Option<PathBuf> {
    let usual = |name: &RelayName| format!("{name}.conf");
    let file = settings.store.file_name()?;
    let store = settings.store.with_file_name(usual(name));
    (file == usual(&settings.name).as_str() && store.symlink_metadata().is_err()).then_some(store)
}

/// Proves that `store` can be written before the token is spent. The domain is only written with
/// the token: one that is stored already must not be sent to the new platform.
///
/// # Errors
/// See [`StoreError`].
pub(crate) async fn prepare(store: &Path) -> Result<(), StoreError> {
    let store = store.to_owned();
    let proved = tokio::task::spawn_blocking(move || file::prove_writable(&store)).await;
    Ok(proved.map_err(StoreError::Interrupted)??)
}

/// Saves what the enrollment token bought. The spent token is kept beside it, so that the same
/// command run again starts the relay instead of enrolling it again.
///
/// # Errors
/// See [`StoreError`].
pub(crate) async fn save(
    store: &Path,
    domain: &ApiBase,
    spent: &Secret,
    access: &Secret,
) -> Result<(), StoreError> {
    let changes = RELAY.exchanged(domain, access.clone(), spent.clone());
    update(store.to_owned(), changes.to_vec()).await
}

/// The disk may be slow, and must not hold up the runtime.
async fn update(
    store: PathBuf,
    changes: Vec<(&'static Variable, Secret)>,
) -> Result<(), StoreError> {
    let write = move || {
        let changes: Vec<_> = changes.iter().map(|(key, value)| (*key, value)).collect();
        file::update(&store, &changes)
    };
    let written = tokio::task::spawn_blocking(write).await;
    Ok(written.map_err(StoreError::Interrupted)??)
}

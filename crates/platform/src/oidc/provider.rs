//! The OpenID provider: its endpoints and its keys, found by discovery (OpenID Connect Discovery
//! §4), and requests to it.
//!
//! What was found is kept for an hour, and longer while the provider does not answer. A key that is
//! not among those kept has them read again, at the rate [`KEY_LOOKUPS`], so that tokens of strangers
//! cause no requests without end.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::Settings;
use super::id_token::Keys;
use crate::api::provider_client::{ProviderAnswer, ProviderError, get, post_form};
use crate::error::printable;
use crate::limit::{Limiter, Rate};

/// How long what was found is used without another look.
const MAX_AGE: Duration = Duration::from_secs(3600);
/// Lookups because of a key that is not known. A provider that changes its keys right after a lookup
/// shuts no one out.
const KEY_LOOKUPS: Rate = Rate {
    burst: 5,
    refill: Duration::from_secs(60),
};
/// Time between two looks at a provider that did not answer.
const RETRY: Duration = Duration::from_secs(5);
/// Longest text of the provider that is shown, in characters.
const MAX_SHOWN: usize = 300;

/// Why the provider did not do its part.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Client(Arc<ProviderError>),
    #[error("the OpenID provider answered {status} at {url}")]
    Status { url: String, status: u16 },
    #[error("the answer of the OpenID provider at {url} is not what the standard says")]
    Answer {
        url: String,
        #[source]
        source: Arc<serde_json::Error>,
    },
    #[error("the OpenID provider calls itself {found:?}; --oidc-issuer must be exactly that")]
    OtherIssuer { found: String },
    #[error("the OpenID provider's endpoint {0:?} is not HTTPS")]
    Endpoint(String),
    #[error("the OpenID provider offers no login on another device")]
    NoDevice,
    #[error("the OpenID provider refused: {code}{description}")]
    Refused {
        /// Of RFC 6749 §5.2 or RFC 8628 §3.5.
        code: String,
        description: String,
    },
}

impl Error {
    /// True if the provider answered that this login does not succeed, rather than failed.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            // The others are about the platform as a client, or about the provider itself.
            Self::Refused { code, .. } => {
                let of_the_login = ["invalid_grant", "access_denied", "expired_token"];
                of_the_login.contains(&code.as_str())
            }
            Self::Client(_)
            | Self::Status { .. }
            | Self::Answer { .. }
            | Self::OtherIssuer { .. }
            | Self::Endpoint(_)
            | Self::NoDevice => false,
        }
    }
}

impl From<ProviderError> for Error {
    fn from(error: ProviderError) -> Self {
        Self::Client(Arc::new(error))
    }
}

/// What is used of a provider's metadata.
#[derive(Debug, Clone, Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    device_authorization_endpoint: Option<String>,
    #[serde(default)]
    scopes_supported: Vec<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

/// What was found of a provider.
#[derive(Debug)]
pub(super) struct Metadata {
    pub(super) authorization_endpoint: url::Url,
    pub(super) token_endpoint: String,
    device_authorization_endpoint: Option<String>,
    /// It wants the client's secret in the form, not in a header.
    wants_secret_in_form: bool,
    /// It knows the scope `groups`.
    pub(super) has_groups_scope: bool,
    pub(super) keys: Keys,
    read_at: Instant,
}

/// The provider that the settings name.
#[derive(Debug)]
pub(super) struct Provider {
    settings: Settings,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    current: Option<Arc<Metadata>>,
    failed: Option<(Error, Instant)>,
    key_lookups: Limiter<()>,
}

/// Tokens that were issued (RFC 6749 §5.1).
#[derive(Deserialize)]
pub(super) struct Tokens {
    pub(super) access_token: String,
    pub(super) id_token: Option<String>,
}

/// They are secrets.
impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

/// An error that the standard has a form for.
#[derive(Debug, Deserialize)]
struct Refusal {
    error: String,
    error_description: Option<Value>,
}

impl Provider {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            state: Mutex::new(State {
                current: None,
                failed: None,
                key_lookups: Limiter::new(KEY_LOOKUPS),
            }),
        }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What is known of the provider, looked up if need be. Cancel-safe: the next caller looks again.
    pub(super) async fn metadata(&self) -> Result<Arc<Metadata>, Error> {
        // Held while asking, so that everyone who waits shares one lookup.
        let state = self.state.lock().await;
        match &state.current {
            Some(current) if current.read_at.elapsed() < MAX_AGE => Ok(Arc::clone(current)),
            _ => self.look_up(state).await,
        }
    }

    /// The same, looked up again: a key was not among those of `known`.
    pub(super) async fn metadata_with_new_keys(
        &self,
        known: &Metadata,
    ) -> Result<Arc<Metadata>, Error> {
        let mut state = self.state.lock().await;
        if let Some(current) = state.current.clone() {
            let is_newer = current.read_at > known.read_at;
            let now = Instant::now().into_std();
            if is_newer || state.key_lookups.attempt((), now).is_err() {
                return Ok(current);
            }
        }
        self.look_up(state).await
    }

    /// Looks the provider up; where it does not answer, what was found before stays in use.
    async fn look_up(&self, mut state: MutexGuard<'_, State>) -> Result<Arc<Metadata>, Error> {
        if let Some((error, at)) = &state.failed
            && at.elapsed() < RETRY
        {
            return state.current.clone().ok_or_else(|| error.clone());
        }
        match self.discover().await {
            Ok(found) => {
                let found = Arc::new(found);
                state.current = Some(Arc::clone(&found));
                state.failed = None;
                Ok(found)
            }
            Err(error) => {
                tracing::warn!(
                    issuer = self.settings.issuer,
                    error = %crate::error::chain(&error),
                    "cannot look up the OpenID provider"
                );
                state.failed = Some((error.clone(), Instant::now()));
                state.current.clone().ok_or(error)
            }
        }
    }

    async fn discover(&self) -> Result<Metadata, Error> {
        let issuer = &self.settings.issuer;
        let base = issuer.trim_end_matches('/');
        let url = format!("{base}/.well-known/openid-configuration");
        let document: Document = self.read(&url).await?;
        if document.issuer != *issuer {
            return Err(Error::OtherIssuer {
                found: shown(&document.issuer),
            });
        }
        let is_plain = issuer.starts_with("http://");
        let endpoint = |text: &str| {
            let url = url::Url::parse(text).map_err(|_| Error::Endpoint(shown(text)))?;
            match url.scheme() {
                "https" => Ok(url),
                // Where the provider itself is reached so: on this machine.
                "http" if is_plain => Ok(url),
                _ => Err(Error::Endpoint(shown(text))),
            }
        };
        for url in [&document.token_endpoint, &document.jwks_uri] {
            endpoint(url)?;
        }
        if let Some(url) = &document.device_authorization_endpoint {
            endpoint(url)?;
        }
        let methods = document.token_endpoint_auth_methods_supported;
        // By default it is the header (OpenID Connect Discovery §3).
        let wants_secret_in_form = methods.is_some_and(|methods| {
            let has = |name: &str| methods.iter().any(|method| method == name);
            has("client_secret_post") && !has("client_secret_basic")
        });
        Ok(Metadata {
            authorization_endpoint: endpoint(&document.authorization_endpoint)?,
            token_endpoint: document.token_endpoint,
            device_authorization_endpoint: document.device_authorization_endpoint,
            wants_secret_in_form,
            has_groups_scope: document
                .scopes_supported
                .iter()
                .any(|scope| scope == "groups"),
            keys: self.read(&document.jwks_uri).await?,
            read_at: Instant::now(),
        })
    }

    /// Reads `url`, once more if there is no answer.
    async fn read<T: DeserializeOwned>(&self, url: &str) -> Result<T, Error> {
        let proxies = &self.settings.proxies;
        let answer = match get(url, proxies).await {
            Err(ProviderError::Unreachable { .. }) => get(url, proxies).await,
            answer => answer,
        };
        let answer = answer?;
        if !answer.is_success {
            return Err(Error::Status {
                url: url.to_owned(),
                status: answer.status,
            });
        }
        content(url, &answer)
    }

    /// Asks for tokens with `grant`.
    pub(super) async fn tokens(
        &self,
        metadata: &Metadata,
        grant: &[(&str, &str)],
    ) -> Result<Tokens, Error> {
        self.post(metadata, &metadata.token_endpoint, grant).await
    }

    /// Begins a login on another device.
    pub(super) async fn device<T: DeserializeOwned>(
        &self,
        metadata: &Metadata,
        form: &[(&str, &str)],
    ) -> Result<T, Error> {
        let url = metadata.device_authorization_endpoint.as_ref();
        self.post(metadata, url.ok_or(Error::NoDevice)?, form).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        metadata: &Metadata,
        url: &str,
        form: &[(&str, &str)],
    ) -> Result<T, Error> {
        let Settings {
            client_id,
            client_secret,
            proxies,
            ..
        } = &self.settings;
        let mut form = form.to_vec();
        form.push(("client_id", client_id));
        let mut header = client_secret
            .as_ref()
            .map(|secret| (client_id.as_str(), secret));
        if metadata.wants_secret_in_form
            && let Some((_, secret)) = header.take()
        {
            form.push(("client_secret", secret.expose()));
        }
        let answer = post_form(url, proxies, &form, header).await?;
        if answer.is_success {
            return content(url, &answer);
        }
        match serde_json::from_slice::<Refusal>(&answer.body) {
            Ok(refusal) => Err(Error::Refused {
                code: shown(&refusal.error),
                description: match refusal.error_description {
                    Some(Value::String(text)) => format!(" ({})", shown(&text)),
                    Some(_) | None => String::new(),
                },
            }),
            Err(_) => Err(Error::Status {
                url: url.to_owned(),
                status: answer.status,
            }),
        }
    }
}

fn content<T: DeserializeOwned>(url: &str, answer: &ProviderAnswer) -> Result<T, Error> {
    serde_json::from_slice(&answer.body).map_err(|source| Error::Answer {
        url: url.to_owned(),
        source: Arc::new(source),
    })
}

/// A text of the provider, as errors show it.
pub(super) fn shown(text: &str) -> String {
    printable(text).chars().take(MAX_SHOWN).collect()
}

//! The relay's credentials: enrolled for once, registered for at the start, renewed before they
//! expire.
//!
//! The start is as patient as any later time: what may pass is tried again without end. A renewal
//! that fails keeps the old credentials; new ones serve new handshakes at once, and live sessions
//! are kept.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::identity::{self, Identity};
use super::platform_auth::{self, PlatformAuth};
use crate::agent::enroll::{self, Store};
use crate::agent::last_known_good::LastKnownGood;
use crate::agent::refusals::{REFUSALS_BELIEVED, REFUSED_RETRY_INTERVAL};
use crate::agent::reload::{apply_newest, log_refused};
use crate::agent::renew::NotIssued;
use crate::agent::status::Reporter;
use crate::agent::status::condition::NOT_REGISTERED;
use crate::api::{self, Client};
use crate::backoff::{self, Backoff};
use crate::config::credential::Credential;
use crate::config::role::RELAY;
use crate::config::settings::{RelayCredential, RelaySettings};
use crate::error::{Class, Reason, chain, kind};
use crate::log_throttle::LogThrottle;
use crate::names::RelayName;
use crate::scope::Scope;
use crate::secret::Secret;
use crate::trust;
use crate::{event, events};

/// Delays between attempts at the start.
const START: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Least delay after an answer that cannot be used: another one may be better, but not soon.
const AFTER_NONSENSE: Duration = Duration::from_secs(10);
/// Least wait after a refusal of a relay that has worked, until refusals are believed.
const AFTER_REFUSAL: Duration = Duration::from_secs(30);

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The relay is not enrolled.
    #[error(transparent)]
    Enroll(#[from] enroll::Error),
    /// There are no credentials. The source says whose refusal it is: a login that this machine
    /// cannot prepare is not the platform's.
    #[error("{0}")]
    Refused(#[source] Box<api::Error>, Class),
    /// The relay has another name on the platform, and gateways are only let in with that one.
    #[error(
        "the platform knows this relay as {platform}, and its gateways' certificates say so; \
         start it with --name {platform}{}", with_config(.config.as_deref())
    )]
    OtherName {
        /// The platform's.
        platform: RelayName,
        /// The configuration that holds the access token, unless it is the usual one of that name.
        config: Option<PathBuf>,
    },
    /// What the platform gave cannot be used.
    #[error(transparent)]
    Identity(#[from] identity::Error),
}

impl Error {
    /// Whose fault it is; decides the exit code.
    #[must_use]
    pub(crate) fn reason(&self) -> Reason {
        let of = |class: Class| match class {
            Class::Fatal(reason) => reason,
            Class::Reauthenticate | Class::Reenroll => Reason::Permission,
            Class::Retry | Class::RetryAfter(_) => Reason::Unavailable,
        };
        match self {
            Self::Enroll(error) => error.reason(),
            Self::Refused(_, class) => of(*class),
            Self::OtherName { .. } | Self::Identity(_) => Reason::Configuration,
        }
    }

    /// What it is, without what changes from one time to the next: for keeping the log quiet.
    fn kind(&self) -> String {
        match self {
            Self::Enroll(error) => error.kind(),
            Self::Refused(error, _) => error.kind(),
            Self::OtherName { .. } | Self::Identity(_) => kind(self),
        }
    }

    /// What to do about it.
    fn class(&self) -> Class {
        match self {
            Self::Enroll(error) => Class::Fatal(error.reason()),
            Self::Refused(_, class) => *class,
            Self::OtherName { .. } => Class::Fatal(Reason::Configuration),
            Self::Identity(_) => Class::RetryAfter(AFTER_NONSENSE),
        }
    }
}

/// The flag for a configuration that is not the usual one.
fn with_config(config: Option<&Path>) -> String {
    config.map_or_else(String::new, |path| format!(" --config {}", path.display()))
}

/// The delay before the next attempt, or `None` if only a person can help.
fn next(class: Class, backoff: &mut Backoff) -> Option<Duration> {
    let at_least = match class {
        Class::Retry | Class::Reauthenticate => Duration::ZERO,
        Class::RetryAfter(wait) => wait,
        Class::Reenroll | Class::Fatal(_) => return None,
    };
    Some(at_least.saturating_add(backoff.next_delay(backoff::random())))
}

/// Enrolls where that is due and asks for the first credentials, with all the patience it takes.
/// `None` if `scope` was cancelled meanwhile.
///
/// # Errors
/// What only a person can cure.
pub(crate) async fn begin(
    client: &Client,
    settings: &RelaySettings,
    last_known_good: &LastKnownGood,
    reporter: &Reporter,
    scope: &Scope,
) -> Result<Option<(PlatformAuth, Identity)>, Error> {
    let Some(auth) = open(client, settings, scope).await? else {
        return Ok(None);
    };
    reporter.token(auth.token_expiry());
    // A relay that has worked as it is asks again after a refusal: no one may be there to start it.
    let has_worked = last_known_good.has(&auth.fingerprint());
    let mut refusals = 0_u32;
    let mut backoff = Backoff::new(START.0, START.1);
    let throttle = LogThrottle::for_retries();
    loop {
        let Some(result) = scope.run(ask(&auth)).await else {
            return Ok(None);
        };
        let error = match result {
            Ok(identity) => return Ok(Some((auth, identity))),
            Err(Error::Refused(error, Class::Fatal(_) | Class::Reenroll)) if has_worked => {
                refusals = refusals.saturating_add(1);
                let is_final = refusals >= REFUSALS_BELIEVED;
                let wait = if is_final {
                    REFUSED_RETRY_INTERVAL
                } else {
                    AFTER_REFUSAL
                };
                Error::Refused(error, Class::RetryAfter(wait))
            }
            Err(error) => error,
        };
        let retrying = |error, after| reporter.retrying(&NOT_REGISTERED, error, after);
        if !wait(&error, &mut backoff, &throttle, retrying, scope).await {
            return cancelled_or(error, scope);
        }
    }
}

/// The authentication of the settings, obtained with the enrollment token if that is what there is.
async fn open(
    client: &Client,
    settings: &RelaySettings,
    scope: &Scope,
) -> Result<Option<PlatformAuth>, Error> {
    let RelayCredential::Own(Credential::Enroll { token }) = &settings.credential else {
        return Ok(PlatformAuth::of(client, settings));
    };
    let issued = spend(client, settings, token, scope).await?;
    Ok(issued.map(|token| PlatformAuth::enrolled(client, settings, token)))
}

/// Spends the enrollment token of `settings`, if that is their credential, and starts nothing.
/// False if `scope` was cancelled before the platform answered.
///
/// # Errors
/// What only a person can cure.
pub async fn exchange(settings: &RelaySettings, scope: &Scope) -> Result<bool, super::Error> {
    let RelayCredential::Own(Credential::Enroll { token }) = &settings.credential else {
        return Ok(true);
    };
    let client = super::client(settings)?;
    let token = spend(&client, settings, token, scope).await?;
    Ok(token.is_some())
}

/// Exchanges the enrollment token for an access token, and saves that.
async fn spend(
    client: &Client,
    settings: &RelaySettings,
    token: &Secret,
    scope: &Scope,
) -> Result<Option<Secret>, Error> {
    let mut store = Store {
        role: &RELAY,
        file: &settings.common.store,
        domain: &settings.common.domain,
    };
    let mut retrying = |_, _| ();
    let login = || client.relay_login(token);
    let login = store.exchange(client.base(), login, &mut retrying, scope);
    let Some(login) = login.await? else {
        return Ok(None);
    };
    let other = login.name.filter(|name| *name != settings.name);
    // The token is spent, so the access token is kept where the relay finds it under the right
    // name.
    let renamed = other
        .as_ref()
        .and_then(|name| platform_auth::store_of(settings, name));
    store.file = renamed.as_deref().unwrap_or(&settings.common.store);
    let kept = store.keep(&login.access_token, token, &mut retrying, scope);
    kept.await?;
    if let Some(platform) = other {
        let config = renamed.is_none().then(|| settings.common.store.clone());
        return Err(Error::OtherName { platform, config });
    }
    event!(
        events::ENROLLED,
        relay.name = %settings.name,
        store = %settings.common.store.display()
    );
    Ok(Some(login.access_token))
}

/// Logs the failure and waits; false if there is nothing to wait for or `scope` was
/// cancelled.
async fn wait(
    error: &Error,
    backoff: &mut Backoff,
    throttle: &LogThrottle,
    retrying: impl FnOnce(String, Duration),
    scope: &Scope,
) -> bool {
    let attempt = backoff.attempts().saturating_add(1);
    let Some(delay) = next(error.class(), backoff) else {
        return false;
    };
    let (error, class) = (chain(error).to_string(), error.kind());
    let (event, delay_ms) = (events::RELAY_NOT_REGISTERED, delay.as_millis());
    if let Some(permission) = throttle.should_log(event.text, &class) {
        event!(
            event,
            error,
            attempt,
            delay_ms,
            suppressed = permission.suppressed()
        );
    } else {
        tracing::debug!(error, attempt, delay_ms, "{event}");
    }
    retrying(error, delay);
    scope.run(tokio::time::sleep(delay)).await.is_some()
}

/// After [`wait`] said no: either the scope is cancelled or the error is final.
fn cancelled_or<T>(error: Error, scope: &Scope) -> Result<Option<T>, Error> {
    if scope.is_cancelled() {
        Ok(None)
    } else {
        Err(error)
    }
}

async fn ask(auth: &PlatformAuth) -> Result<Identity, Error> {
    let credentials = auth.credentials().await;
    let credentials =
        credentials.map_err(|(error, class)| Error::Refused(Box::new(error), class))?;
    if let Some(platform) = credentials
        .name
        .as_ref()
        .filter(|name| *name != auth.name())
    {
        return Err(Error::OtherName {
            platform: platform.clone(),
            config: auth.store().map(Path::to_owned),
        });
    }
    let (name, host) = (auth.name(), auth.host());
    Ok(Identity::try_new(name, host, &credentials, auth.clock())?)
}

/// Follows `settings`, so that the platform is asked as they say from then on: new ones become a
/// new one of `auths`; those that cannot be used are logged, and leave everything as it is. Ends
/// when `scope` is cancelled.
pub(crate) async fn reload(
    mut settings: watch::Receiver<RelaySettings>,
    auths: watch::Sender<Arc<PlatformAuth>>,
    reporter: Reporter,
    scope: Scope,
) {
    let mut used = settings.borrow().clone();
    while scope.changed(&mut settings).await {
        trust::reload().await;
        let wanted = settings.borrow_and_update().clone();
        if wanted == used {
            continue;
        }
        let bound = |of: &RelaySettings| (of.ssh_listen, of.tls_listen, of.limits);
        if bound(&wanted) != bound(&used) {
            tracing::warn!(
                "other addresses to listen at and other limits are used after a restart only"
            );
        }
        let applying = apply_newest(&mut settings, &scope, |wanted, attempt| async move {
            let auth = auth_for(&wanted, &attempt).await?;
            Ok::<_, super::Error>(auth.map(|auth| (auth, wanted)))
        });
        match applying.await {
            // Newer ones came first, or the relay stops.
            Ok(None) => {}
            Ok(Some((auth, wanted))) => {
                reporter.token(auth.token_expiry());
                auths.send_replace(Arc::new(auth));
                reporter.configuration(None);
                used = wanted;
            }
            Err(error) => reporter.configuration(Some(log_refused(&error))),
        }
    }
}

async fn auth_for(
    settings: &RelaySettings,
    scope: &Scope,
) -> Result<Option<PlatformAuth>, super::Error> {
    if !platform_auth::is_consistent(settings) {
        return Err(super::Error::Contradiction);
    }
    Ok(open(&super::client(settings)?, settings, scope).await?)
}

/// New credentials with `auth`, which `reporter` receives.
pub(crate) async fn renew(
    auth: Arc<PlatformAuth>,
    reporter: Reporter,
) -> Result<Arc<Identity>, NotIssued> {
    match ask(&auth).await {
        Ok(identity) => {
            identity.report(&reporter);
            Ok(Arc::new(identity))
        }
        Err(error) => Err(NotIssued {
            kind: error.kind(),
            class: error.class(),
            error: error.into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::{AFTER_NONSENSE, Error, next};
    use crate::backoff::Backoff;
    use crate::error::{Class, Reason};
    use crate::identity;
    use std::time::Duration;

    #[test]
    fn class_alone_decides_on_retry() {
        let mut backoff = Backoff::new(Duration::ZERO, Duration::ZERO);
        let wait = Duration::from_secs(7);
        for (class, delay) in [
            (Class::Retry, Some(Duration::ZERO)),
            (Class::Reauthenticate, Some(Duration::ZERO)),
            (Class::RetryAfter(wait), Some(wait)),
            (Class::Reenroll, None),
            (Class::Fatal(Reason::Permission), None),
            (Class::Fatal(Reason::Configuration), None),
        ] {
            assert_eq!(next(class, &mut backoff), delay, "{class:?}");
        }
    }

    #[test]
    fn unusable_credentials_are_requested_again() {
        let error = Error::from(identity::Error::NoHost);
        assert_eq!(error.class(), Class::RetryAfter(AFTER_NONSENSE));
        assert_eq!(error.reason(), Reason::Configuration);
    }
}

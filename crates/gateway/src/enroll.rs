//! The first start with a one-time enrollment token: it buys the gateway's own access token, which is
//! saved before anything else can fail. The file is proved writable before the token is spent.

use std::path::Path;
use std::time::Duration;

use super::Error;
use crate::api::Client;
use crate::api::types::GatewayLogin;
use crate::backoff::{self, Backoff};
use crate::config::settings::{ApiBase, GatewayCredential, GatewaySettings};
use crate::config::{file, role};
use crate::error::{Class, chain, kind};
use crate::events;
use crate::log_throttle::LogThrottle;
use crate::names::{GatewayId, GatewayName};
use crate::scope::Scope;
use crate::secret::Secret;
use crate::trust;

/// Delays between attempts to spend an enrollment token while the platform is away.
const BASE: Duration = Duration::from_millis(500);
const CAP: Duration = Duration::from_secs(30);

/// How an exchange ended that did not fail.
#[derive(Debug)]
pub enum Exchange {
    /// Nothing is to be exchanged.
    NotNeeded,
    /// The access token is saved; with the gateway's name, from platforms that tell it.
    Done(Option<GatewayName>),
    /// The scope was cancelled before the platform answered.
    Cancelled,
}

/// Spends the enrollment token of `settings`, if that is their credential, and starts nothing;
/// `retrying` hears of each failed attempt.
///
/// # Errors
/// What only a person can cure.
pub async fn exchange(
    settings: &GatewaySettings,
    retrying: impl FnMut(String, Duration),
    scope: &Scope,
) -> Result<Exchange, Error> {
    let GatewayCredential::Enroll { token } = &settings.credential else {
        return Ok(Exchange::NotNeeded);
    };
    let roots = trust::roots().use_ca_file(settings.ca_file.as_ref());
    roots.map_err(|error| Error::Client(error.into()))?;
    let client = Client::try_new(&settings.domain, &settings.headers, &settings.proxies)
        .map_err(Error::Client)?;
    let login = spend(token, settings, &client, retrying, scope).await?;
    Ok(login.map_or(Exchange::Cancelled, |login| Exchange::Done(login.name)))
}

/// Buys the access token. Only the waits heed `scope`: an answer under way may hold the only copy of what a
/// one-time token bought. The call itself is bounded by its own deadline.
pub(crate) async fn spend(
    token: &Secret,
    settings: &GatewaySettings,
    client: &Client,
    mut retrying: impl FnMut(String, Duration),
    scope: &Scope,
) -> Result<Option<GatewayLogin>, Error> {
    prepare(&settings.store).map_err(Error::Store)?;
    tracing::info!(
        platform = client.base(),
        "sending the enrollment token to the platform"
    );
    let mut backoff = Backoff::new(BASE, CAP);
    let throttle = LogThrottle::for_retries();
    while !scope.is_cancelled() {
        let error = match client.enroll_gateway(token).await {
            Ok(login) => {
                let place = (settings.store.as_path(), &settings.domain);
                keep(place, token, &login, &mut retrying, scope).await?;
                tracing::info!(
                    message_id = events::ENROLLED.id,
                    gateway.id = login.gateway_id.as_ref().map(GatewayId::as_str),
                    gateway.name = login.name.as_ref().map(GatewayName::as_str),
                    store = %settings.store.display(),
                    "{}",
                    events::ENROLLED
                );
                return Ok(Some(login));
            }
            Err(error) => error,
        };
        let at_least = match error.class() {
            Class::Retry => Duration::ZERO,
            Class::RetryAfter(wait) => wait,
            // Only the platform's own refusal tells that the token is spent.
            Class::Reauthenticate | Class::Reenroll | Class::Fatal(_) => {
                return Err(if error.is_verdict() {
                    Error::Enrollment(error)
                } else {
                    Error::NotEnrolled(error)
                });
            }
        };
        let attempt = backoff.attempts().saturating_add(1);
        let delay = at_least.saturating_add(backoff.next_delay(backoff::random()));
        let (text, delay_ms) = (chain(&error).to_string(), delay.as_millis());
        let event = events::NOT_ENROLLED;
        if let Some(permission) = throttle.should_log(event.text, &error.kind()) {
            tracing::warn!(
                message_id = event.id,
                error = text,
                attempt,
                delay_ms,
                suppressed = permission.suppressed(),
                "{event}"
            );
        } else {
            tracing::debug!(error = text, attempt, delay_ms, "{event}");
        }
        retrying(text, delay);
        scope.run(tokio::time::sleep(delay)).await;
    }
    Ok(None)
}

/// Saves what the token bought, however long that takes: there is no other copy of it, and the token is spent.
///
/// # Errors
/// The file cannot be written, and `scope` was cancelled.
async fn keep(
    (store, domain): (&Path, &ApiBase),
    spent: &Secret,
    login: &GatewayLogin,
    retrying: &mut impl FnMut(String, Duration),
    scope: &Scope,
) -> Result<(), Error> {
    let mut backoff = Backoff::new(BASE, CAP);
    let throttle = LogThrottle::for_retries();
    loop {
        let Err(error) = save(store, domain, spent, login) else {
            return Ok(());
        };
        let attempt = backoff.attempts().saturating_add(1);
        let delay = backoff.next_delay(backoff::random());
        let text = chain(&error).to_string();
        let event = events::NOT_KEPT;
        if let Some(permission) = throttle.should_log(event.text, &kind(&error)) {
            tracing::error!(
                message_id = event.id,
                error = text,
                attempt,
                delay_ms = delay.as_millis(),
                suppressed = permission.suppressed(),
                "{event}"
            );
        }
        retrying(format!("{event}: {text}"), delay);
        if scope.run(tokio::time::sleep(delay)).await.is_none() {
            return Err(Error::Store(error));
        }
    }
}

/// Proves that `store` can be written before the token is spent. The domain is only written with the token: one that is
/// stored already must not be sent to the new platform.
///
/// # Errors
/// The file cannot be written.
fn prepare(store: &Path) -> Result<(), file::Error> {
    file::prove_writable(store)
}

/// Saves what the token bought. The spent token is kept beside it, so that the same command run again
/// starts the gateway instead of enrolling it again.
///
/// # Errors
/// The file cannot be written.
fn save(
    store: &Path,
    domain: &ApiBase,
    spent: &Secret,
    login: &GatewayLogin,
) -> Result<(), file::Error> {
    let changes = role::GATEWAY.exchanged(domain, login.access_token.clone(), spent.clone());
    file::update(store, &changes.each_ref().map(|(key, value)| (*key, value)))
}

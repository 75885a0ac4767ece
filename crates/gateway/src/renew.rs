//! Renews credentials before they expire. New ones serve new handshakes at once; the tunnel that is up was
//! proved with the old ones and is not cut.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::connection::status::Reporter;
use super::identity::Identity;
use super::issue::Issuer;
use crate::backoff::{self, Backoff};
use crate::error::{Class, chain};
use crate::events;
use crate::log_throttle::LogThrottle;

/// Between attempts; a third of a certificate's life is left for them.
const BASE: Duration = Duration::from_secs(5);
const CAP: Duration = Duration::from_secs(300);
/// Longest wait for a while after the certificates have ended: without new ones there are no sessions.
const CAP_ENDED: Duration = Duration::from_millis(2500);
/// That while, and the longest wait after it.
const ENDED_LATELY: Duration = Duration::from_secs(600);
const CAP_ENDED_LONG_AGO: Duration = Duration::from_secs(30);
/// Least time between two renewals, whatever the certificates say.
const RENEWED: Duration = Duration::from_secs(1);
/// The same, when what was received has expired already: asking again at once gives no better.
const RENEWED_IN_VAIN: Duration = Duration::from_secs(60);

/// Least time before a platform is asked again that refused, whatever speaks for asking at once.
const REFUSED: Duration = Duration::from_secs(30);

/// How often to see whether it is time, since timers stand still while the machine sleeps.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Renews forever what `current` holds: before it expires, at once when the settings say to ask otherwise (a
/// new one of `issuers`), and at once when `now` says that the platform should hear where the gateway is, or that another relay is
/// better. Whatever the platform answers, the old credentials are kept: the link decides about them
/// when it needs new ones.
pub(crate) async fn run(
    mut issuers: watch::Receiver<Arc<Issuer>>,
    current: watch::Sender<Option<Arc<Identity>>>,
    reporter: Reporter,
    now: Arc<Notify>,
) {
    let mut seen = current.subscribe();
    let mut backoff = Backoff::new(BASE, CAP);
    let mut not_before = Instant::now();
    // What the platform asked for, and what a clock makes of its answers, holds for anyone who has a reason to ask at once; new settings are
    // another question.
    let mut kept = not_before;
    let mut issuer = Arc::clone(&issuers.borrow_and_update());
    let mut asked_otherwise = false;
    let throttle = LogThrottle::for_retries();
    let mut ended: Option<Instant> = None;
    loop {
        let Some((renew_at, is_due)) = seen
            .borrow_and_update()
            .as_ref()
            .map(|identity| (identity.renew_at, identity.is_due()))
        else {
            if seen.changed().await.is_err() {
                return;
            }
            continue;
        };
        let due = if asked_otherwise || is_due {
            not_before
        } else {
            Instant::from_std(renew_at).max(not_before)
        };
        let wake = Instant::now() + LOOK_AGAIN;
        tokio::select! {
            () = tokio::time::sleep_until(due.min(wake)) => {
                if wake < due {
                    continue;
                }
            }
            // The link received newer ones meanwhile.
            changed = seen.changed() => {
                if changed.is_err() {
                    return;
                }
                continue;
            }
            () = now.notified() => {
                asked_otherwise = true;
                not_before = kept.max(Instant::now());
                continue;
            }
            changed = issuers.changed() => {
                if changed.is_err() {
                    return;
                }
                let newest = Arc::clone(&issuers.borrow_and_update());
                if !Arc::ptr_eq(&issuer, &newest) {
                    issuer = newest;
                    asked_otherwise = true;
                    backoff.reset();
                }
                // The same one again is a wish to try now what is being waited for.
                not_before = Instant::now();
                kept = not_before;
                continue;
            }
        }
        match issuer.renew().await {
            Ok(identity) => {
                log_renewed(&identity, &throttle);
                backoff.reset();
                ended = None;
                asked_otherwise = false;
                let pause = if identity.is_usable() {
                    throttle.clear();
                    RENEWED
                } else {
                    const EXPIRED: &str =
                        "the new credentials have expired already; is this machine's clock right?";
                    if let Some(permission) = throttle.should_log(EXPIRED, "") {
                        tracing::warn!(suppressed = permission.suppressed(), "{EXPIRED}");
                    }
                    RENEWED_IN_VAIN
                };
                not_before = Instant::now() + pause;
                kept = not_before;
                reporter.renew_at(identity.renew_at);
                reporter.known_as(identity.gateway_name.as_ref());
                current.send_replace(Some(Arc::new(identity)));
            }
            Err((error, class)) => {
                let at_least = match class {
                    Class::RetryAfter(wait) => wait,
                    Class::Retry | Class::Reauthenticate => Duration::ZERO,
                    Class::Reenroll | Class::Fatal(_) => CAP,
                };
                let usable = |identity: &Arc<Identity>| identity.is_usable();
                let at_most = if seen.borrow().as_ref().is_some_and(usable) {
                    CAP
                } else if ended.get_or_insert_with(Instant::now).elapsed() < ENDED_LATELY {
                    CAP_ENDED
                } else {
                    CAP_ENDED_LONG_AGO
                };
                let delay = backoff.next_delay_within(at_most, backoff::random());
                let delay = at_least.saturating_add(delay);
                not_before = Instant::now() + delay;
                kept = match class {
                    Class::RetryAfter(_) => not_before,
                    Class::Retry | Class::Reauthenticate => Instant::now(),
                    Class::Reenroll | Class::Fatal(_) => Instant::now() + REFUSED,
                };
                let event = events::CREDENTIALS_NOT_RENEWED;
                let permission = throttle.should_log(event.text, &error.kind());
                let (error, delay_ms) = (chain(&error).to_string(), delay.as_millis());
                if let Some(permission) = permission {
                    tracing::warn!(
                        message_id = event.id,
                        error,
                        delay_ms,
                        suppressed = permission.suppressed(),
                        "{event}"
                    );
                } else {
                    tracing::debug!(error, delay_ms, "credentials not renewed");
                }
            }
        }
    }
}

/// Logs a renewal. Certificates that have expired already are renewed again every minute.
fn log_renewed(identity: &Identity, throttle: &LogThrottle) {
    let event = events::CREDENTIALS_RENEWED;
    let class = if identity.is_usable() { "" } else { "expired" };
    if !class.is_empty() && throttle.should_log(event.text, class).is_none() {
        return;
    }
    tracing::info!(
        message_id = event.id,
        gateway.id = %identity.gateway_id,
        "{event}"
    );
}

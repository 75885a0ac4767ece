//! Renews credentials before they expire. New ones serve new handshakes at once; the tunnel that is
//! up was proved with the old ones and is not cut.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::connection::status::Reporter;
use super::credential_client::CredentialClient;
use super::identity::Identity;
use crate::agent::renew::Attempts;
use crate::error::Class;
use crate::{event, events};

/// Least time before a platform is asked again that refused, whatever speaks for asking at once.
const REFUSED: Duration = Duration::from_secs(30);

/// How often to see whether it is time, since timers stand still while the machine sleeps.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Renews forever what `current` holds: before it expires, at once when the settings say to ask
/// otherwise (a new one of `credential_clients`), and at once when `now` says that the platform
/// should hear where the gateway is, or that another relay is better. Whatever the platform
/// answers, the old credentials are kept: the link decides about them when it needs new ones.
pub(crate) async fn run(
    mut credential_clients: watch::Receiver<Arc<CredentialClient>>,
    current: watch::Sender<Option<Arc<Identity>>>,
    reporter: Reporter,
    now: Arc<Notify>,
) {
    let mut seen = current.subscribe();
    let mut attempts = Attempts::default();
    let mut not_before = Instant::now();
    // What the platform asked for, and what a clock makes of its answers, holds for anyone who has
    // a reason to ask at once; new settings are another question.
    let mut kept = not_before;
    let mut credential_client = Arc::clone(&credential_clients.borrow_and_update());
    let mut asked_otherwise = false;
    loop {
        let Some((renew_at, is_due)) = seen
            .borrow_and_update()
            .as_ref()
            .map(|identity| (identity.renewal.at(), identity.renewal.is_due()))
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
            changed = credential_clients.changed() => {
                if changed.is_err() {
                    return;
                }
                let newest = Arc::clone(&credential_clients.borrow_and_update());
                if !Arc::ptr_eq(&credential_client, &newest) {
                    credential_client = newest;
                    asked_otherwise = true;
                    attempts.reset();
                }
                // The same one again is a wish to try now what is being waited for.
                not_before = Instant::now();
                kept = not_before;
                continue;
            }
        }
        match credential_client.renew().await {
            Ok(identity) => {
                asked_otherwise = false;
                let pause = attempts.succeeded(identity.is_usable(), || {
                    let event = events::CREDENTIALS_RENEWED;
                    event!(event, gateway.id = %identity.gateway_id);
                });
                not_before = Instant::now() + pause;
                kept = not_before;
                reporter.renew_at(identity.renewal.at());
                reporter.known_as(identity.gateway_name.as_ref());
                current.send_replace(Some(Arc::new(identity)));
            }
            Err((error, class)) => {
                let expires_in = seen.borrow().as_ref().map(|identity| identity.expires_in());
                let expires_in = expires_in.unwrap_or_default();
                let delay = attempts.failed(&error, &error.kind(), class, expires_in);
                not_before = Instant::now() + delay;
                kept = match class {
                    Class::RetryAfter(_) => not_before,
                    Class::Retry | Class::Reauthenticate => Instant::now(),
                    Class::Reenroll | Class::Fatal(_) => Instant::now() + REFUSED,
                };
            }
        }
    }
}

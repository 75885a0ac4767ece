//! Looks for a better relay while one is in use, every few hours and when a person asks, and moves
//! only for a clear gain: the sessions of the tunnel that is left go on (`tunnel`), but each move
//! costs the platform new certificates.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::policy::RESELECTION;
use crate::backoff;
use crate::credential_client::CredentialClient;
use crate::error::chain;
use crate::identity::Identity;

/// Looks while `up`, until it is cancelled; `now` asks for a look out of turn, and `renew` is
/// notified of a better relay.
pub(crate) async fn run(
    credential_clients: watch::Receiver<Arc<CredentialClient>>,
    current: watch::Receiver<Option<Arc<Identity>>>,
    mut up: watch::Receiver<bool>,
    now: Arc<Notify>,
    renew: Arc<Notify>,
) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause(backoff::random())) => {}
            () = now.notified() => {}
        }
        if up.wait_for(|up| *up).await.is_err() {
            return;
        }
        let credential_client = Arc::clone(&credential_clients.borrow());
        let used = current
            .borrow()
            .as_ref()
            .map(|identity| identity.relay_name.clone());
        let Some(used) = used else { continue };
        match credential_client.look_for_better(&used).await {
            Ok(None) => {
                tracing::debug!(relay.name = %used, "no relay is clearly better than this one");
            }
            Ok(Some(better)) => {
                tracing::info!(relay.name = %better, used = %used, "moving to a better relay");
                renew.notify_one();
            }
            // The tunnel is up, and there is time.
            Err(error) => {
                tracing::debug!(error = %chain(&error), "no better relay was looked for");
            }
        }
    }
}

fn pause(random: u64) -> Duration {
    let span = RESELECTION.1.saturating_sub(RESELECTION.0).as_secs().max(1);
    RESELECTION
        .0
        .saturating_add(Duration::from_secs(random % span))
}

#[cfg(test)]
mod tests {
    use super::{RESELECTION, pause};

    #[test]
    fn looks_are_spread() {
        assert_eq!(pause(0), RESELECTION.0);
        assert!((0..100).all(|n| pause(n * 7919 * 7919) < RESELECTION.1));
        assert_ne!(pause(1), pause(2));
    }
}

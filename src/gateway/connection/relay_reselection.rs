//! Looks for a better relay while one is in use, every few hours and when a person asks, and moves only for a clear gain: the sessions of
//! the tunnel that is left go on (`tunnel`), but each move costs the platform new certificates.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::backoff;
use crate::error::chain;
use crate::gateway::identity::Identity;
use crate::gateway::issue::Issuer;

/// Time between two looks: at least the first, and less than the second, so that gateways that began together do not look
/// together.
const EVERY: (Duration, Duration) = (Duration::from_secs(3 * 3600), Duration::from_secs(5 * 3600));

/// Looks for ever while `up`; `now` asks for a look out of turn, and `renew` is told of a better relay.
pub(crate) async fn run(
    issuers: watch::Receiver<Arc<Issuer>>,
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
        let issuer = Arc::clone(&issuers.borrow());
        let used = current
            .borrow()
            .as_ref()
            .map(|identity| identity.relay_name.clone());
        let Some(used) = used else { continue };
        match issuer.look_for_better(&used).await {
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
    let span = EVERY.1.saturating_sub(EVERY.0).as_secs().max(1);
    EVERY.0.saturating_add(Duration::from_secs(random % span))
}

#[cfg(test)]
mod tests {
    use super::{EVERY, pause};

    #[test]
    fn looks_are_spread() {
        assert_eq!(pause(0), EVERY.0);
        assert!((0..100).all(|n| pause(n * 7919 * 7919) < EVERY.1));
        assert_ne!(pause(1), pause(2));
    }
}

//! Heartbeats: each makes the platform dial back through the relay to this gateway, so a success proves the
//! whole path, and a failure with the tunnel up says which half is broken (protocol.md §1).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::issue::Issuer;
use crate::api;
use crate::error::{Class, chain};
use crate::events;
use crate::log_throttle::LogThrottle;

/// Time between heartbeats once one has succeeded; also told to the platform by the health service.
pub(crate) const INTERVAL: Duration = Duration::from_secs(180);
/// Time from a new tunnel to its first heartbeat. Deployed gateways wait 10 s; the sooner a person sees the whole
/// path proved, the better, and the relay needs a moment to know its new gateway.
const FIRST: Duration = Duration::from_secs(1);
/// Time between heartbeats until one succeeds (protocol.md §1).
const AGAIN: Duration = Duration::from_secs(10);

/// What a heartbeat showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Beat {
    /// The platform reached this gateway: the whole path works.
    Through,
    /// The platform is there and says that it did not get through.
    NotThrough(String),
    /// The platform did not say: it is away, unwell, or does not let this gateway ask.
    Unanswered(String),
}

/// Sends heartbeats while `up` is true, each as the newest of `issuers` may, and tells the link what each showed. Ends when
/// `up` is gone.
pub(crate) async fn run(
    issuers: watch::Receiver<Arc<Issuer>>,
    mut up: watch::Receiver<bool>,
    beats: mpsc::Sender<Beat>,
) {
    // Outlives tunnels, as what the platform asked for does.
    let mut not_before = Instant::now();
    let throttle = LogThrottle::for_retries();
    while up.wait_for(|up| *up).await.is_ok() {
        let while_up = beat(&issuers, &beats, &mut not_before, &throttle);
        let mut down = up.clone();
        tokio::select! {
            () = while_up => {}
            _ = down.wait_for(|up| !*up) => {}
        }
    }
}

/// Beats forever.
async fn beat(
    issuers: &watch::Receiver<Arc<Issuer>>,
    beats: &mpsc::Sender<Beat>,
    not_before: &mut Instant,
    throttle: &LogThrottle,
) {
    let mut cadence = Cadence::default();
    loop {
        let due = Instant::now() + cadence.delay();
        tokio::time::sleep_until(due.max(*not_before)).await;
        let issuer = Arc::clone(&issuers.borrow());
        let result = once(&issuer).await;
        let success = result.is_ok();
        // Full only while the link does something else, and then the next one tells the same.
        let _ = beats.try_send(Beat::of(&result));
        match result {
            Ok(()) if cadence.reachable() => tracing::debug!(
                message_id = events::GATEWAY_REACHABLE.id,
                "{}",
                events::GATEWAY_REACHABLE
            ),
            Ok(()) => tracing::info!(
                message_id = events::GATEWAY_REACHABLE.id,
                "{}",
                events::GATEWAY_REACHABLE
            ),
            Err((error, class)) => {
                if let Class::RetryAfter(wait) = class {
                    *not_before = Instant::now() + wait;
                }
                let event = events::HEARTBEAT_FAILED;
                if let Some(permission) = throttle.should_log(event.text, &error.kind()) {
                    tracing::warn!(
                        message_id = event.id,
                        error = %chain(&error),
                        suppressed = permission.suppressed(),
                        "{event}"
                    );
                } else {
                    tracing::debug!(error = %chain(&error), "heartbeat failed again");
                }
            }
        }
        if success {
            throttle.clear();
        }
        cadence.handle(success);
    }
}

impl Beat {
    fn of(result: &Result<(), (api::Error, Class)>) -> Self {
        let error = match result {
            Ok(()) => return Self::Through,
            Err((error, _)) => error,
        };
        let text = chain(error).to_string();
        if error.tells_of_probe() {
            Self::NotThrough(text)
        } else {
            Self::Unanswered(text)
        }
    }
}

/// When the next heartbeat is due: soon until the first success, seldom while they succeed, and less and
/// less soon while a platform that was there is away.
#[derive(Debug, Default)]
struct Cadence {
    succeeded: bool,
    failures: u32,
}

impl Cadence {
    fn handle(&mut self, success: bool) {
        self.succeeded |= success;
        self.failures = if success {
            0
        } else {
            self.failures.saturating_add(1)
        };
    }

    /// True if the last heartbeat succeeded.
    fn reachable(&self) -> bool {
        self.succeeded && self.failures == 0
    }

    fn delay(&self) -> Duration {
        match (self.succeeded, self.failures) {
            (false, 0) => FIRST,
            (false, _) => AGAIN,
            (true, 0) => INTERVAL,
            (true, n) => AGAIN
                .saturating_mul(1 << n.saturating_sub(1).min(8))
                .min(INTERVAL),
        }
    }
}

/// One heartbeat. A refused token is replaced before the next one, where a login can.
async fn once(issuer: &Issuer) -> Result<(), (api::Error, Class)> {
    let access = issuer.access();
    let token = match access.token().await {
        Ok(token) => token,
        Err(error) => {
            let class = access.class(&error, None).await;
            return Err((error, class));
        }
    };
    match issuer.client().gateway_heartbeat(&token).await {
        Ok(()) => Ok(()),
        Err(error) => {
            let class = access.class(&error, Some(&token)).await;
            Err((error, class))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Cadence;

    #[test]
    fn the_cadence_is_soon_then_seldom() {
        let mut cadence = Cadence::default();
        let mut delays = Vec::new();
        for success in [
            false, false, true, true, false, false, false, false, false, false, true,
        ] {
            delays.push(cadence.delay().as_secs());
            cadence.handle(success);
        }
        assert_eq!(delays, [1, 10, 10, 180, 180, 10, 20, 40, 80, 160, 180]);
        assert_eq!(cadence.delay().as_secs(), 180);
    }
}

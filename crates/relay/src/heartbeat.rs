//! Heartbeats: each makes the platform complete TLS 1 with this relay, so a success proves that the relay
//! can be reached under the address it registered (protocol.md §1).
//!
//! Each answer also tells the time by which certificates are judged (`clock`). A relay that slept, or was paused by its
//! hypervisor and had its clock set afterwards, would judge by a time long ago until the next one: it asks at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::access::Access;
use super::hub::Hub;
use crate::api;
use crate::error::{Class, chain};
use crate::events;
use crate::host::system_events::Watcher;
use crate::log_throttle::LogThrottle;

/// Time between heartbeats while they succeed, as deployed relays do. Gateways use a relay whose last one
/// is less than an hour old.
const INTERVAL: Duration = Duration::from_secs(30 * 60);
/// Time to the next one after a failure.
const AGAIN: Duration = Duration::from_secs(10);
/// Longest time to the next one after many failures of a relay that was reachable before.
const AGAIN_AT_MOST: Duration = Duration::from_secs(300);

/// Sends heartbeats as the newest of `accesses` may, the first one at once, and tells `hub` what each
/// shows. Never ends.
pub(crate) async fn run(accesses: watch::Receiver<Arc<Access>>, hub: Arc<Hub>) {
    let mut cadence = Cadence::default();
    let throttle = LogThrottle::for_retries();
    let mut clocks = Watcher::of_clocks();
    loop {
        let access = Arc::clone(&accesses.borrow());
        let result = access.heartbeat().await;
        let was_reachable = cadence.is_reachable();
        let delay = cadence.handle(result.is_ok());
        hub.set_doubt(result.as_ref().err().map(|(error, _)| doubt(error)));
        if result.is_ok() {
            throttle.clear();
        }
        match result {
            Ok(()) if was_reachable => tracing::debug!(
                message_id = events::RELAY_REACHABLE.id,
                "{}",
                events::RELAY_REACHABLE
            ),
            Ok(()) => tracing::info!(
                message_id = events::RELAY_REACHABLE.id,
                "{}",
                events::RELAY_REACHABLE
            ),
            Err((error, class)) => {
                let (delay, at_least) = match class {
                    Class::RetryAfter(wait) => (delay.max(wait), wait),
                    Class::Retry | Class::Reauthenticate | Class::Reenroll | Class::Fatal(_) => {
                        (delay, Duration::ZERO)
                    }
                };
                let event = events::RELAY_HEARTBEAT_FAILED;
                let (class, delay_ms) = (error.kind(), delay.as_millis());
                if let Some(permission) = throttle.should_log(event.text, &class) {
                    tracing::warn!(
                        message_id = event.id,
                        error = %chain(&error),
                        delay_ms,
                        suppressed = permission.suppressed(),
                        "{event}"
                    );
                } else {
                    tracing::debug!(error = %chain(&error), delay_ms, "heartbeat failed again");
                }
                pause(delay, at_least, clocks.next()).await;
                continue;
            }
        }
        pause(delay, Duration::ZERO, clocks.next()).await;
    }
}

/// What a heartbeat that failed shows, as the status says it.
fn doubt(error: &api::Error) -> String {
    let error_text = chain(error);
    if error.tells_of_probe() {
        format!("Infisical does not reach it: {error_text}")
    } else {
        format!("Infisical does not say that it reaches it: {error_text}")
    }
}

/// Waits for `delay`; once `disturbed` resolves only for what is left of [`AGAIN`] and `at_least`, since a clock may be set
/// again and again.
async fn pause<T>(delay: Duration, at_least: Duration, disturbed: impl Future<Output = T>) {
    let begin = Instant::now();
    if tokio::time::timeout(delay, disturbed).await.is_ok() {
        tokio::time::sleep_until(begin + delay.min(at_least.max(AGAIN))).await;
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
    /// Notes a result and gives the time to the next heartbeat.
    fn handle(&mut self, success: bool) -> Duration {
        self.succeeded |= success;
        self.failures = if success {
            0
        } else {
            self.failures.saturating_add(1)
        };
        match (self.succeeded, self.failures) {
            (false, _) => AGAIN,
            (true, 0) => INTERVAL,
            (true, n) => AGAIN
                .saturating_mul(1 << n.saturating_sub(1).min(8))
                .min(AGAIN_AT_MOST),
        }
    }

    /// True if the last heartbeat succeeded.
    fn is_reachable(&self) -> bool {
        self.succeeded && self.failures == 0
    }
}

#[cfg(test)]
mod tests {
    use super::{AGAIN, Cadence, INTERVAL, pause};
    use std::future::{pending, ready};
    use std::time::Duration;
    use tokio::time::{Instant, sleep};

    #[tokio::test(start_paused = true)]
    async fn a_disturbed_clock_brings_the_next_heartbeat_soon_but_never_too_soon() {
        let begin = Instant::now();
        let mut last = Duration::ZERO;
        let mut passed = || begin.elapsed() - std::mem::replace(&mut last, begin.elapsed());
        pause(INTERVAL, Duration::ZERO, pending::<()>()).await;
        assert_eq!(passed(), INTERVAL, "nothing happened");
        pause(INTERVAL, Duration::ZERO, sleep(Duration::from_secs(60))).await;
        assert_eq!(passed(), Duration::from_secs(60));
        pause(INTERVAL, Duration::ZERO, ready(())).await;
        assert_eq!(passed(), AGAIN);
        let asked_for = Duration::from_secs(90);
        pause(INTERVAL, asked_for, ready(())).await;
        assert_eq!(passed(), asked_for, "what the platform asks for is kept");
        pause(AGAIN / 2, Duration::ZERO, ready(())).await;
        assert_eq!(passed(), AGAIN / 2, "never later than without");
    }

    #[test]
    fn the_cadence_is_that_of_deployed_relays() {
        let mut cadence = Cadence::default();
        assert!(!cadence.is_reachable());
        let mut delays = Vec::new();
        for success in [
            false, false, true, true, false, false, false, false, false, false, true,
        ] {
            delays.push(cadence.handle(success).as_secs());
        }
        assert_eq!(delays, [10, 10, 1800, 1800, 10, 20, 40, 80, 160, 300, 1800]);
        assert!(cadence.is_reachable());
    }
}

//! Heartbeats: each makes the platform complete TLS 1 with this relay, so a success proves that the
//! relay can be reached under the address it registered (protocol.md §1).
//!
//! Each answer also tells the time by which certificates are judged (`clock`). A relay that slept,
//! or was paused by its hypervisor and had its clock set afterwards, would judge by a time long ago
//! until the next one: it asks at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::platform_auth::PlatformAuth;
use crate::agent::heartbeat::{Cadence, Log, Timing};
use crate::agent::status::Reporter;
use crate::agent::status::condition::{Condition, HEARTBEAT_UNANSWERED, NOT_REACHED};
use crate::api;
use crate::error::{Class, chain};
use crate::events;
use crate::host::system_events::Watcher;

/// Time between heartbeats while they succeed, as deployed relays do. Gateways use a relay whose
/// last one is less than an hour old.
const INTERVAL: Duration = Duration::from_secs(30 * 60);
/// Time to the next one after a failure, and the shortest of all.
const AGAIN: Duration = Duration::from_secs(10);

const TIMING: Timing = Timing {
    first: Duration::ZERO,
    interval: INTERVAL,
    retry: AGAIN,
    retry_at_most: Duration::from_secs(300),
};

/// Failed probes in a row after which credentials are asked for: the first one may be lost.
const DOUBT_AFTER: u32 = 2;

/// Counts the probes of the platform that failed. Where it was restored from a backup, or has ended
/// a rotation early, it does not trust this relay's certificate, and no answer to a heartbeat can
/// say so; new credentials are from the CAs that it has.
#[derive(Debug, Default)]
struct FailedProbes(u32);

impl FailedProbes {
    /// Notes a heartbeat; true once in each outage, so that relays whose port is closed do not ask
    /// the platform for credentials with every heartbeat.
    fn should_renew(&mut self, probe_failed: bool) -> bool {
        self.0 = if probe_failed {
            self.0.saturating_add(1)
        } else {
            0
        };
        self.0 == DOUBT_AFTER
    }
}

/// Sends heartbeats as the newest of `auths` may, the first one at once, and tells `reporter` what
/// each shows, and `renew` where the platform wants new credentials asked for or may not trust
/// these. Never ends.
pub(crate) async fn run(
    auths: watch::Receiver<Arc<PlatformAuth>>,
    reporter: Reporter,
    renew: Arc<Notify>,
) {
    let mut cadence = Cadence::new(TIMING);
    let mut failed_probes = FailedProbes::default();
    let log = Log::new(
        events::RELAY_REACHABLE,
        events::RELAY_HEARTBEAT_FAILED,
        reporter.clone(),
    );
    let mut clocks = Watcher::of_clocks();
    loop {
        let auth = Arc::clone(&auths.borrow());
        let answer = auth.heartbeat().await;
        let was_reachable = cadence.is_reachable();
        let delay = cadence.record_answer(&answer, &renew);
        let result = answer.map(drop);
        let doubt = result.as_ref().err().map(|(error, _)| error);
        if failed_probes.should_renew(doubt.is_some_and(api::Error::tells_of_probe)) {
            renew.notify_one();
        }
        for condition in [&NOT_REACHED, &HEARTBEAT_UNANSWERED] {
            match doubt.filter(|error| meaning(error) == condition) {
                Some(error) => reporter.raise(condition, &chain(error).to_string()),
                None => reporter.clear(condition),
            }
        }
        let at_least = match &result {
            Err((_, Class::RetryAfter(wait))) => *wait,
            Ok(()) | Err(_) => Duration::ZERO,
        };
        let delay = delay.max(at_least);
        log.log(&result, was_reachable, delay);
        pause(delay, at_least, clocks.next()).await;
    }
}

/// What a heartbeat that failed shows.
fn meaning(error: &api::Error) -> &'static Condition {
    if error.tells_of_probe() {
        &NOT_REACHED
    } else {
        &HEARTBEAT_UNANSWERED
    }
}

/// Waits for `delay`; once `disturbed` resolves only for what is left of [`AGAIN`] and `at_least`,
/// since a clock may be set repeatedly.
async fn pause<T>(delay: Duration, at_least: Duration, disturbed: impl Future<Output = T>) {
    let begin = Instant::now();
    if tokio::time::timeout(delay, disturbed).await.is_ok() {
        tokio::time::sleep_until(begin + delay.min(at_least.max(AGAIN))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::{AGAIN, Cadence, FailedProbes, INTERVAL, TIMING, pause};
    use std::future::{pending, ready};
    use std::time::Duration;
    use tokio::time::{Instant, sleep};

    #[tokio::test(start_paused = true)]
    async fn clock_change_hastens_the_next_heartbeat() {
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
    fn failed_probes_renew_once_each_outage() {
        let mut probes = FailedProbes::default();
        let asked = [true, true, true, true, false, true, false, true, true]
            .map(|failed| probes.should_renew(failed));
        let expected = [false, true, false, false, false, false, false, false, true];
        assert_eq!(asked, expected);
    }

    #[test]
    fn the_cadence_is_that_of_deployed_relays() {
        let mut cadence = Cadence::new(TIMING);
        assert!(!cadence.is_reachable());
        let mut delays = Vec::new();
        for success in [
            false, false, true, true, false, false, false, false, false, false, true,
        ] {
            delays.push(cadence.record(success).as_secs());
        }
        assert_eq!(delays, [10, 10, 1800, 1800, 10, 20, 40, 80, 160, 300, 1800]);
        assert!(cadence.is_reachable());
    }
}

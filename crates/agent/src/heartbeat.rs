//! When heartbeats are due, and what is logged of them.

use std::time::Duration;

use tokio::sync::Notify;

use crate::api::{self, types::HeartbeatAnswer};
use crate::error::{Class, chain};
use crate::event;
use crate::events::{Event, Level};
use crate::log_throttle::LogThrottle;
use crate::status::Reporter;

/// The soonest that a platform may want the next heartbeat.
const SOONEST: Duration = Duration::from_secs(5);

/// The times between a role's heartbeats.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// To the first one.
    pub first: Duration,
    /// After a success.
    pub interval: Duration,
    /// After a failure; doubles with each one once a heartbeat has succeeded.
    pub retry: Duration,
    /// The longest after a failure.
    pub retry_at_most: Duration,
}

/// When the next heartbeat is due.
#[derive(Debug)]
pub struct Cadence {
    timing: Timing,
    succeeded: bool,
    failures: u32,
}

impl Cadence {
    /// Before the first heartbeat.
    #[must_use]
    pub fn new(timing: Timing) -> Self {
        Self {
            timing,
            succeeded: false,
            failures: 0,
        }
    }

    /// Notes a result and returns the time to the next heartbeat.
    pub fn record(&mut self, success: bool) -> Duration {
        self.succeeded |= success;
        self.failures = if success {
            0
        } else {
            self.failures.saturating_add(1)
        };
        self.delay()
    }

    /// True if the last heartbeat succeeded.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        self.succeeded && self.failures == 0
    }

    /// The same, as the platform has answered: it may want the next one sooner, and new credentials
    /// asked for, of which `renew` is notified.
    pub fn record_answer<E>(
        &mut self,
        answer: &Result<HeartbeatAnswer, E>,
        renew: &Notify,
    ) -> Duration {
        let delay = self.record(answer.is_ok());
        let Ok(answer) = answer else {
            return delay;
        };
        if answer.renew_credentials == Some(true) {
            renew.notify_one();
        }
        let wanted = answer.next_heartbeat_seconds.map(u64::from);
        wanted.map_or(delay, |wanted| {
            delay.min(Duration::from_secs(wanted).max(SOONEST))
        })
    }

    /// The time to the next heartbeat.
    #[must_use]
    pub fn delay(&self) -> Duration {
        let timing = self.timing;
        match (self.succeeded, self.failures) {
            (false, 0) => timing.first,
            (false, _) => timing.retry,
            (true, 0) => timing.interval,
            (true, n) => timing
                .retry
                .saturating_mul(1 << n.saturating_sub(1).min(8))
                .min(timing.retry_at_most),
        }
    }
}

/// Logs the results of heartbeats: each change, and repeated failures rarely.
#[derive(Debug)]
pub struct Log {
    reachable: Event,
    failed: Event,
    throttle: LogThrottle,
    reporter: Reporter,
}

impl Log {
    /// Logs a success as `reachable` and a failure as `failed`, and tells `reporter` of both.
    #[must_use]
    pub fn new(reachable: Event, failed: Event, reporter: Reporter) -> Self {
        Self {
            reachable,
            failed,
            throttle: LogThrottle::for_retries(),
            reporter,
        }
    }

    /// Logs `result`; the next heartbeat follows after `delay`.
    pub fn log(
        &self,
        result: &Result<(), (api::Error, Class)>,
        was_reachable: bool,
        delay: Duration,
    ) {
        let (event, failed) = (self.reachable, self.failed);
        let error = result.as_ref().err().map(|(error, _)| chain(error));
        self.reporter
            .heartbeat(error.map(|error| error.to_string()));
        match result {
            Ok(()) => {
                self.throttle.clear();
                // Only a change is worth a line of its own.
                let level = if was_reachable {
                    Level::DEBUG
                } else {
                    event.level
                };
                event!(Event { level, ..event });
            }
            Err((error, _)) => {
                let (kind, delay_ms) = (error.kind(), delay.as_millis());
                if let Some(permission) = self.throttle.should_log(failed.text, &kind) {
                    event!(
                        failed,
                        error = %chain(error),
                        delay_ms,
                        suppressed = permission.suppressed()
                    );
                } else {
                    tracing::debug!(error = %chain(error), delay_ms, "heartbeat failed again");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::Notify;

    use super::{Cadence, SOONEST, Timing};
    use crate::api::types::HeartbeatAnswer;

    #[test]
    fn platform_may_hasten_the_next_heartbeat() {
        let interval = Duration::from_secs(180);
        let mut cadence = Cadence::new(Timing {
            first: Duration::ZERO,
            interval,
            retry: interval,
            retry_at_most: interval,
        });
        let mut after = |next_heartbeat_seconds| {
            let answer = HeartbeatAnswer {
                next_heartbeat_seconds,
                ..HeartbeatAnswer::default()
            };
            cadence.record_answer(&Ok::<_, ()>(answer), &Notify::new())
        };
        assert_eq!(after(None), interval);
        assert_eq!(after(Some(60)), Duration::from_secs(60));
        assert_eq!(after(Some(0)), SOONEST);
        assert_eq!(after(Some(3600)), interval);
    }
}

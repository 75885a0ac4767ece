//! When credentials are renewed, and what follows an attempt.

use std::error::Error;
use std::time::{Duration, Instant, SystemTime};

use crate::backoff::{self, Backoff};
use crate::clock::Clock;
use crate::error::{Class, chain};
use crate::log_throttle::LogThrottle;
use crate::{event, events};

/// The part of their lifetime after which credentials are renewed, in thousandths: a random one, so
/// that services that started together do not renew together, and always below two thirds.
const RENEW_PERMILLE: std::ops::Range<u64> = 500..651;

/// Delays between attempts; a third of a certificate's lifetime is left for them.
const BASE: Duration = Duration::from_secs(5);
const CAP: Duration = Duration::from_secs(300);
/// Longest delay for a while after the certificates have expired: there are no new sessions without
/// new ones.
const CAP_EXPIRED: Duration = Duration::from_millis(2500);
/// That while, and the longest delay after it.
const EXPIRED_RECENTLY: Duration = Duration::from_secs(600);
const CAP_EXPIRED_LONG_AGO: Duration = Duration::from_secs(30);
/// Least time between two renewals, whatever the certificates say.
const RENEWED: Duration = Duration::from_secs(1);
/// The same, when the new ones have expired already: asking again at once gives no better.
const RENEWED_EXPIRED: Duration = Duration::from_secs(60);

/// When credentials are to be renewed: at whichever of two times comes first. A jump of the wall
/// clock does not delay the monotonic one, a suspended machine not the other.
#[derive(Debug, Clone)]
pub struct RenewalTime {
    at: Instant,
    by: SystemTime,
    clock: Clock,
}

impl RenewalTime {
    /// For credentials that end at `expires` by the platform's time; they are kept for `at_most`.
    #[must_use]
    pub fn new(expires: SystemTime, at_most: Duration, clock: &Clock) -> Self {
        let now = clock.now();
        let lifetime = expires.duration_since(now).unwrap_or_default();
        let wait = renew_after(lifetime, at_most, backoff::random());
        let at = Instant::now();
        Self {
            at: at.checked_add(wait).unwrap_or(at),
            by: now.checked_add(wait).unwrap_or(now),
            clock: clock.clone(),
        }
    }

    /// The monotonic time.
    #[must_use]
    pub fn at(&self) -> Instant {
        self.at
    }

    /// True if either time has come.
    #[must_use]
    pub fn is_due(&self) -> bool {
        Instant::now() >= self.at || self.clock.now() >= self.by
    }
}

/// How long to keep credentials that are valid for `lifetime`.
fn renew_after(lifetime: Duration, at_most: Duration, random: u64) -> Duration {
    let span = RENEW_PERMILLE.end.saturating_sub(RENEW_PERMILLE.start);
    let permille = RENEW_PERMILLE.start.saturating_add(random % span.max(1));
    let permille = u32::try_from(permille).unwrap_or(500);
    // Divided first: certificates that never expire have lives near the type's end.
    (lifetime / 1000).saturating_mul(permille).min(at_most)
}

/// The attempts to renew, and what is logged of them.
#[derive(Debug)]
pub struct Attempts {
    backoff: Backoff,
    throttle: LogThrottle,
    /// When an attempt first failed with credentials that had expired.
    expired: Option<Instant>,
}

impl Default for Attempts {
    fn default() -> Self {
        Self {
            backoff: Backoff::new(BASE, CAP),
            throttle: LogThrottle::for_retries(),
            expired: None,
        }
    }
}

impl Attempts {
    /// Begins with short delays again: the platform is asked differently from now on.
    pub fn reset(&mut self) {
        self.backoff.reset();
    }

    /// Notes new credentials, which `is_usable` says have not expired, and returns the least time
    /// to the next attempt. `log` is called unless it would repeat itself every minute.
    pub fn succeeded(&mut self, is_usable: bool, log: impl FnOnce()) -> Duration {
        const EXPIRED: &str =
            "the new credentials have expired already; is this machine's clock right?";
        self.backoff.reset();
        self.expired = None;
        if is_usable {
            self.throttle.clear();
            log();
            return RENEWED;
        }
        let event = events::CREDENTIALS_RENEWED;
        if self.throttle.should_log(event.text, "expired").is_some() {
            log();
        }
        if let Some(permission) = self.throttle.should_log(EXPIRED, "") {
            tracing::warn!(suppressed = permission.suppressed(), "{EXPIRED}");
        }
        RENEWED_EXPIRED
    }

    /// Logs a failure of `kind` and returns the time to the next attempt. The credentials in use
    /// are valid for another `expires_in`; whatever the platform says now, it may say something
    /// else before they expire.
    pub fn failed(
        &mut self,
        error: &(dyn Error + 'static),
        kind: &str,
        class: Class,
        expires_in: Duration,
    ) -> Duration {
        let at_least = match class {
            Class::RetryAfter(wait) => wait,
            Class::Retry | Class::Reauthenticate => Duration::ZERO,
            Class::Reenroll | Class::Fatal(_) => CAP,
        };
        let at_most = if !expires_in.is_zero() {
            CAP
        } else if self.expired.get_or_insert_with(Instant::now).elapsed() < EXPIRED_RECENTLY {
            CAP_EXPIRED
        } else {
            CAP_EXPIRED_LONG_AGO
        };
        let delay = self.backoff.next_delay_within(at_most, backoff::random());
        let delay = at_least.saturating_add(delay);
        let event = events::CREDENTIALS_NOT_RENEWED;
        let (error, delay_ms) = (chain(error).to_string(), delay.as_millis());
        if let Some(permission) = self.throttle.should_log(event.text, kind) {
            event!(
                event,
                error,
                expires_in_s = expires_in.as_secs(),
                delay_ms,
                suppressed = permission.suppressed()
            );
        } else {
            tracing::debug!(error, delay_ms, "credentials not renewed");
        }
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::{Attempts, CAP, CAP_EXPIRED, RENEWED, RENEWED_EXPIRED, RenewalTime, renew_after};
    use crate::clock::{Clock, Reading};
    use crate::error::{Class, Reason};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

    const HOUR: Duration = Duration::from_secs(3600);
    const BEGIN: u64 = 1_800_000_000;

    fn renewal(at: Instant, by: SystemTime, clock: &Clock) -> RenewalTime {
        let clock = clock.clone();
        RenewalTime { at, by, clock }
    }

    #[test]
    fn renewal_is_due_after_a_long_sleep() {
        let slept = Arc::new(AtomicU64::new(0));
        let passed = Arc::clone(&slept);
        let clock = Clock::of(move || Reading {
            system: UNIX_EPOCH + Duration::from_secs(BEGIN),
            since_boot: Some(Duration::from_secs(100 + passed.load(Ordering::Relaxed))),
        });
        clock.observe(UNIX_EPOCH + Duration::from_secs(BEGIN), clock.ask());
        let renewal = renewal(Instant::now() + HOUR, clock.now() + HOUR, &clock);
        assert!(!renewal.is_due());
        slept.store(3599, Ordering::Relaxed);
        assert!(!renewal.is_due());
        slept.store(3601, Ordering::Relaxed);
        assert!(renewal.is_due());
    }

    #[test]
    fn clock_set_back_does_not_delay_renewal() {
        let clock = Clock::showing(|| UNIX_EPOCH);
        let by = SystemTime::now() + HOUR;
        assert!(renewal(Instant::now(), by, &clock).is_due());
        assert!(!renewal(Instant::now() + HOUR, by, &clock).is_due());
    }

    #[test]
    fn renewal_comes_before_two_thirds_of_lifetime() {
        for random in 0..400 {
            let wait = renew_after(HOUR, 24 * HOUR, random);
            assert!(wait >= HOUR / 2 && wait <= HOUR * 65 / 100, "{wait:?}");
        }
    }

    #[test]
    fn long_lived_credentials_renew_at_the_limit() {
        for lifetime in [24 * 30 * HOUR, Duration::MAX] {
            assert_eq!(renew_after(lifetime, 6 * HOUR, 0), 6 * HOUR);
        }
    }

    #[test]
    fn expired_credentials_are_renewed_at_once() {
        assert_eq!(renew_after(Duration::ZERO, HOUR, 7), Duration::ZERO);
    }

    #[test]
    fn expired_new_credentials_slow_renewal_down() {
        let mut attempts = Attempts::default();
        let mut logged = 0;
        assert_eq!(attempts.succeeded(true, || logged += 1), RENEWED);
        for _ in 0..3 {
            assert_eq!(attempts.succeeded(false, || logged += 1), RENEWED_EXPIRED);
        }
        assert_eq!(logged, 2, "the expired ones once");
    }

    #[test]
    fn class_decides_delay_after_a_failure() {
        let error = std::io::Error::other("away");
        let wait = Duration::from_secs(7);
        for (class, least) in [
            (Class::Retry, Duration::ZERO),
            (Class::Reauthenticate, Duration::ZERO),
            (Class::RetryAfter(wait), wait),
            (Class::Reenroll, CAP),
            (Class::Fatal(Reason::Permission), CAP),
        ] {
            let delay = Attempts::default().failed(&error, "away", class, HOUR);
            assert!(
                delay >= least && delay <= least + CAP,
                "{class:?}: {delay:?}"
            );
        }
    }

    #[test]
    fn expired_credentials_are_retried_sooner() {
        let error = std::io::Error::other("away");
        let mut attempts = Attempts::default();
        for _ in 0..20 {
            let delay = attempts.failed(&error, "away", Class::Retry, Duration::ZERO);
            assert!(delay <= CAP_EXPIRED, "{delay:?}");
        }
    }
}

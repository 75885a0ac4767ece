//! Renews credentials before they expire. New ones serve new handshakes at once; what was
//! authenticated with the old ones is not cut.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Notify, watch};
use tokio::time;

use crate::backoff::{self, Backoff};
use crate::clock::{Clock, Skew};
use crate::error::{Class, chain};
use crate::log_throttle::LogThrottle;
use crate::status::Reporter;
use crate::status::condition::NOT_RENEWED;
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

/// How long credentials are valid, and when they are to be renewed: at the first of two times. A
/// jump of the wall clock does not delay the monotonic one, a suspended machine not the other.
#[derive(Debug, Clone)]
pub struct Lifetime {
    expires: SystemTime,
    renew_at: Instant,
    renew_by: SystemTime,
    clock: Clock,
}

impl Lifetime {
    /// For credentials that expire at `expires` by the platform's time; they are kept for
    /// `at_most`.
    #[must_use]
    pub fn new(expires: SystemTime, at_most: Duration, clock: &Clock) -> Self {
        let now = clock.now();
        let lifetime = expires.duration_since(now).unwrap_or_default();
        let wait = renew_after(lifetime, at_most, backoff::random());
        let at = Instant::now();
        Self {
            expires,
            renew_at: at.checked_add(wait).unwrap_or(at),
            renew_by: now.checked_add(wait).unwrap_or(now),
            clock: clock.clone(),
        }
    }

    /// When they expire, by the platform's time.
    #[must_use]
    pub fn expires(&self) -> SystemTime {
        self.expires
    }

    /// When to renew them, by the monotonic clock.
    #[must_use]
    pub fn renew_at(&self) -> Instant {
        self.renew_at
    }

    /// The time until then.
    #[must_use]
    pub fn renews_in(&self) -> Duration {
        self.renew_at.saturating_duration_since(Instant::now())
    }

    /// By how much this machine's clock is wrong; `None` if it is not, or if no one knows.
    #[must_use]
    pub fn skew(&self) -> Option<Skew> {
        self.clock.skew()
    }

    /// True if either time to renew them has come.
    #[must_use]
    pub fn is_due(&self) -> bool {
        Instant::now() >= self.renew_at || self.clock.now() >= self.renew_by
    }

    /// How long they are still valid.
    #[must_use]
    pub fn left(&self) -> Duration {
        let left = self.expires.duration_since(self.clock.now());
        left.unwrap_or_default()
    }

    /// True while they have not expired.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        !self.left().is_zero()
    }
}

/// Why there are no new credentials.
#[derive(Debug)]
pub struct NotIssued {
    /// The error, as it is logged.
    pub error: Box<dyn Error + Send + Sync>,
    /// What it is, without what changes from one time to the next: for keeping the log quiet.
    pub kind: String,
    /// What to do about it.
    pub class: Class,
}

/// Renews forever what `current` holds: before it expires, at once when the platform is to be asked
/// otherwise (a new one of `issuers`), and at once when `now` says so. Whatever the platform
/// answers, the old credentials are kept: what uses them decides about them when it needs new ones.
///
/// `lifetime` tells how long the credentials in use are valid, where there are any; `issue` asks
/// for new ones; `renewed` logs them.
pub async fn run<I, C, F>(
    mut issuers: watch::Receiver<Arc<I>>,
    current: watch::Sender<C>,
    now: Arc<Notify>,
    reporter: Reporter,
    lifetime: impl Fn(&C) -> Option<Lifetime>,
    issue: impl Fn(Arc<I>) -> F,
    renewed: impl Fn(&C),
) where
    F: Future<Output = Result<C, NotIssued>>,
{
    let mut seen = current.subscribe();
    let mut attempts = Attempts::default();
    let mut not_before = time::Instant::now();
    // What the platform asked for, and the least time after an answer, holds for every reason to
    // ask at once; new settings are another question.
    let mut kept = not_before;
    let mut issuer = Arc::clone(&issuers.borrow_and_update());
    let mut asked_otherwise = false;
    loop {
        let Some(used) = lifetime(&seen.borrow_and_update()) else {
            if seen.changed().await.is_err() {
                return;
            }
            continue;
        };
        let due = if asked_otherwise || used.is_due() {
            not_before
        } else {
            time::Instant::from_std(used.renew_at()).max(not_before)
        };
        let wake = time::Instant::now() + LOOK_AGAIN;
        tokio::select! {
            () = time::sleep_until(due.min(wake)) => {
                if wake < due {
                    continue;
                }
            }
            // Newer ones came another way.
            changed = seen.changed() => {
                if changed.is_err() {
                    return;
                }
                continue;
            }
            () = now.notified() => {
                asked_otherwise = true;
                not_before = kept.max(time::Instant::now());
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
                    attempts.reset();
                }
                // The same one again is a wish to try now what is being waited for.
                not_before = time::Instant::now();
                kept = not_before;
                continue;
            }
        }
        match issue(Arc::clone(&issuer)).await {
            Ok(credentials) => {
                asked_otherwise = false;
                let is_usable = lifetime(&credentials).is_some_and(|new| new.is_usable());
                // In use before that is logged.
                current.send_replace(credentials);
                let pause = attempts.succeeded(is_usable, || renewed(&current.borrow()));
                not_before = time::Instant::now() + pause;
                kept = not_before;
            }
            Err(NotIssued { error, kind, class }) => {
                reporter.failed(&NOT_RENEWED, &chain(&*error).to_string());
                let left = lifetime(&seen.borrow()).map(|used| used.left());
                let delay = attempts.failed(&*error, &kind, class, left.unwrap_or_default());
                not_before = time::Instant::now() + delay;
                kept = match class {
                    Class::RetryAfter(_) => not_before,
                    Class::Retry | Class::Reauthenticate => time::Instant::now(),
                    Class::Reenroll | Class::Fatal(_) => time::Instant::now() + REFUSED,
                };
            }
        }
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

/// Least time before a platform is asked again that refused, whatever speaks for asking at once.
const REFUSED: Duration = Duration::from_secs(30);
/// How often to see whether it is time, since timers stand still while the machine sleeps.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// The attempts to renew, and what is logged of them.
#[derive(Debug)]
struct Attempts {
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
    fn reset(&mut self) {
        self.backoff.reset();
    }

    /// Notes new credentials, which `is_usable` says have not expired, and returns the least time
    /// to the next attempt. `log` is called unless it would repeat itself every minute.
    fn succeeded(&mut self, is_usable: bool, log: impl FnOnce()) -> Duration {
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
    fn failed(
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
    use super::{Attempts, CAP, CAP_EXPIRED, Lifetime, RENEWED, RENEWED_EXPIRED, renew_after};
    use crate::clock::{Clock, Reading};
    use crate::error::{Class, Reason};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

    const HOUR: Duration = Duration::from_secs(3600);
    const BEGIN: u64 = 1_800_000_000;

    fn renewal(at: Instant, by: SystemTime, clock: &Clock) -> Lifetime {
        Lifetime {
            expires: by,
            renew_at: at,
            renew_by: by,
            clock: clock.clone(),
        }
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

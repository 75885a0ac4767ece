//! How long to wait before the next attempt: exponential, capped, with full jitter.
//!
//! Full jitter (a uniform choice between zero and the exponential bound) spreads a crowd of
//! gateways that lost the same relay best. The caller resets it, and only after a connection that
//! proved useful.

use std::time::Duration;

/// The delays between attempts.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    attempts: u32,
}

impl Backoff {
    /// Delays bounded by `base`, `2·base`, `4·base` … and never above `cap`.
    #[must_use]
    pub fn new(base: Duration, cap: Duration) -> Self {
        Self {
            base,
            cap,
            attempts: 0,
        }
    }

    /// The next delay. `random` is uniform over all of `u64`; tests pass what they like.
    pub fn next_delay(&mut self, random: u64) -> Duration {
        self.next_delay_within(self.cap, random)
    }

    /// The next delay, which is shorter than `at_most` too.
    pub fn next_delay_within(&mut self, at_most: Duration, random: u64) -> Duration {
        let bound = self.bound().min(at_most);
        self.attempts = self.attempts.saturating_add(1);
        jitter(bound, random)
    }

    /// The largest delay that [`Self::next_delay`] may give now.
    #[must_use]
    pub(crate) fn bound(&self) -> Duration {
        let factor = 2_u32.checked_pow(self.attempts).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }

    /// How many delays were given since the last reset.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Goes on as if so many more delays had been given.
    pub fn skip(&mut self, delays: u32) {
        self.attempts = self.attempts.saturating_add(delays);
    }

    /// Begins again with the base delay.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

/// A time below `bound`, as `random` is below the largest number.
#[must_use]
pub fn jitter(bound: Duration, random: u64) -> Duration {
    let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
    // The high half of the product maps the random number onto 0..nanos without bias worth naming.
    let scaled = (u128::from(random) * u128::from(nanos)) >> 64;
    Duration::from_nanos(u64::try_from(scaled).unwrap_or(nanos))
}

/// A random number from the operating system; 0 if it has none to give (then jitter is lost, not
/// the program).
#[must_use]
pub fn random() -> u64 {
    getrandom::u64().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::Backoff;
    use std::time::Duration;

    #[test]
    fn the_bound_doubles_up_to_the_cap() {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        let bounds: Vec<u128> = (0..9)
            .map(|_| {
                let bound = backoff.bound().as_millis();
                backoff.next_delay(0);
                bound
            })
            .collect();
        assert_eq!(
            bounds,
            [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]
        );
        for _ in 0..100 {
            backoff.next_delay(0);
        }
        assert_eq!(backoff.bound(), Duration::from_secs(30));
        backoff.reset();
        assert_eq!(backoff.bound(), Duration::from_millis(500));
    }

    #[test]
    fn skipped_delays_count_like_taken_ones() {
        let (base, cap) = (Duration::from_millis(500), Duration::from_secs(30));
        let (mut skipped, mut given) = (Backoff::new(base, cap), Backoff::new(base, cap));
        for skip in [0, 1, 4, 1000] {
            skipped.skip(skip);
            for _ in 0..skip {
                given.next_delay(7);
            }
            assert_eq!(skipped.bound(), given.bound());
            assert_eq!(skipped.attempts(), given.attempts());
        }
        skipped.skip(u32::MAX);
        assert_eq!(skipped.bound(), cap);
    }

    #[test]
    fn smaller_limit_keeps_the_full_range() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        let most = Duration::from_millis(1500);
        let delays = [(); 3].map(|()| backoff.next_delay_within(most, u64::MAX / 2).as_millis());
        assert_eq!(delays, [499, 749, 749]);
        assert_eq!(backoff.attempts(), 3);
    }

    #[test]
    fn jitter_covers_the_whole_range() {
        let fresh = Backoff::new(Duration::from_secs(1), Duration::from_secs(1));
        assert_eq!(fresh.clone().next_delay(0), Duration::ZERO);
        assert!(fresh.clone().next_delay(u64::MAX) >= Duration::from_nanos(999_999_999));
        let mut fresh = fresh;
        let half = fresh.next_delay(u64::MAX / 2).as_millis();
        assert!((499..=500).contains(&half), "{half}");
    }
}

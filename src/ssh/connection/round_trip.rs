//! How long the path takes when no queue is on it: the least of the round trips that were measured.
//! Pure.
//!
//! A window of twice the bandwidth-delay product, ours, may fill a queue that makes each round trip
//! twice as long as the path. Believing that would make the window, and so the queue, larger each time;
//! so what was measured earlier is only given up for something that such a queue does not explain.

use std::time::{Duration, Instant};

/// Round trips are looked at together for so long.
const EPOCH: Duration = Duration::from_secs(10);
/// If the least round trip of an epoch is more than so many times the path's, the path has changed. Twice
/// is a queue of ours; the rest is for what else a busy machine adds to each round trip.
const CHANGED: u32 = 4;

/// See the module.
#[derive(Debug)]
pub(super) struct PathRoundTrip {
    path: Duration,
    /// The least of this epoch.
    least: Duration,
    epoch: Instant,
}

impl PathRoundTrip {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            path: Duration::MAX,
            least: Duration::MAX,
            epoch: now,
        }
    }

    /// A round trip was measured: what the path alone takes.
    pub(super) fn measured(&mut self, round_trip: Duration, now: Instant) -> Duration {
        if now.saturating_duration_since(self.epoch) >= EPOCH {
            // An epoch without any measurement says nothing.
            let is_known = self.least < Duration::MAX;
            if is_known && self.least > self.path.saturating_mul(CHANGED) {
                self.path = self.least;
            }
            (self.least, self.epoch) = (Duration::MAX, now);
        }
        self.least = self.least.min(round_trip);
        self.path = self.path.min(round_trip);
        self.path
    }
}

#[cfg(test)]
mod tests {
    use super::{EPOCH, PathRoundTrip};
    use std::time::{Duration, Instant};

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// The path's round trip after this one was measured for so many epochs.
    fn after(
        path: &mut PathRoundTrip,
        now: &mut Instant,
        round_trip: Duration,
        epochs: u32,
    ) -> Duration {
        let mut last = Duration::ZERO;
        for _ in 0..10 * epochs {
            last = path.measured(round_trip, *now);
            *now += EPOCH / 10;
        }
        last
    }

    #[test]
    fn a_queue_of_our_own_is_not_taken_for_a_longer_path() {
        let mut now = Instant::now();
        let mut path = PathRoundTrip::new(now);
        assert_eq!(path.measured(ms(80), now), ms(80));
        assert_eq!(after(&mut path, &mut now, ms(180), 100), ms(80));
        assert_eq!(path.measured(ms(79), now), ms(79));
    }

    #[test]
    fn a_path_that_gets_longer_is_noticed_within_two_epochs_and_a_shorter_one_at_once() {
        let mut now = Instant::now();
        let mut path = PathRoundTrip::new(now);
        assert_eq!(path.measured(ms(1), now), ms(1));
        // One short round trip in the epoch is enough to know better.
        for _ in 0..3 {
            after(&mut path, &mut now, ms(80), 1);
            assert_eq!(path.measured(ms(1), now), ms(1));
        }
        assert_eq!(after(&mut path, &mut now, ms(80), 3), ms(80));
        assert_eq!(path.measured(ms(20), now), ms(20));
    }

    #[test]
    fn an_epoch_without_any_measurement_says_nothing() {
        let mut now = Instant::now();
        let mut path = PathRoundTrip::new(now);
        path.measured(ms(10), now);
        now += 2 * EPOCH;
        path.measured(ms(10), now);
        now += 2 * EPOCH;
        assert_eq!(path.measured(ms(500), now), ms(10));
    }
}

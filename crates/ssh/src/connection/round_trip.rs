//! How long the path takes when no queue is on it: the least of the round trips that were measured.
//! Pure.
//!
//! A window of twice the bandwidth-delay product, ours, may fill a queue that makes each round trip
//! twice as long as the path. Believing that would make the window, and so the queue, larger each
//! time; so what was measured earlier is only given up for something that such a queue does not
//! explain: what came meanwhile would have taken less time at any usual rate.

use std::time::{Duration, Instant};

/// Round trips are looked at together for so long.
const EPOCH: Duration = Duration::from_secs(10);
/// If the least round trip of an epoch is more than so many times the path's, the path has changed.
/// Twice is a queue of ours; the rest is for what else a busy machine adds to each round trip.
const CHANGED: u32 = 4;
/// Bytes that any machine and near path carry in a microsecond: 150 MiB/s.
const RATE: u64 = 157;

/// See the module.
#[derive(Debug)]
pub(super) struct PathRoundTrip {
    path: Duration,
    /// The least of this epoch.
    least: Duration,
    /// A queue may have been the reason for one of this epoch.
    is_explained: bool,
    epoch: Instant,
}

impl PathRoundTrip {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            path: Duration::MAX,
            least: Duration::MAX,
            is_explained: false,
            epoch: now,
        }
    }

    /// What the path alone takes; `None` before a round trip was measured.
    pub(super) fn get(&self) -> Option<Duration> {
        (self.path < Duration::MAX).then_some(self.path)
    }

    /// A round trip was measured, in which `bytes` came: what the path alone takes.
    pub(super) fn measured(&mut self, round_trip: Duration, bytes: u64, now: Instant) -> Duration {
        if now.saturating_duration_since(self.epoch) >= EPOCH {
            // An epoch without any measurement says nothing.
            let is_known = self.least < Duration::MAX;
            let has_changed = self.least > self.path.saturating_mul(CHANGED);
            if is_known && has_changed && !self.is_explained {
                self.path = self.least;
            }
            (self.least, self.is_explained, self.epoch) = (Duration::MAX, false, now);
        }
        self.is_explained |= round_trip <= Duration::from_micros(bytes / RATE);
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
            last = path.measured(round_trip, 0, *now);
            *now += EPOCH / 10;
        }
        last
    }

    #[test]
    fn own_queue_is_not_a_longer_path() {
        let mut now = Instant::now();
        let mut path = PathRoundTrip::new(now);
        assert_eq!(path.measured(ms(80), 0, now), ms(80));
        assert_eq!(after(&mut path, &mut now, ms(180), 100), ms(80));
        assert_eq!(path.measured(ms(79), 0, now), ms(79));
    }

    #[test]
    fn path_changes_are_noticed_within_two_epochs() {
        let mut now = Instant::now();
        let mut path = PathRoundTrip::new(now);
        assert_eq!(path.measured(ms(1), 0, now), ms(1));
        // One short round trip in the epoch is enough to know better.
        for _ in 0..3 {
            after(&mut path, &mut now, ms(80), 1);
            assert_eq!(path.measured(ms(1), 0, now), ms(1));
        }
        assert_eq!(after(&mut path, &mut now, ms(80), 3), ms(80));
        assert_eq!(path.measured(ms(20), 0, now), ms(20));
    }

    #[test]
    fn received_queue_is_not_a_longer_path() {
        let mut now = Instant::now();
        let mut path = PathRoundTrip::new(now);
        path.measured(ms(1), 0, now);
        for _ in 0..100 {
            assert_eq!(path.measured(ms(10), 2 << 20, now), ms(1));
            now += EPOCH / 4;
        }
        // The same bytes do not explain this.
        for _ in 0..12 {
            path.measured(ms(80), 2 << 20, now);
            now += EPOCH / 4;
        }
        assert_eq!(path.measured(ms(80), 2 << 20, now), ms(80));
    }

    #[test]
    fn an_epoch_without_any_measurement_says_nothing() {
        let mut now = Instant::now();
        let mut path = PathRoundTrip::new(now);
        path.measured(ms(10), 0, now);
        now += 2 * EPOCH;
        path.measured(ms(10), 0, now);
        now += 2 * EPOCH;
        assert_eq!(path.measured(ms(500), 0, now), ms(10));
    }
}

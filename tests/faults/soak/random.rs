//! Randomness that a seed repeats.

use std::ops::Range;
use std::time::Duration;

use crate::support::noise::Noise;

/// The same for the same seed.
pub(super) struct Random(Noise);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(Noise::new(seed))
    }

    /// A seed that no one chose.
    pub(super) fn seed() -> u64 {
        let mut bytes = [0; 4];
        getrandom::fill(&mut bytes).expect("randomness");
        u64::from(u32::from_be_bytes(bytes))
    }

    pub(super) fn next(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_be_bytes(bytes)
    }

    /// One of the range.
    pub(super) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// So many milliseconds.
    pub(super) fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.within(range))
    }
}

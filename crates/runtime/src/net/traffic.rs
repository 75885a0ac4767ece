//! The bytes of a session, counted where they are copied, for other tasks to read meanwhile.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Bytes each way between two streams, and when the last ones moved. A look at it may be one copy
/// behind.
#[derive(Debug)]
pub struct Traffic {
    began: Instant,
    a_to_b: AtomicU64,
    b_to_a: AtomicU64,
    /// Milliseconds from the beginning to the last bytes.
    moved_after: AtomicU64,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            a_to_b: AtomicU64::new(0),
            b_to_a: AtomicU64::new(0),
            moved_after: AtomicU64::new(0),
        }
    }
}

impl Traffic {
    /// The totals are these now.
    pub fn set(&self, a_to_b: u64, b_to_a: u64) {
        if (a_to_b, b_to_a) != (self.a_to_b(), self.b_to_a()) {
            self.a_to_b.store(a_to_b, Ordering::Relaxed);
            self.b_to_a.store(b_to_a, Ordering::Relaxed);
            self.touch();
        }
    }

    /// Counts more bytes from the first stream to the second.
    pub fn add_a_to_b(&self, bytes: usize) {
        self.a_to_b.fetch_add(bytes as u64, Ordering::Relaxed);
        self.touch();
    }

    /// Counts more bytes from the second stream to the first.
    pub fn add_b_to_a(&self, bytes: usize) {
        self.b_to_a.fetch_add(bytes as u64, Ordering::Relaxed);
        self.touch();
    }

    fn touch(&self) {
        let after = u64::try_from(self.age().as_millis()).unwrap_or(u64::MAX);
        self.moved_after.store(after, Ordering::Relaxed);
    }

    /// From the first stream to the second.
    #[must_use]
    pub fn a_to_b(&self) -> u64 {
        self.a_to_b.load(Ordering::Relaxed)
    }

    /// From the second stream to the first.
    #[must_use]
    pub fn b_to_a(&self) -> u64 {
        self.b_to_a.load(Ordering::Relaxed)
    }

    /// Since the counting began.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Since the last bytes, or since the beginning if there were none.
    #[must_use]
    pub fn idle(&self) -> Duration {
        let moved_after = Duration::from_millis(self.moved_after.load(Ordering::Relaxed));
        self.age().saturating_sub(moved_after)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Traffic;

    #[tokio::test(start_paused = true)]
    async fn only_moved_bytes_end_idleness() {
        let traffic = Traffic::default();
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(traffic.idle(), Duration::from_secs(5));
        traffic.set(3, 0);
        assert_eq!(traffic.idle(), Duration::ZERO);
        tokio::time::advance(Duration::from_secs(7)).await;
        traffic.set(3, 0);
        assert_eq!(traffic.idle(), Duration::from_secs(7));
        traffic.add_b_to_a(4);
        assert_eq!(traffic.idle(), Duration::ZERO);
        assert_eq!((traffic.a_to_b(), traffic.b_to_a()), (3, 4));
        assert_eq!(traffic.age(), Duration::from_secs(12));
    }
}

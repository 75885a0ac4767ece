//! How often the peer may begin a key exchange: an exchange costs this side up to a hundred times as
//! much as a peer that chooses its numbers for that. Pure.
//!
//! Peers that keep to RFC 4253 §9 begin one for each gibibyte or hour. A peer that is told to begin one
//! after each packet (OpenSSH `RekeyLimit=16`, Go `RekeyThreshold: 256`) does so while it has data, and
//! stays within the burst unless it transfers some mebibytes that way.

use std::time::{Duration, Instant};

/// Time that earns an exchange.
const INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of payload in both directions that earn an exchange: they cost as much as it does.
const BYTES: u64 = 1 << 20;

/// What is left of a peer's allowance.
#[derive(Debug)]
pub(super) struct PeerRekeys {
    burst: u32,
    left: u32,
    since: Instant,
    /// Towards the next exchange.
    bytes: u64,
}

impl PeerRekeys {
    /// Allows so many in a row.
    pub(super) fn new(burst: u32, now: Instant) -> Self {
        Self {
            burst,
            left: burst,
            since: now,
            bytes: 0,
        }
    }

    /// True if the peer may begin an exchange, which is counted. `bytes` went through since the last
    /// exchange.
    pub(super) fn may_begin(&mut self, now: Instant, bytes: u64) -> bool {
        let seconds = now.saturating_duration_since(self.since).as_secs() / INTERVAL.as_secs();
        self.since = self
            .since
            .checked_add(Duration::from_secs(seconds))
            .unwrap_or(now);
        let bytes = self.bytes.saturating_add(bytes);
        self.bytes = bytes % BYTES;
        let earned = seconds.saturating_add(bytes / BYTES);
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(earned).min(self.burst);
        let may_begin = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may_begin
    }
}

#[cfg(test)]
mod tests {
    use super::{BYTES, INTERVAL, PeerRekeys};
    use std::time::Instant;

    #[test]
    fn exchanges_are_earned_by_time_or_bytes() {
        let mut now = Instant::now();
        let mut rekeys = PeerRekeys::new(3, now);
        for _ in 0..3 {
            assert!(rekeys.may_begin(now, 0));
        }
        assert!(!rekeys.may_begin(now, BYTES - 1));
        assert!(rekeys.may_begin(now, 1), "a mebibyte in all");
        assert!(!rekeys.may_begin(now, 0));
        now += INTERVAL;
        assert!(rekeys.may_begin(now, 0));
        assert!(!rekeys.may_begin(now, 0));
        now += INTERVAL * 100;
        for _ in 0..3 {
            assert!(rekeys.may_begin(now, 0), "no more than the burst is kept");
        }
        assert!(!rekeys.may_begin(now, 0));
    }

    #[test]
    fn a_loop_of_exchanges_is_refused() {
        let mut now = Instant::now();
        let mut rekeys = PeerRekeys::new(64, now);
        let mut begun = 0;
        for _ in 0..1000 {
            now += INTERVAL / 100;
            begun += u32::from(rekeys.may_begin(now, 2048));
        }
        assert!((64..=64 + 10 + 2).contains(&begun), "{begun}");
    }
}

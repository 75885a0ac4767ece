//! How often the peer may begin a key exchange: an exchange costs this side up to a hundred times
//! as much as a peer that chooses its numbers for that. Pure.
//!
//! Peers that keep to RFC 4253 §9 begin one for each gibibyte or hour. A peer that is asked to
//! begin one after each packet (OpenSSH `RekeyLimit=16`, Go `RekeyThreshold: 256`) does so while it
//! has data, and stays within the burst unless it transfers some mebibytes that way.
//!
//! The burst is one of CPU time, so an exchange by a slow method takes more of it
//! ([`Method::cost`]). Time and bytes earn exchanges of any method: next to either even a slow one
//! costs little.

use std::time::{Duration, Instant};

use crate::kex::Method;

/// Time that earns an exchange.
const INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of payload in both directions that earn an exchange: they cost as much as it does.
const BYTES: u64 = 1 << 20;
/// CPU time of an exchange that costs 1 (docs/reliability.md, "Abuse").
const UNIT: Duration = Duration::from_micros(200);

/// What is left of a peer's allowance.
#[derive(Debug)]
pub(super) struct PeerRekeys {
    burst: u32,
    remaining: u32,
    since: Instant,
    /// Towards the next exchange.
    bytes: u64,
    /// Of the last exchange.
    cost: u32,
}

impl PeerRekeys {
    /// Allows so many exchanges that cost 1 in a row.
    pub(super) fn new(burst: u32, now: Instant) -> Self {
        Self {
            burst,
            remaining: burst,
            since: now,
            bytes: 0,
            cost: 1,
        }
    }

    /// True if the peer may begin an exchange by `method`, which is counted. `bytes` went through
    /// since the last exchange.
    pub(super) fn may_begin(&mut self, method: Method, now: Instant, bytes: u64) -> bool {
        self.cost = method.cost();
        self.earn(now, bytes);
        let remaining = self.remaining.checked_sub(self.cost);
        self.remaining = remaining.unwrap_or(self.remaining);
        remaining.is_some()
    }

    /// CPU time of the exchanges that were begun and not earned yet.
    pub(super) fn unearned(&mut self, now: Instant) -> Duration {
        self.earn(now, 0);
        UNIT.saturating_mul(self.burst.saturating_sub(self.remaining))
    }

    fn earn(&mut self, now: Instant, bytes: u64) {
        let seconds = now.saturating_duration_since(self.since).as_secs() / INTERVAL.as_secs();
        self.since = self
            .since
            .checked_add(Duration::from_secs(seconds))
            .unwrap_or(now);
        let bytes = self.bytes.saturating_add(bytes);
        self.bytes = bytes % BYTES;
        let earned = seconds.saturating_add(bytes / BYTES);
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        let earned = earned.saturating_mul(self.cost);
        self.remaining = self.remaining.saturating_add(earned).min(self.burst);
    }
}

#[cfg(test)]
mod tests {
    use super::{BYTES, INTERVAL, PeerRekeys, UNIT};
    use crate::RekeyLimits;
    use crate::kex::Method;
    use std::time::{Duration, Instant};

    const CURVE: Method = Method::Curve25519Sha256;
    const GROUP: Method = Method::DhGroup14Sha256;

    #[test]
    fn exchanges_are_earned_by_time_or_bytes() {
        for method in [CURVE, GROUP] {
            let mut now = Instant::now();
            let mut rekeys = PeerRekeys::new(3 * method.cost(), now);
            for _ in 0..3 {
                assert!(rekeys.may_begin(method, now, 0));
            }
            assert!(!rekeys.may_begin(method, now, BYTES - 1));
            assert!(rekeys.may_begin(method, now, 1), "a mebibyte in all");
            assert!(!rekeys.may_begin(method, now, 0));
            now += INTERVAL;
            assert!(rekeys.may_begin(method, now, 0));
            assert!(!rekeys.may_begin(method, now, 0));
            now += INTERVAL * 100;
            for _ in 0..3 {
                assert!(
                    rekeys.may_begin(method, now, 0),
                    "no more than the burst is kept"
                );
            }
            assert!(!rekeys.may_begin(method, now, 0));
        }
    }

    #[test]
    fn a_loop_of_exchanges_is_refused() {
        let mut now = Instant::now();
        let mut rekeys = PeerRekeys::new(64, now);
        let mut begun = 0;
        for _ in 0..1000 {
            now += INTERVAL / 100;
            begun += u32::from(rekeys.may_begin(CURVE, now, 2048));
        }
        assert!((64..=64 + 10 + 2).contains(&begun), "{begun}");
    }

    #[test]
    fn burst_costs_the_same_by_any_method() {
        let now = Instant::now();
        for method in Method::ALL {
            let mut rekeys = PeerRekeys::new(RekeyLimits::DEFAULT.peer_burst, now);
            let mut begun = 0;
            while rekeys.may_begin(method, now, 0) {
                begun += 1;
            }
            let time = UNIT * method.cost() * begun;
            assert!(time <= Duration::from_millis(256), "{method:?} {begun}");
            // OpenSSH with RekeyLimit=16 begins some fifty while a session is opened and used.
            assert!(begun >= 64, "{method:?} {begun}");
        }
    }

    #[test]
    fn exchanges_that_were_earned_cost_nothing() {
        let mut now = Instant::now();
        let mut rekeys = PeerRekeys::new(1024, now);
        for _ in 0..10 {
            now += INTERVAL;
            assert!(rekeys.may_begin(GROUP, now, 0));
        }
        assert_eq!(rekeys.unearned(now + INTERVAL), Duration::ZERO);
        for _ in 0..10 {
            assert!(rekeys.may_begin(CURVE, now, 0));
        }
        assert_eq!(rekeys.unearned(now), UNIT * 10);
    }
}

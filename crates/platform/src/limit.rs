//! Bounds on how often one caller may do something: an address try a login or an enrollment, an
//! identity have certificates signed.
//!
//! A bucket per caller: it holds a [`Rate`]'s burst and gets one back every refill. Only callers
//! with a bucket that is not full are remembered, and at most [`MAX_CALLERS`] of them. Pure: time
//! is an argument.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Callers remembered. When there are more, all newcomers share one bucket until some are
/// forgotten.
const MAX_CALLERS: usize = 10_000;

/// How often one caller may do something.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    /// How many at once.
    pub(super) burst: u32,
    /// Time in which one is given back.
    pub(super) refill: Duration,
}

/// Logins and enrollments of an address.
pub(super) const LOGINS: Rate = Rate {
    burst: 60,
    refill: Duration::from_secs(1),
};

/// What every caller has done lately.
#[derive(Debug)]
pub(super) struct Limiter<K> {
    rate: Rate,
    /// When each caller's bucket will be full.
    full_at: HashMap<K, Instant>,
    /// When the bucket will be full that is shared while there are too many callers.
    shared: Option<Instant>,
}

impl<K: Eq + Hash> Limiter<K> {
    /// The same rate for every caller.
    pub(super) fn new(rate: Rate) -> Self {
        Self {
            rate,
            full_at: HashMap::new(),
            shared: None,
        }
    }

    /// Counts one attempt of `caller`.
    ///
    /// # Errors
    /// It is one too many; the next is possible after the given time.
    pub(super) fn attempt(&mut self, caller: K, now: Instant) -> Result<(), Duration> {
        if self.full_at.len() >= MAX_CALLERS {
            self.full_at.retain(|_, full_at| *full_at > now);
        }
        let has_room = self.full_at.len() < MAX_CALLERS || self.full_at.contains_key(&caller);
        let full_at = if has_room {
            self.full_at.entry(caller).or_insert(now)
        } else {
            self.shared.get_or_insert(now)
        };
        let next = (*full_at).max(now) + self.rate.refill;
        let debt = next.saturating_duration_since(now);
        let most = self.rate.refill * self.rate.burst;
        if debt > most {
            return Err(debt.saturating_sub(most));
        }
        *full_at = next;
        Ok(())
    }
}

/// The [`block`] of a caller's address; all that have none share one.
pub(super) fn source(address: Option<IpAddr>) -> IpAddr {
    address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), block)
}

/// What one host of an address' kind controls: an IPv4 address, or a /64 of IPv6.
fn block(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::{LOGINS, Limiter, MAX_CALLERS, block};
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::{Duration, Instant};

    const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn a_burst_is_allowed_and_refilled() {
        let mut limiter = Limiter::new(LOGINS);
        let now = Instant::now();
        for _ in 0..LOGINS.burst {
            limiter.attempt(SOURCE, now).expect("within the burst");
        }
        assert_eq!(limiter.attempt(SOURCE, now), Err(LOGINS.refill));
        limiter.attempt(OTHER, now).expect("another address");
        let later = now + LOGINS.refill;
        limiter.attempt(SOURCE, later).expect("one was given back");
        assert_eq!(limiter.attempt(SOURCE, later), Err(LOGINS.refill));
    }

    #[test]
    fn ipv6_block_counts_as_one_host() {
        let mut limiter = Limiter::new(LOGINS);
        let now = Instant::now();
        for host in 0..LOGINS.burst {
            let source: IpAddr = format!("2001:db8::{host:x}").parse().expect("an address");
            limiter
                .attempt(block(source), now)
                .expect("within the burst");
        }
        let source = "2001:db8::ffff".parse().expect("an address");
        assert_eq!(limiter.attempt(block(source), now), Err(LOGINS.refill));
    }

    #[test]
    fn memory_is_bounded() {
        let mut limiter = Limiter::new(LOGINS);
        let now = Instant::now();
        for number in 0..u32::try_from(MAX_CALLERS).expect("small") + 100 {
            let source = IpAddr::V4(Ipv4Addr::from_bits(number));
            // The last hundred share a bucket, so some of them are refused.
            let _ = limiter.attempt(source, now);
        }
        assert!(limiter.full_at.len() <= MAX_CALLERS);
        let later = now + Duration::from_secs(3600);
        limiter.attempt(SOURCE, later).expect("all is forgiven");
        assert_eq!(limiter.full_at.len(), 1);
    }
}

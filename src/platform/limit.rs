//! A bound on how often one address may try a login or an enrollment.
//!
//! A bucket per address: it holds [`BURST`] attempts and gets one back every [`REFILL`]. Only addresses
//! with a bucket that is not full are remembered, and at most [`MAX_SOURCES`] of them. Pure: time is an
//! argument.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Attempts at once.
const BURST: u32 = 60;
/// Time in which one attempt is given back.
const REFILL: Duration = Duration::from_secs(1);
/// Addresses remembered. When there are more, all newcomers share one bucket until some are forgotten.
const MAX_SOURCES: usize = 10_000;

/// The attempts of every address.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    /// When each address' bucket will be full.
    full_at: HashMap<IpAddr, Instant>,
}

impl Limiter {
    /// Counts one attempt from `source`.
    ///
    /// # Errors
    /// It is one too many; the next is possible after the given time.
    pub(super) fn attempt(&mut self, source: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut source = block(source);
        if self.full_at.len() >= MAX_SOURCES {
            self.full_at.retain(|_, full_at| *full_at > now);
            if self.full_at.len() >= MAX_SOURCES && !self.full_at.contains_key(&source) {
                source = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
            }
        }
        let full_at = self.full_at.entry(source).or_insert(now);
        let next = (*full_at).max(now) + REFILL;
        let debt = next.saturating_duration_since(now);
        let most = REFILL * BURST;
        if debt > most {
            return Err(debt.saturating_sub(most));
        }
        *full_at = next;
        Ok(())
    }
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
    use super::{BURST, Limiter, MAX_SOURCES, REFILL};
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::{Duration, Instant};

    const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn a_burst_is_allowed_and_refilled() {
        let mut limiter = Limiter::default();
        let now = Instant::now();
        for _ in 0..BURST {
            limiter.attempt(SOURCE, now).expect("within the burst");
        }
        assert_eq!(limiter.attempt(SOURCE, now), Err(REFILL));
        limiter.attempt(OTHER, now).expect("another address");
        let later = now + REFILL;
        limiter.attempt(SOURCE, later).expect("one was given back");
        assert_eq!(limiter.attempt(SOURCE, later), Err(REFILL));
    }

    #[test]
    fn one_host_cannot_use_its_ipv6_block_to_try_more() {
        let mut limiter = Limiter::default();
        let now = Instant::now();
        for host in 0..BURST {
            let source = format!("2001:db8::{host:x}").parse().expect("an address");
            limiter.attempt(source, now).expect("within the burst");
        }
        let source = "2001:db8::ffff".parse().expect("an address");
        assert_eq!(limiter.attempt(source, now), Err(REFILL));
    }

    #[test]
    fn memory_is_bounded() {
        let mut limiter = Limiter::default();
        let now = Instant::now();
        for number in 0..u32::try_from(MAX_SOURCES).expect("small") + 100 {
            let source = IpAddr::V4(Ipv4Addr::from_bits(number));
            // The last hundred share a bucket, so some of them are refused.
            let _ = limiter.attempt(source, now);
        }
        assert!(limiter.full_at.len() <= MAX_SOURCES + 1);
        let later = now + Duration::from_secs(3600);
        limiter.attempt(SOURCE, later).expect("all is forgiven");
        assert_eq!(limiter.full_at.len(), 1);
    }
}

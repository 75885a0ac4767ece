//! Counters with a bound, so that no one peer can use the relay up, and a ration for log lines that a
//! stranger can provoke.
//!
//! Memory is bounded by what is counted: a key with a count of 0 is forgotten.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Whose connections are counted together: an IPv4 address, or an IPv6 network of 64 bits, within which
/// one machine can have as many addresses as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Source(IpAddr);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) => {
                let network = v6.to_bits() & (u128::MAX << 64);
                Self(IpAddr::V6(Ipv6Addr::from_bits(network)))
            }
            v4 @ IpAddr::V4(_) => Self(v4),
        }
    }
}

/// Counts per key, none beyond a limit. Clones share the counts.
#[derive(Debug)]
pub(crate) struct Counters<K> {
    counts: Arc<Mutex<HashMap<K, usize>>>,
    limit: usize,
}

/// One unit of a count, given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot<K: Eq + Hash> {
    counts: Arc<Mutex<HashMap<K, usize>>>,
    key: K,
}

impl<K: Eq + Hash + Clone> Counters<K> {
    /// Counts up to `limit` for each key.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            counts: Arc::default(),
            limit,
        }
    }

    /// A unit of `key`'s count, if its limit allows one more.
    pub(crate) fn take(&self, key: K) -> Option<Slot<K>> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.entry(key.clone()) {
            Entry::Occupied(mut entry) => {
                let count = entry.get_mut();
                if *count >= self.limit {
                    return None;
                }
                *count = count.saturating_add(1);
            }
            Entry::Vacant(entry) => {
                if self.limit == 0 {
                    return None;
                }
                entry.insert(1);
            }
        }
        drop(counts);
        Some(Slot {
            counts: Arc::clone(&self.counts),
            key,
        })
    }

    /// How many keys have a count.
    #[cfg(test)]
    pub(crate) fn keys(&self) -> usize {
        self.counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }
}

impl<K: Eq + Hash> Drop for Slot<K> {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

/// Time over which log lines are rationed.
const RATION_PERIOD: Duration = Duration::from_secs(10);
/// Log lines in that time.
const RATION_LINES: u32 = 30;

/// How many log lines strangers may provoke: [`RATION_LINES`] in each [`RATION_PERIOD`].
#[derive(Debug, Default)]
pub(crate) struct Ration(Mutex<Spent>);

#[derive(Debug, Default)]
struct Spent {
    since: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

impl Ration {
    /// `Some` if a line may be logged now, with the number of lines that were not since the last one.
    pub(crate) fn take(&self, now: Instant) -> Option<u64> {
        let mut spent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = spent
            .since
            .is_none_or(|since| now.saturating_duration_since(since) >= RATION_PERIOD);
        if is_over {
            spent.since = Some(now);
            spent.lines = 0;
        }
        if spent.lines >= RATION_LINES {
            spent.suppressed = spent.suppressed.saturating_add(1);
            return None;
        }
        spent.lines = spent.lines.saturating_add(1);
        Some(std::mem::take(&mut spent.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::{Counters, RATION_LINES, RATION_PERIOD, Ration, Source};
    use std::net::IpAddr;
    use tokio::time::Instant;

    fn source(text: &str) -> Source {
        Source::from(text.parse::<IpAddr>().expect("an address"))
    }

    #[test]
    fn each_key_has_its_own_limit_and_slots_return() {
        let counters = Counters::new(2);
        let first = counters.take('a').expect("one");
        let second = counters.take('a').expect("two");
        assert!(counters.take('a').is_none());
        let other = counters.take('b').expect("another key");
        drop(first);
        assert!(counters.take('a').is_some());
        drop((second, other));
        assert_eq!(counters.keys(), 0, "keys without a count are forgotten");
        assert!(Counters::new(0).take('a').is_none());
    }

    #[test]
    fn an_ipv6_network_counts_as_one_source() {
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
    }

    #[test]
    fn lines_beyond_the_ration_are_counted_and_reported_later() {
        let ration = Ration::default();
        let now = Instant::now();
        for _ in 0..RATION_LINES {
            assert_eq!(ration.take(now), Some(0));
        }
        assert_eq!(ration.take(now), None);
        assert_eq!(ration.take(now), None);
        assert_eq!(ration.take(now + RATION_PERIOD), Some(2));
        assert_eq!(ration.take(now + RATION_PERIOD), Some(0));
    }
}

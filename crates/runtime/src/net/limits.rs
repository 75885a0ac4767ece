//! Counters with a bound, so that no one peer can use a server up.
//!
//! Memory is bounded by what is counted: a key with a count of 0 is forgotten.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Whose connections are counted together: an IPv4 address, or an IPv6 network of 64 bits, within
/// which one machine can have as many addresses as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source(IpAddr);

impl Source {
    /// The address, or the network's.
    pub fn address(self) -> IpAddr {
        self.0
    }

    /// The network, or the source itself: what one site has.
    pub fn site(self) -> Self {
        self.network().unwrap_or(self)
    }

    /// The IPv6 network of 48 bits that it is in, as much as one site gets (RFC 6177); `None` for
    /// IPv4.
    pub(crate) fn network(self) -> Option<Self> {
        match self.0 {
            IpAddr::V6(v6) => {
                let network = v6.to_bits() & (u128::MAX << 80);
                Some(Self(IpAddr::V6(Ipv6Addr::from_bits(network))))
            }
            IpAddr::V4(_) => None,
        }
    }
}

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

/// What is counted per key, and all of it.
#[derive(Debug)]
struct Counts<K> {
    of: HashMap<K, usize>,
    all: usize,
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self {
            of: HashMap::new(),
            all: 0,
        }
    }
}

/// Counts per key, none beyond a limit.
#[derive(Debug)]
pub struct Counters<K> {
    counts: Arc<Mutex<Counts<K>>>,
    limit: usize,
}

/// One unit of a count, given back when dropped.
#[derive(Debug)]
pub struct Slot<K: Eq + Hash> {
    counts: Arc<Mutex<Counts<K>>>,
    key: K,
}

impl<K: Eq + Hash + Clone> Counters<K> {
    /// Counts up to `limit` for each key.
    pub fn new(limit: usize) -> Self {
        Self {
            counts: Arc::default(),
            limit,
        }
    }

    /// A unit of `key`'s count, if its limit allows one more.
    pub fn take(&self, key: K) -> Option<Slot<K>> {
        self.take_within(key, |_| self.limit)
    }

    /// The same, with a limit that depends on how many units of all keys are taken.
    pub fn take_within(&self, key: K, limit: impl FnOnce(usize) -> usize) -> Option<Slot<K>> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = limit(counts.all);
        match counts.of.entry(key.clone()) {
            Entry::Occupied(mut entry) => {
                let count = entry.get_mut();
                if *count >= limit {
                    return None;
                }
                *count = count.saturating_add(1);
            }
            Entry::Vacant(entry) => {
                if limit == 0 {
                    return None;
                }
                entry.insert(1);
            }
        }
        counts.all = counts.all.saturating_add(1);
        drop(counts);
        Some(Slot {
            counts: Arc::clone(&self.counts),
            key,
        })
    }

    /// What all keys have together.
    pub fn all(&self) -> usize {
        self.counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .all
    }

    /// How many keys have a count.
    #[cfg(any(test, feature = "testing"))]
    pub fn keys(&self) -> usize {
        self.counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .of
            .len()
    }
}

impl<K: Eq + Hash> Drop for Slot<K> {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.of.get_mut(&self.key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.of.remove(&self.key);
            }
        }
        counts.all = counts.all.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::{Counters, Source};
    use std::net::IpAddr;

    fn source(text: &str) -> Source {
        Source::from(text.parse::<IpAddr>().expect("an address"))
    }

    #[test]
    fn each_key_has_its_own_limit() {
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
}

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
pub(crate) struct Counters<K> {
    counts: Arc<Mutex<Counts<K>>>,
    limit: usize,
}

/// One unit of a count, given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot<K: Eq + Hash> {
    counts: Arc<Mutex<Counts<K>>>,
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
        self.take_within(key, |_| self.limit)
    }

    /// The same, with a limit that depends on how many units of all keys are taken.
    fn take_within(&self, key: K, limit: impl FnOnce(usize) -> usize) -> Option<Slot<K>> {
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
    #[cfg(test)]
    pub(crate) fn all(&self) -> usize {
        self.counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .all
    }

    /// How many keys have a count.
    #[cfg(test)]
    pub(crate) fn keys(&self) -> usize {
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

/// A source may hold so many times as many of a port's places for handshakes as are free. One alone gets seven eighths,
/// which is enough for a burst of a platform or of a crowd behind one address; two get seven fifteenths each; and
/// however many hold what they can get, one that has none finds a free place.
const TIMES_WHAT_IS_FREE: usize = 7;

/// Connections of one port that have not proved themselves yet.
#[derive(Debug)]
pub(crate) struct Newcomers {
    counters: Counters<Source>,
    places: usize,
    /// For lines about them: whoever floods one port does not hide who is refused at the other.
    pub(crate) ration: Ration,
}

impl Newcomers {
    /// So many places in all.
    pub(crate) fn new(places: usize) -> Self {
        Self {
            counters: Counters::new(places),
            places,
            ration: Ration::default(),
        }
    }

    /// A place, if `source` may hold one more.
    pub(crate) fn take(&self, source: Source) -> Option<Slot<Source>> {
        let share = |taken| {
            let free = self.places.saturating_sub(taken);
            free.saturating_mul(TIMES_WHAT_IS_FREE)
        };
        self.counters.take_within(source, share)
    }

    /// How many sources hold a place.
    #[cfg(test)]
    pub(crate) fn sources(&self) -> usize {
        self.counters.keys()
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
    use super::{Counters, Newcomers, RATION_LINES, RATION_PERIOD, Ration, Source};
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
    fn whoever_holds_places_for_handshakes_leaves_some_for_others() {
        let places = Newcomers::new(256);
        let fill = |source| {
            let mut held = Vec::new();
            while let Some(slot) = places.take(source) {
                held.push(slot);
            }
            held
        };
        let mut all = fill(source("192.0.2.1"));
        assert_eq!(all.len(), 224, "seven eighths");
        // What one held before others came it keeps, and gets no more.
        for (number, expected) in [(2, 28), (3, 4)] {
            let held = fill(source(&format!("192.0.2.{number}")));
            assert_eq!(held.len(), expected, "{number}");
            all.extend(held);
        }
        drop(all);
        assert_eq!(places.sources(), 0);
        // Those that come at the same time share equally.
        let mut held = Vec::new();
        let hostile: Vec<_> = (1..=30).map(|n| source(&format!("192.0.2.{n}"))).collect();
        loop {
            let before = held.len();
            held.extend(hostile.iter().filter_map(|source| places.take(*source)));
            if held.len() == before {
                break;
            }
        }
        assert!(
            places.take(source("198.51.100.1")).is_some(),
            "{}",
            held.len()
        );
    }

    #[test]
    fn a_flood_at_one_port_does_not_silence_the_other() {
        let (ssh, tls) = (Newcomers::new(1), Newcomers::new(1));
        let now = Instant::now();
        while tls.ration.take(now).is_some() {}
        assert_eq!(ssh.ration.take(now), Some(0));
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

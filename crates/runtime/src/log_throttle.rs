//! Keeps the log quiet while one thing repeats: the first line at once, then one line for each
//! period with the number of lines left out since.
//!
//! Lines are the same if event, error class and source are; the text of an error, which may hold a
//! time or an id, does not count. Memory is bounded: beyond a number of different lines, further
//! ones count as one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Time between two lines about a failure that is retried. It doubles up to [`LONGEST_PERIOD`].
const RETRY_PERIOD: Duration = Duration::from_secs(60);
/// Longest time between two lines about one thing, and the time between two lines about one peer.
const LONGEST_PERIOD: Duration = Duration::from_secs(600);
/// Different lines that are remembered.
const MAX_KEYS: usize = 256;

/// What makes two lines the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    event: &'static str,
    class: String,
    source: Option<IpAddr>,
}

/// What became of one kind of line.
#[derive(Debug)]
struct Entry {
    /// When the next line may be logged.
    next: Instant,
    /// The time between the last line and the next one.
    period: Duration,
    /// Lines left out since the last one.
    suppressed: u64,
}

/// A line may be logged; it should have the field `suppressed` with [`Self::suppressed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Permission(u64);

impl Permission {
    /// The number of lines of this kind left out since the last one, if any.
    #[must_use]
    pub fn suppressed(self) -> Option<u64> {
        (self.0 > 0).then_some(self.0)
    }
}

/// See the module.
#[derive(Debug)]
pub struct LogThrottle {
    first_period: Duration,
    entries: Mutex<HashMap<Key, Entry>>,
}

impl LogThrottle {
    /// For failures of something that is retried: after a minute the same failure is logged again,
    /// then less and less often, down to every ten minutes.
    #[must_use]
    pub fn for_retries() -> Self {
        Self::new(RETRY_PERIOD)
    }

    /// For what peers cause: one line of each kind for each source in ten minutes.
    #[must_use]
    pub fn for_peers() -> Self {
        Self::new(LONGEST_PERIOD)
    }

    fn new(first_period: Duration) -> Self {
        Self {
            first_period,
            entries: Mutex::default(),
        }
    }

    /// `Some` if a line about `event` with an error of `class` is to be logged now.
    pub fn should_log(&self, event: &'static str, class: &str) -> Option<Permission> {
        self.check(event, class, None, Instant::now())
    }

    /// The same for what the peer at `source` caused.
    pub fn should_log_peer(
        &self,
        event: &'static str,
        class: &str,
        source: IpAddr,
    ) -> Option<Permission> {
        self.check(event, class, Some(source), Instant::now())
    }

    /// It is over: the next failure is logged at once.
    pub fn clear(&self) {
        self.entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    fn check(
        &self,
        event: &'static str,
        class: &str,
        source: Option<IpAddr>,
        now: Instant,
    ) -> Option<Permission> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = Key {
            event,
            class: class.to_owned(),
            source,
        };
        if !entries.contains_key(&key) && entries.len() >= MAX_KEYS {
            entries.retain(|_, entry| now < entry.next + entry.period);
            if entries.len() >= MAX_KEYS {
                key = Key {
                    event: "",
                    class: String::new(),
                    source: None,
                };
            }
        }
        let Some(entry) = entries.get_mut(&key) else {
            let entry = Entry {
                next: now + self.first_period,
                period: self.first_period,
                suppressed: 0,
            };
            entries.insert(key, entry);
            return Some(Permission(0));
        };
        if now < entry.next {
            entry.suppressed = entry.suppressed.saturating_add(1);
            return None;
        }
        let has_paused = now >= entry.next + entry.period;
        entry.period = if has_paused {
            self.first_period
        } else {
            entry.period.saturating_mul(2).min(LONGEST_PERIOD)
        };
        entry.next = now + entry.period;
        Some(Permission(std::mem::take(&mut entry.suppressed)))
    }
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_PERIOD, LogThrottle, MAX_KEYS, Permission, RETRY_PERIOD};
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;
    use tokio::time::Instant;

    #[test]
    fn each_class_is_logged_then_summarized() {
        let throttle = LogThrottle::for_retries();
        let begin = Instant::now();
        let check = |class, after| throttle.check("lost", class, None, begin + after);
        assert_eq!(check("relay", Duration::ZERO), Some(Permission(0)));
        assert_eq!(check("platform", Duration::ZERO), Some(Permission(0)));
        assert_eq!(check("relay", RETRY_PERIOD / 3), None);
        assert_eq!(check("relay", RETRY_PERIOD / 2), None);
        assert_eq!(check("relay", RETRY_PERIOD), Some(Permission(2)));
        assert_eq!(check("platform", RETRY_PERIOD), Some(Permission(0)));
        throttle.clear();
        assert_eq!(check("relay", RETRY_PERIOD), Some(Permission(0)));
    }

    /// A day with a failure every second: the first hour has a line for each doubling, and later
    /// ones come every ten minutes.
    #[test]
    fn long_outage_is_logged_ever_less() {
        let throttle = LogThrottle::for_retries();
        let begin = Instant::now();
        let day = 24 * 60 * 60;
        let times: Vec<u64> = (0..day)
            .filter(|second| {
                let now = begin + Duration::from_secs(*second);
                throttle.check("lost", "relay", None, now).is_some()
            })
            .collect();
        assert_eq!(times.get(..5), Some(&[0, 60, 180, 420, 900][..]));
        assert!(times.len() <= 148, "{}", times.len());
        let later = begin + Duration::from_secs(2 * day);
        let permission = throttle.check("lost", "relay", None, later);
        assert!(permission.is_some_and(|permission| permission.suppressed().is_some()));
        assert_eq!(throttle.check("lost", "relay", None, later), None);
        let again = throttle.check("lost", "relay", None, later + RETRY_PERIOD);
        assert_eq!(again, Some(Permission(1)), "the first period again");
    }

    #[test]
    fn each_source_logs_once_per_ten_minutes() {
        let throttle = LogThrottle::for_peers();
        let begin = Instant::now();
        let lines = |source: Ipv4Addr| {
            let at = |second| begin + Duration::from_secs(second);
            (0..600)
                .filter(|second| {
                    let source = Some(IpAddr::V4(source));
                    throttle.check("refused", "", source, at(*second)).is_some()
                })
                .count()
        };
        assert_eq!(lines(Ipv4Addr::new(192, 0, 2, 1)), 1);
        assert_eq!(lines(Ipv4Addr::new(192, 0, 2, 2)), 1);
        let source = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
        let later = throttle.check("refused", "", source, begin + LONGEST_PERIOD);
        assert_eq!(later, Some(Permission(599)));
    }

    #[test]
    fn memory_is_bounded_and_so_are_lines() {
        let throttle = LogThrottle::for_peers();
        let now = Instant::now();
        let logged = (0..100_000)
            .filter(|number| {
                let source = Some(IpAddr::V4(Ipv4Addr::from_bits(*number)));
                throttle.check("refused", "", source, now).is_some()
            })
            .count();
        assert_eq!(logged, MAX_KEYS + 1, "one more for all the others");
        let entries = || throttle.entries.lock().expect("not poisoned").len();
        assert_eq!(entries(), MAX_KEYS + 1);
        let later = now + LONGEST_PERIOD * 2;
        let source = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert!(throttle.check("refused", "", source, later).is_some());
        assert_eq!(entries(), 1, "what is over is forgotten");
    }
}

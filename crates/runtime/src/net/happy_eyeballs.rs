//! Which of a host's addresses is tried when, while none has won yet: RFC 8305, and repeatedly.
//! Pure.
//!
//! - The families alternate, the resolver's first one first.
//! - The next address is due after a quarter of a second, or at once when the one before it failed.
//! - After all have been tried a fresh round begins beside the older attempts, for as long as none
//!   has won. The kernel repeats a SYN that got lost ever more rarely, and a peer that fell silent
//!   never speaks up: a new socket finds a network or a peer that came back within a second.
//! - The race is lost when each address has failed and no attempt is open.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

/// Between two addresses: the "Connection Attempt Delay" (RFC 8305 §5).
const PACE: Duration = Duration::from_millis(250);
/// Between the beginnings of two rounds, at least.
const ROUND: Duration = Duration::from_secs(1);
/// The same for each address, so that an attempt that has to make room for another one had three
/// seconds, or two where a host has more addresses than may be open: paths that take longer than
/// that to answer are no use.
const ROUND_EACH: Duration = Duration::from_millis(500);
/// Attempts open at once; the oldest makes room for a new one.
const AT_ONCE: usize = 8;

/// The addresses in the order of attempts (RFC 8305 §4, with one address of the first family at the
/// front).
pub(super) fn alternate(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let is_v4_first = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let mut queues: [VecDeque<SocketAddr>; 2] = Default::default();
    let [first, second] = &mut queues;
    for address in addresses {
        if address.is_ipv4() == is_v4_first {
            first.push_back(*address);
        } else {
            second.push_back(*address);
        }
    }
    let mut ordered = Vec::with_capacity(addresses.len());
    while !(first.is_empty() && second.is_empty()) {
        ordered.extend(first.pop_front());
        ordered.extend(second.pop_front());
    }
    ordered
}

/// What is to be begun, and what is to be closed before.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Begin {
    /// The attempt's number, never used again.
    pub(super) attempt: u64,
    /// The address's place in the list.
    pub(super) address: usize,
    /// Whether it is the address's first attempt. All others are extras that may be left out when
    /// sockets are scarce.
    pub(super) is_first: bool,
    /// An attempt that is to be closed first.
    pub(super) instead_of: Option<u64>,
}

/// One race.
#[derive(Debug)]
pub(super) struct Race {
    addresses: usize,
    /// The address whose turn it is.
    turn: usize,
    due: Instant,
    round_began: Instant,
    is_first_round: bool,
    /// Open attempts, the oldest first.
    open: VecDeque<u64>,
    begun: u64,
}

impl Race {
    /// A race over so many addresses, the first of which is due now.
    pub(super) fn new(addresses: usize, now: Instant) -> Self {
        Self {
            addresses,
            turn: 0,
            due: now,
            round_began: now,
            is_first_round: true,
            open: VecDeque::new(),
            begun: 0,
        }
    }

    /// When [`Self::begin`] is to be called next.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// The next attempt.
    pub(super) fn begin(&mut self, now: Instant) -> Begin {
        if self.turn == 0 {
            self.round_began = now;
        }
        let instead_of = if self.open.len() >= AT_ONCE {
            self.open.pop_front()
        } else {
            None
        };
        let begin = Begin {
            attempt: self.begun,
            address: self.turn,
            is_first: self.is_first_round,
            instead_of,
        };
        self.open.push_back(self.begun);
        self.begun = self.begun.saturating_add(1);
        self.turn = self.turn.saturating_add(1);
        if self.turn < self.addresses {
            self.due = now + PACE;
        } else {
            self.turn = 0;
            self.is_first_round = false;
            let each = ROUND_EACH.saturating_mul(u32::try_from(self.addresses).unwrap_or(u32::MAX));
            let next = self.round_began.checked_add(each.max(ROUND));
            self.due = next.unwrap_or(now).max(now);
        }
        begin
    }

    /// An attempt failed, or was not made after all.
    pub(super) fn failed(&mut self, attempt: u64, now: Instant) {
        self.open.retain(|open| *open != attempt);
        let is_latest = attempt.checked_add(1) == Some(self.begun);
        if is_latest && self.turn != 0 {
            self.due = now;
        }
    }

    /// True once there is nothing left to hope for.
    pub(super) fn is_lost(&self) -> bool {
        self.addresses == 0 || (!self.is_first_round && self.turn == 0 && self.open.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::{AT_ONCE, PACE, ROUND, Race, alternate};
    use std::net::SocketAddr;
    use std::time::Duration;
    use tokio::time::Instant;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        let parse = |text: &&str| SocketAddr::new(text.parse().expect("an address"), 1);
        texts.iter().map(parse).collect()
    }

    #[test]
    fn families_alternate_from_the_resolvers_first() {
        let resolved = addresses(&["::1", "::2", "::3", "10.0.0.1", "10.0.0.2"]);
        let expected = addresses(&["::1", "10.0.0.1", "::2", "10.0.0.2", "::3"]);
        assert_eq!(alternate(&resolved), expected);
        let resolved = addresses(&["10.0.0.1", "::1", "::2"]);
        assert_eq!(alternate(&resolved), addresses(&["10.0.0.1", "::1", "::2"]));
        assert_eq!(alternate(&[]), []);
    }

    /// The attempts until `end` as (milliseconds, address), when none of them ever ends.
    fn attempts(count: usize, end: Duration) -> Vec<(u128, usize)> {
        let begin = Instant::now();
        let mut race = Race::new(count, begin);
        let mut made = Vec::new();
        while race.due() < begin + end {
            let now = race.due();
            let begun = race.begin(now);
            made.push(((now - begin).as_millis(), begun.address));
        }
        made
    }

    #[test]
    fn silent_address_delays_next_by_250_ms() {
        assert_eq!(
            attempts(2, Duration::from_millis(2500)),
            [(0, 0), (250, 1), (1000, 0), (1250, 1), (2000, 0), (2250, 1)]
        );
        assert_eq!(
            attempts(1, Duration::from_millis(2500)),
            [(0, 0), (1000, 0), (2000, 0)]
        );
    }

    #[test]
    fn failure_brings_the_next_address() {
        let begin = Instant::now();
        let mut race = Race::new(2, begin);
        let first = race.begin(begin);
        let later = begin + Duration::from_millis(10);
        race.failed(first.attempt, later);
        assert_eq!(race.due(), later);
        assert!(!race.is_lost(), "the second address has not been tried");
        race.begin(later);
        assert_eq!(race.due(), begin + ROUND);
    }

    #[test]
    fn older_attempts_failure_hurries_nothing() {
        let begin = Instant::now();
        let mut race = Race::new(3, begin);
        let first = race.begin(begin);
        race.begin(begin + PACE);
        race.failed(first.attempt, begin + PACE);
        assert_eq!(race.due(), begin + PACE * 2);
    }

    #[test]
    fn race_is_lost_when_all_failed() {
        let begin = Instant::now();
        let mut race = Race::new(2, begin);
        assert!(!race.is_lost());
        let first = race.begin(begin);
        let second = race.begin(begin + PACE);
        race.failed(second.attempt, begin + PACE);
        assert!(!race.is_lost(), "the first may still succeed");
        let again = race.begin(begin + ROUND);
        race.failed(first.attempt, begin + ROUND);
        race.failed(again.attempt, begin + ROUND);
        assert!(!race.is_lost(), "a round that has begun is finished");
        let last = race.begin(begin + ROUND);
        race.failed(last.attempt, begin + ROUND);
        assert!(race.is_lost());
        assert!(Race::new(0, begin).is_lost());
    }

    #[test]
    fn at_most_eight_attempts_are_open() {
        for count in 1..=3 * AT_ONCE {
            let least = Duration::from_secs(if count <= AT_ONCE { 3 } else { 2 });
            let begin = Instant::now();
            let mut race = Race::new(count, begin);
            let mut open = std::collections::BTreeMap::new();
            let mut closed = 0;
            for _ in 0..100 {
                let now = race.due();
                let begun = race.begin(now);
                if let Some(oldest) = begun.instead_of {
                    let since = open.remove(&oldest).expect("an open one");
                    assert!(open.keys().all(|other| *other > oldest), "the oldest");
                    assert!(now - since >= least, "{count} addresses");
                    closed += 1;
                }
                open.insert(begun.attempt, now);
                assert!(open.len() <= AT_ONCE);
            }
            assert_eq!(closed, 100 - AT_ONCE);
        }
    }
}

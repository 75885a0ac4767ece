//! How much each source may cost with handshakes that fail or are abandoned.
//!
//! A peer that never authenticates can make a server exchange keys and sign for a few hundred bytes.
//! Such handshakes are charged to their source and, for IPv6, to the network of 48 bits that one
//! customer of a provider gets; a completed handshake pays some of it back, so that a platform, a NAT or
//! a load balancer with many honest peers is not refused because a few of them fail. A source that owes
//! too much is refused before any cryptography. Debts shrink with time.
//!
//! Memory is bounded: a source without a debt is forgotten, and there are at most [`MAX_SOURCES`].

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::limits::Source;

/// Bytes received that count as one unit: the smallest request for a key exchange is hardly shorter.
const BYTES_PER_UNIT: u64 = 512;
/// Units of one handshake at most: a megabyte of garbage costs less than its length.
const MAX_UNITS: u64 = 16;
/// Units that a source may owe. A restart after which several hundred peers of one address fail at
/// their first attempt stays below.
const MAX_DEBT: u64 = 2048;
/// Units that are forgiven each second: about 60 key exchanges, a tenth of a core.
const FORGIVEN_PER_SECOND: u64 = 128;
/// Units that a completed handshake pays back: as much as an honest one that fails costs.
const REFUND: u64 = 8;
/// A network of 48 bits may owe so many times what a source may, and is forgiven as many times as much.
const NETWORK_FACTOR: u64 = 4;
/// Sources and networks that are remembered, a few megabytes in all.
const MAX_SOURCES: usize = 65_536;

/// Debts of all sources at one port.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<HashMap<Debtor, Debt>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Debtor {
    Source(Source),
    Network(Source),
}

#[derive(Debug, Clone, Copy)]
struct Debt {
    /// In thousandths, so that a part of a second forgives its part.
    milliunits: u64,
    at: Instant,
}

impl Debtor {
    /// Who pays for `source`.
    fn of(source: Source) -> impl Iterator<Item = Self> {
        let network = source.network().map(Self::Network);
        std::iter::once(Self::Source(source)).chain(network)
    }

    fn factor(self) -> u64 {
        match self {
            Self::Source(_) => 1,
            Self::Network(_) => NETWORK_FACTOR,
        }
    }
}

impl Debt {
    fn owed(self, debtor: Debtor, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.at).as_millis();
        let elapsed = u64::try_from(elapsed).unwrap_or(u64::MAX);
        let per_millisecond = FORGIVEN_PER_SECOND.saturating_mul(debtor.factor());
        self.milliunits
            .saturating_sub(elapsed.saturating_mul(per_millisecond))
    }
}

impl Failures {
    /// True if `source` and its network owe less than they may.
    pub(crate) fn may_begin(&self, source: Source, now: Instant) -> bool {
        let debts = self.lock();
        Debtor::of(source).all(|debtor| {
            let owed = debts.get(&debtor).map_or(0, |debt| debt.owed(debtor, now));
            owed < MAX_DEBT
                .saturating_mul(1000)
                .saturating_mul(debtor.factor())
        })
    }

    /// Charges a handshake of `source` that did not complete after so much `progress`, in bytes.
    pub(crate) fn charge(&self, source: Source, progress: u64, now: Instant) {
        let units = progress.div_ceil(BYTES_PER_UNIT).min(MAX_UNITS);
        if units > 0 {
            self.change(source, now, |owed| {
                owed.saturating_add(units.saturating_mul(1000))
            });
        }
    }

    /// Pays back for a completed handshake of `source`.
    pub(crate) fn refund(&self, source: Source, now: Instant) {
        self.change(source, now, |owed| {
            owed.saturating_sub(REFUND.saturating_mul(1000))
        });
    }

    fn change(&self, source: Source, now: Instant, change: impl Fn(u64) -> u64) {
        let mut debts = self.lock();
        for debtor in Debtor::of(source) {
            let owed = debts.get(&debtor).map_or(0, |debt| debt.owed(debtor, now));
            // Nobody owes more than twice the limit, so that a debt is forgiven in a minute.
            let most = MAX_DEBT
                .saturating_mul(2000)
                .saturating_mul(debtor.factor());
            let milliunits = change(owed).min(most);
            if milliunits == 0 {
                debts.remove(&debtor);
                continue;
            }
            if debts.len() >= MAX_SOURCES && !debts.contains_key(&debtor) {
                debts.retain(|debtor, debt| debt.owed(*debtor, now) > 0);
                // Still full: those that owe least are forgotten.
                let mut floor = 1000;
                while debts.len() >= MAX_SOURCES {
                    debts.retain(|debtor, debt| debt.owed(*debtor, now) > floor);
                    floor = floor.saturating_mul(4);
                }
            }
            debts.insert(
                debtor,
                Debt {
                    milliunits,
                    at: now,
                },
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Debtor, Debt>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{BYTES_PER_UNIT, FORGIVEN_PER_SECOND, Failures, MAX_DEBT, MAX_SOURCES};
    use crate::net::limits::Source;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    use std::time::Duration;
    use tokio::time::Instant;

    fn v4(number: u32) -> Source {
        Source::from(IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + number)))
    }

    /// The networks of 64 bits in one of 48.
    fn v6(number: u128) -> Source {
        let bits = 0x2001_0db8_u128 << 96 | number << 64;
        Source::from(IpAddr::from(Ipv6Addr::from_bits(bits)))
    }

    #[test]
    fn failed_handshakes_use_up_the_budget_of_their_source() {
        let (failures, now) = (Failures::default(), Instant::now());
        let mut failed = 0;
        while failures.may_begin(v4(1), now) {
            failures.charge(v4(1), BYTES_PER_UNIT + 8, now);
            failed += 1;
        }
        assert_eq!(failed, MAX_DEBT / 2);
        assert!(failures.may_begin(v4(2), now), "another source");
        let later = now + Duration::from_secs(1);
        assert!(failures.may_begin(v4(1), later));
        for _ in 0..FORGIVEN_PER_SECOND / 2 {
            assert!(failures.may_begin(v4(1), later));
            failures.charge(v4(1), BYTES_PER_UNIT + 8, later);
        }
        assert!(!failures.may_begin(v4(1), later));
    }

    #[test]
    fn completed_handshakes_pay_for_some_that_fail() {
        let (failures, now) = (Failures::default(), Instant::now());
        for _ in 0..10 * MAX_DEBT {
            failures.charge(v4(1), 3000, now);
            failures.refund(v4(1), now);
        }
        assert!(failures.may_begin(v4(1), now));
        assert!(failures.lock().is_empty(), "nothing is owed");
    }

    #[test]
    fn a_connection_without_a_byte_costs_nothing() {
        let failures = Failures::default();
        failures.charge(v4(1), 0, Instant::now());
        assert!(failures.lock().is_empty());
    }

    #[test]
    fn an_ipv6_network_of_48_bits_has_one_budget() {
        let (failures, now) = (Failures::default(), Instant::now());
        for number in 0..4 * MAX_DEBT {
            failures.charge(v6(u128::from(number % 60_000)), 1, now);
        }
        assert!(!failures.may_begin(v6(65_000), now));
        let other = v6(1 << 16);
        assert!(failures.may_begin(other, now), "another network");
    }

    #[test]
    fn remembered_sources_are_bounded() {
        let (failures, now) = (Failures::default(), Instant::now());
        let most = u32::try_from(MAX_SOURCES).expect("small");
        failures.charge(v4(0), 5000, now);
        for number in 1..=most + 10 {
            failures.charge(v4(number), 1, now);
        }
        assert!(failures.lock().len() <= MAX_SOURCES);
        assert!(
            failures
                .lock()
                .keys()
                .any(|d| *d == super::Debtor::Source(v4(0))),
            "who owes most is remembered"
        );
    }
}

//! How much CPU time each source may use with handshakes that do not complete.
//!
//! A peer that never authenticates can make a server exchange keys and sign for a few hundred
//! bytes, so neither bytes nor connections measure what it costs: an exchange by a finite-field
//! group costs thirty times as much as one by a curve, and all costs depend on the machine. Counted
//! is therefore the CPU time that a handshake really took: nothing has to be estimated, and no step
//! can be forgotten.
//!
//! - While a handshake is under way, what it took is pending. A source with [`PENDING`] waits
//!   before its next expensive step (`handshake_cpu`), and is not refused: two thousand gateways
//!   behind one NAT take much while they connect.
//! - If it fails or is abandoned, its source owes what it took. Of each second one [`FORGIVEN`]th
//!   is forgiven, which is the share of a core that a flood gets in the long run. A source that
//!   owes [`BURST`] waits too.
//! - By itself a source owes [`CONNECTION`] for each handshake that failed, and is refused, before
//!   it is read, once that is [`REFUSED`]. The two debts are apart so that connections which find
//!   no place, in a crowd that all comes at once, do not hold up those that have one.
//! - A handshake that completes costs nothing, and pays for one that failed: behind one address the
//!   honest ones pay for some that are not. So honest peers never owe anything for long.
//!
//! A source is an IPv4 address or an IPv6 network of 64 bits. IPv6 networks of 48 bits, of which
//! one customer of a provider has 65,536 sources, have a budget of their own, [`NETWORK_FACTOR`]
//! times as large.
//!
//! Memory is bounded: a source without a debt is forgotten, and there are at most [`MAX_SOURCES`].

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::limits::Source;

/// Of the time that passes, this part is forgiven: a tenth of a core for what was computed.
const FORGIVEN: u32 = 10;
/// Of the time that passes, this part is forgiven of what connections cost that failed: a twentieth
/// of a core.
const FAILURES_FORGIVEN: u32 = 20;
/// A source that owes this waits: about a hundred exchanges by the slowest method, a thousand
/// others.
const BURST: Duration = Duration::from_millis(150);
/// So much may be under way. Two hundred exchanges by the slowest method at once are as many as a
/// crowd needs that is half a second away.
const PENDING: Duration = Duration::from_millis(300);
/// How long a source with so much under way waits before it looks again, unless it is woken.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// A source that owes this for handshakes that failed, 1500 of them, is refused.
const REFUSED: Duration = Duration::from_millis(450);
/// No source owes more of either, so that all is forgiven within 20 s.
const MOST: Duration = Duration::from_millis(1000);
/// What a failed connection costs beside what is measured: the kernel, its tasks, our proposal.
const CONNECTION: Duration = Duration::from_micros(300);
/// A network of 48 bits may owe so many times what a source may, and is forgiven as many times as
/// much.
const NETWORK_FACTOR: u32 = 2;
/// Sources and networks that are remembered, a few megabytes in all.
const MAX_SOURCES: usize = 65_536;

/// Debts of all sources.
#[derive(Debug, Default)]
pub(crate) struct CpuBudget(Mutex<HashMap<Debtor, Debt>>);

/// Who owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Debtor {
    /// An IPv4 address, or an IPv6 network of 64 bits.
    Source(Source),
    /// An IPv6 network of 48 bits.
    Network(Source),
}

#[derive(Debug, Clone, Copy)]
struct Debt {
    /// What was computed for handshakes that are under way.
    pending: Duration,
    /// What was computed for handshakes that failed.
    computed: Duration,
    /// For handshakes that failed, beside that.
    failed: Duration,
    at: Instant,
}

impl Debtor {
    /// Who pays for `source`.
    pub(crate) fn of(source: Source) -> impl Iterator<Item = Self> {
        let network = source.network().map(Self::Network);
        std::iter::once(Self::Source(source)).chain(network)
    }

    fn factor(self) -> u32 {
        match self {
            Self::Source(_) => 1,
            Self::Network(_) => NETWORK_FACTOR,
        }
    }
}

impl Debt {
    fn none(now: Instant) -> Self {
        Self {
            pending: Duration::ZERO,
            computed: Duration::ZERO,
            failed: Duration::ZERO,
            at: now,
        }
    }

    /// What is left of it.
    fn at(self, debtor: Debtor, now: Instant) -> Self {
        let elapsed = now.saturating_duration_since(self.at);
        let elapsed = elapsed.saturating_mul(debtor.factor());
        Self {
            pending: self.pending,
            computed: self.computed.saturating_sub(elapsed / FORGIVEN),
            failed: self.failed.saturating_sub(elapsed / FAILURES_FORGIVEN),
            at: now,
        }
    }

    fn all(self) -> Duration {
        let owed = self.computed.saturating_add(self.failed);
        owed.saturating_add(self.pending)
    }
}

impl CpuBudget {
    /// True if so many handshakes of `source` or its network failed that it is not even read.
    pub(crate) fn is_refused(&self, source: Source, now: Instant) -> bool {
        let debts = self.lock();
        Debtor::of(source).any(|debtor| {
            let failed = debts.get(&debtor).map(|debt| debt.at(debtor, now).failed);
            failed.unwrap_or_default() >= REFUSED.saturating_mul(debtor.factor())
        })
    }

    /// How long `debtor` has to wait before it may make us compute; `None` if it may now.
    pub(crate) fn wait(&self, debtor: Debtor, now: Instant) -> Option<Duration> {
        let debt = self.lock().get(&debtor)?.at(debtor, now);
        let limit = BURST.saturating_mul(debtor.factor());
        if let Some(over) = debt.computed.checked_sub(limit) {
            let wait = over.saturating_mul(FORGIVEN) / debtor.factor();
            // Never nothing, or the wait would spin.
            return Some(wait.max(Duration::from_millis(1)));
        }
        let limit = PENDING.saturating_mul(debtor.factor());
        (debt.pending >= limit).then_some(LOOK_AGAIN)
    }

    /// Notes that a handshake of `source` has taken CPU time.
    pub(crate) fn begin(&self, source: Source, time: Duration, now: Instant) {
        self.change(source, now, |debt| {
            debt.pending = debt.pending.saturating_add(time);
        });
    }

    /// A handshake of `source` that took so much has completed: pays for one that failed.
    pub(crate) fn complete(&self, source: Source, time: Duration, now: Instant) {
        self.change(source, now, |debt| {
            debt.pending = debt.pending.saturating_sub(time);
            debt.computed = debt.computed.saturating_sub(time);
            debt.failed = debt.failed.saturating_sub(CONNECTION);
        });
    }

    /// A handshake of `source` that took so much did not complete.
    pub(crate) fn fail(&self, source: Source, time: Duration, now: Instant) {
        self.change(source, now, |debt| {
            debt.pending = debt.pending.saturating_sub(time);
            debt.computed = debt.computed.saturating_add(time);
            debt.failed = debt.failed.saturating_add(CONNECTION);
        });
    }

    /// CPU time that was noted for a handshake of `source` after its end.
    pub(crate) fn complete_late(&self, source: Source, time: Duration, now: Instant) {
        if !time.is_zero() {
            self.change(source, now, |debt| {
                debt.pending = debt.pending.saturating_sub(time);
            });
        }
    }

    /// Charges CPU time to `source`.
    pub(crate) fn charge(&self, source: Source, time: Duration, now: Instant) {
        self.change(source, now, |debt| {
            debt.computed = debt.computed.saturating_add(time);
        });
    }

    fn change(&self, source: Source, now: Instant, change: impl Fn(&mut Debt)) {
        let mut debts = self.lock();
        for debtor in Debtor::of(source) {
            let debt = debts.get(&debtor).map(|debt| debt.at(debtor, now));
            let mut debt = debt.unwrap_or_else(|| Debt::none(now));
            change(&mut debt);
            let most = MOST.saturating_mul(debtor.factor());
            debt.computed = debt.computed.min(most);
            debt.failed = debt.failed.min(most);
            if debt.all().is_zero() {
                debts.remove(&debtor);
                continue;
            }
            if debts.len() >= MAX_SOURCES && !debts.contains_key(&debtor) {
                make_room(&mut debts, now);
            }
            debts.insert(debtor, debt);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Debtor, Debt>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets those that owe nothing any more, and if that is not enough, those that owe least.
fn make_room(debts: &mut HashMap<Debtor, Debt>, now: Instant) {
    let mut floor = Duration::ZERO;
    while debts.len() >= MAX_SOURCES {
        debts.retain(|debtor, debt| debt.at(*debtor, now).all() > floor);
        floor = floor.max(CONNECTION).saturating_mul(2);
    }
}

#[cfg(test)]
mod tests {
    use super::{
        BURST, CONNECTION, CpuBudget, Debtor, FORGIVEN, MAX_SOURCES, NETWORK_FACTOR, PENDING,
        REFUSED,
    };
    use crate::net::limits::Source;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    use std::time::Duration;
    use tokio::time::Instant;

    /// About what an exchange by group 14 takes.
    const EXCHANGE: Duration = Duration::from_millis(3);

    fn v4(number: u32) -> Source {
        Source::from(IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + number)))
    }

    /// The networks of 64 bits in one of 48.
    fn v6(number: u128) -> Source {
        let bits = 0x2001_0db8_u128 << 96 | number << 64;
        Source::from(IpAddr::from(Ipv6Addr::from_bits(bits)))
    }

    /// The CPU time that a flood from `source_of` gets within `time`, of exchanges that are
    /// abandoned.
    fn flood(source_of: impl Fn(u32) -> Source, time: Duration) -> Duration {
        let budget = CpuBudget::default();
        let begin = Instant::now();
        let (mut now, mut used) = (begin, Duration::ZERO);
        let mut number = 0;
        while now < begin + time {
            let source = source_of(number);
            number += 1;
            let wait = Debtor::of(source).filter_map(|debtor| budget.wait(debtor, now));
            if let Some(wait) = wait.max() {
                now += wait;
                continue;
            }
            budget.begin(source, EXCHANGE, now);
            now += EXCHANGE;
            budget.fail(source, EXCHANGE, now);
            used += EXCHANGE;
        }
        used
    }

    #[test]
    fn flood_is_limited_from_the_first_second() {
        for seconds in [1, 10, 100] {
            let time = Duration::from_secs(seconds);
            let used = flood(|_| v4(1), time);
            let share = BURST + time / FORGIVEN;
            assert!(used <= share + EXCHANGE * 2, "{used:?} of {time:?}");
            assert!(used >= share - EXCHANGE * 2, "{used:?} of {time:?}");
        }
    }

    #[test]
    fn ipv6_network_has_one_budget() {
        let time = Duration::from_secs(10);
        let used = flood(|number| v6(u128::from(number % 60_000)), time);
        let share = (BURST + time / FORGIVEN) * NETWORK_FACTOR;
        assert!(used <= share + EXCHANGE * 2, "{used:?}");
        assert!(used >= share - EXCHANGE * 2, "{used:?}");
    }

    #[test]
    fn another_source_does_not_wait() {
        let (budget, now) = (CpuBudget::default(), Instant::now());
        budget.charge(v4(1), BURST, now);
        budget.charge(v6(1), BURST * NETWORK_FACTOR, now);
        for (source, waits) in [(v4(1), 1), (v4(2), 0), (v6(1), 2), (v6(2), 1)] {
            let waiting = Debtor::of(source).filter(|d| budget.wait(*d, now).is_some());
            assert_eq!(waiting.count(), waits, "{source:?}");
        }
        let other = v6(1 << 16);
        let mut debtors = Debtor::of(other);
        assert!(debtors.all(|debtor| budget.wait(debtor, now).is_none()));
    }

    #[test]
    fn completed_handshakes_pay_for_some_that_fail() {
        let (budget, now) = (CpuBudget::default(), Instant::now());
        for _ in 0..10_000 {
            budget.begin(v4(1), EXCHANGE * 2, now);
            budget.fail(v4(1), EXCHANGE, now);
            budget.complete(v4(1), EXCHANGE, now);
        }
        assert!(budget.lock().is_empty(), "nothing is owed");
    }

    #[test]
    fn running_handshakes_are_bounded() {
        let (budget, now) = (CpuBudget::default(), Instant::now());
        budget.begin(v4(1), PENDING, now);
        let later = now + Duration::from_secs(100);
        assert!(budget.wait(Debtor::Source(v4(1)), later).is_some());
        budget.complete(v4(1), EXCHANGE, later);
        assert_eq!(budget.wait(Debtor::Source(v4(1)), later), None);
        budget.fail(v4(1), PENDING - EXCHANGE, later);
        assert!(budget.wait(Debtor::Source(v4(1)), later).is_some());
    }

    #[test]
    fn source_with_failed_handshakes_is_refused() {
        let (budget, now) = (CpuBudget::default(), Instant::now());
        budget.charge(v4(1), BURST * 2, now);
        assert!(!budget.is_refused(v4(1), now), "it waits");
        let mut failed = 0;
        while !budget.is_refused(v4(1), now) {
            budget.fail(v4(1), Duration::ZERO, now);
            failed += 1;
        }
        assert_eq!(failed, REFUSED.as_micros() / CONNECTION.as_micros());
        assert!(!budget.is_refused(v4(2), now));
        for _ in 0..100_000 {
            budget.fail(v4(1), Duration::ZERO, now);
        }
        assert!(!budget.is_refused(v4(1), now + Duration::from_secs(20)));
    }

    #[test]
    fn failures_do_not_delay_admitted_handshakes() {
        let (budget, now) = (CpuBudget::default(), Instant::now());
        for _ in 0..100_000 {
            budget.fail(v4(1), Duration::ZERO, now);
        }
        assert_eq!(budget.wait(Debtor::Source(v4(1)), now), None);
    }

    #[test]
    fn remembered_sources_are_bounded() {
        let (budget, now) = (CpuBudget::default(), Instant::now());
        let most = u32::try_from(MAX_SOURCES).expect("small");
        budget.charge(v4(0), BURST, now);
        for number in 1..=most + 10 {
            budget.fail(v4(number), Duration::ZERO, now);
        }
        assert!(budget.lock().len() <= MAX_SOURCES);
        assert!(
            budget.wait(Debtor::Source(v4(0)), now).is_some(),
            "the one that owes most is remembered"
        );
    }
}

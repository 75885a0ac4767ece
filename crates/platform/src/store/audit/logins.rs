//! Which successful logins and logouts have entries of their own: those of one owner at a rate, and
//! of them those from one source at a lower one, so that no one pushes out the entries of others.
//!
//! The others are counted for an entry that sums them up. Refusals and all other entries pass. The
//! counts are in memory; time is an argument.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::entry::{Action, NewAuditEntry, Requester, Subject};
use crate::limit::{self, Limiter, Rate};

/// Recorded logins of one owner from one source: 13,000 in 90 days.
const OF_SOURCE: Rate = Rate {
    burst: 60,
    refill: Duration::from_secs(600),
};
/// Recorded logins of one owner: in 90 days a tenth of the entries that are kept.
const OF_OWNER: Rate = Rate {
    burst: 600,
    refill: Duration::from_secs(300),
};
/// Owners whose logins are counted apart. Further ones are counted together.
const MAX_COUNTED: usize = 10_000;

/// The kind of a requester that is an identity.
const IDENTITY: &str = "identity";

/// The kind and the id of a requester; none for those that are counted together.
type Owner = Option<(&'static str, Option<String>)>;

/// See the module.
#[derive(Debug)]
pub(in crate::store) struct LoginRates(Mutex<State>);

#[derive(Debug)]
struct State {
    of_source: Limiter<(Owner, IpAddr)>,
    of_owner: Limiter<Owner>,
    counts: HashMap<Owner, u64>,
}

impl LoginRates {
    pub(in crate::store) fn new() -> Self {
        Self(Mutex::new(State {
            of_source: Limiter::new(OF_SOURCE),
            of_owner: Limiter::new(OF_OWNER),
            counts: HashMap::new(),
        }))
    }

    /// Whether `entry` is written. If not, it is counted.
    pub(in crate::store) fn admit(&self, entry: &NewAuditEntry, now: Instant) -> bool {
        let is_limited = matches!(entry.action, Action::LogIn | Action::LogOut);
        if !is_limited || entry.refusal.is_some() {
            return true;
        }
        let owner = Some((entry.requester.kind, entry.requester.id.clone()));
        let source = limit::source(entry.requester.source);
        let mut state = self.lock();
        let of_source = state.of_source.attempt((owner.clone(), source), now);
        if of_source.is_ok() && state.of_owner.attempt(owner.clone(), now).is_ok() {
            return true;
        }
        let has_room = state.counts.len() < MAX_COUNTED || state.counts.contains_key(&owner);
        let owner = owner.filter(|_| has_room);
        *state.counts.entry(owner).or_default() += 1;
        false
    }

    /// Entries that sum up what is counted.
    pub(in crate::store) fn summaries(&self) -> Summaries {
        Summaries(self.lock().counts.clone())
    }

    /// Forgets what `written` sums up.
    pub(in crate::store) fn forget(&self, written: &Summaries) {
        let mut state = self.lock();
        for (owner, count) in &written.0 {
            if let Some(counted) = state.counts.get_mut(owner) {
                *counted = counted.saturating_sub(*count);
            }
        }
        state.counts.retain(|_, count| *count > 0);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many logins of each owner have no entry.
#[derive(Debug, Clone)]
pub(in crate::store) struct Summaries(HashMap<Owner, u64>);

impl Summaries {
    /// One entry for each owner.
    pub(in crate::store) fn entries(&self) -> Vec<NewAuditEntry> {
        let entries = self.0.iter().map(|(owner, count)| summary(owner, *count));
        entries.collect()
    }
}

fn summary(owner: &Owner, count: u64) -> NewAuditEntry {
    let (kind, id) = owner.clone().unwrap_or(("platform", None));
    let subject = id.as_deref().filter(|_| kind == IDENTITY);
    NewAuditEntry {
        action: Action::CountLogins,
        subject: subject.map(|id| Subject::with_id(IDENTITY, id, None)),
        requester: Requester {
            kind,
            id,
            name: None,
            source: None,
        },
        details: Some(format!(
            "{count} logins and logouts have no entries of their own"
        )),
        refusal: None,
        left_out: count,
    }
}

#[cfg(test)]
mod tests {
    use super::{LoginRates, OF_OWNER, OF_SOURCE};
    use crate::store::audit::entry::{Action, NewAuditEntry, Requester};
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Instant;

    fn login(id: &str, source: u32) -> NewAuditEntry {
        NewAuditEntry {
            action: Action::LogIn,
            requester: Requester {
                kind: "identity",
                id: Some(id.to_owned()),
                name: None,
                source: Some(IpAddr::V4(Ipv4Addr::from_bits(source))),
            },
            subject: None,
            details: None,
            refusal: None,
            left_out: 0,
        }
    }

    #[test]
    fn many_logins_are_counted() {
        let (rates, now) = (LoginRates::new(), Instant::now());
        for _ in 0..OF_SOURCE.burst {
            assert!(rates.admit(&login("one", 1), now));
        }
        for _ in 0..5 {
            assert!(!rates.admit(&login("one", 1), now));
        }
        // Another source and another owner are not affected, nor is what counts as well.
        assert!(rates.admit(&login("one", 2), now));
        assert!(rates.admit(&login("two", 1), now));
        let mut refused = login("one", 1);
        refused.refusal = Some(("Forbidden".to_owned(), "no".to_owned()));
        assert!(rates.admit(&refused, now));
        let mut other = login("one", 1);
        other.action = Action::OpenSession;
        assert!(rates.admit(&other, now));
        let written = rates.summaries();
        let [summary] = written.entries().try_into().expect("one");
        assert_eq!((summary.action, summary.left_out), (Action::CountLogins, 5));
        assert_eq!(summary.requester.id.as_deref(), Some("one"));
        assert!(!rates.admit(&login("one", 1), now), "meanwhile");
        rates.forget(&written);
        let rest = rates.summaries().entries();
        assert_eq!(rest.iter().map(|entry| entry.left_out).sum::<u64>(), 1);
        assert!(rates.admit(&login("one", 1), now + OF_SOURCE.refill));
    }

    #[test]
    fn sources_of_an_owner_share_a_rate() {
        let (rates, now) = (LoginRates::new(), Instant::now());
        let admitted = (0..2 * OF_OWNER.burst).filter(|&source| {
            let entry = login("one", source);
            rates.admit(&entry, now)
        });
        assert_eq!(
            admitted.count(),
            usize::try_from(OF_OWNER.burst).expect("small")
        );
    }
}

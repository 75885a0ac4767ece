//! What probes have shown lately of gateways and relays, beside what their heartbeats tell. In
//! memory only.
//!
//! Heartbeats come minutes apart; probes come every few seconds while someone watches
//! ([`crate::prober`]). The newer of the two counts. Pure: time is an argument.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::store::{Gateway, Heartbeats, Reachability, Relay};

/// How long a successful probe counts more than heartbeats that fail.
const PROBE_COUNTS: Duration = Duration::from_secs(30);
/// Gateways and relays of which anything is kept.
const MAX_OBSERVATIONS: usize = 10_000;

/// What the last probe has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Observation {
    /// When it ended.
    pub(crate) at: SystemTime,
    /// When the first probe failed since one succeeded; `None` if this one did.
    pub(crate) failed_since: Option<SystemTime>,
    /// When the certificate ends that the gateway or relay has shown.
    pub(crate) certificate_ends: Option<SystemTime>,
}

/// The last probe of each gateway and relay, by id.
#[derive(Debug, Default)]
pub(crate) struct Observations(Mutex<HashMap<String, Observation>>);

impl Observations {
    /// Notes that `id` was reached and showed a certificate with this end, or was not reached. True
    /// if the probe before had another result.
    pub(crate) fn note(
        &self,
        id: &str,
        reached: Result<Option<SystemTime>, ()>,
        now: SystemTime,
    ) -> bool {
        let mut all = self.all();
        let before = all.get(id).copied();
        let observation = match reached {
            Ok(certificate_ends) => Observation {
                at: now,
                failed_since: None,
                certificate_ends,
            },
            Err(()) => Observation {
                at: now,
                failed_since: before.and_then(|before| before.failed_since).or(Some(now)),
                certificate_ends: before.and_then(|before| before.certificate_ends),
            },
        };
        if before.is_some() || all.len() < MAX_OBSERVATIONS {
            all.insert(id.to_owned(), observation);
        }
        before.is_none_or(|before| {
            before.failed_since != observation.failed_since
                || before.certificate_ends != observation.certificate_ends
        })
    }

    /// What the last probe of `id` has shown.
    pub(crate) fn of(&self, id: &str) -> Option<Observation> {
        self.all().get(id).copied()
    }

    /// Forgets those that are not `known`: they were deleted.
    pub(crate) fn retain(&self, known: impl Fn(&str) -> bool) {
        self.all().retain(|id, _| known(id));
    }

    /// Whether a gateway can be reached.
    pub(crate) fn gateway(&self, gateway: &Gateway, now: SystemTime) -> Reachability {
        match self.of(gateway.id.as_str()) {
            None => gateway.reachability(now),
            Some(seen) => {
                let heartbeats = seen.with(&gateway.heartbeats, now);
                let lifetime = gateway.heartbeat_ttl.unwrap_or_default();
                heartbeats.reachability(lifetime, now)
            }
        }
    }

    /// Whether a relay can be reached.
    pub(crate) fn relay(&self, relay: &Relay, now: SystemTime) -> Reachability {
        match self.of(&relay.id) {
            None => relay.reachability(now),
            Some(seen) => {
                let heartbeats = seen.with(&relay.heartbeats, now);
                let relay = Relay {
                    heartbeats,
                    ..relay.clone()
                };
                relay.reachability(now)
            }
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Observation>> {
        // Whole at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observation {
    /// `heartbeats` as if the probe were one of them.
    fn with(&self, heartbeats: &Heartbeats, now: SystemTime) -> Heartbeats {
        let mut all = heartbeats.clone();
        match self.failed_since {
            Some(since) if all.succeeded_at.is_none_or(|at| at < since) => {
                all.failed_at = Some(all.failed_at.map_or(since, |at| at.min(since)));
            }
            Some(_) => {}
            None => {
                let is_fresh = now.duration_since(self.at).unwrap_or_default() <= PROBE_COUNTS;
                if all.failed_at.is_none() || is_fresh {
                    all.failed_at = None;
                    all.succeeded_at = all.succeeded_at.max(Some(self.at));
                }
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::{Observation, Observations, PROBE_COUNTS};
    use crate::store::{Heartbeats, Reachability};
    use std::time::{Duration, SystemTime};

    const SECOND: Duration = Duration::from_secs(1);
    const TTL: Duration = Duration::from_secs(180);

    #[test]
    fn newer_of_probe_and_heartbeat_counts() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let later = start + 10 * SECOND;
        let now = later + 10 * SECOND;
        let unreachable = |since| Reachability::Unreachable { since };
        for (succeeded_at, failed_at, at, failed_since, now, expected) in [
            // A probe alone.
            (None, None, later, None, now, Reachability::Reachable),
            (None, None, later, Some(later), now, Reachability::NeverSeen),
            // A probe after a heartbeat.
            (
                Some(start),
                None,
                later,
                Some(later),
                now,
                unreachable(later),
            ),
            (
                Some(start),
                Some(start),
                later,
                None,
                now,
                Reachability::Reachable,
            ),
            (
                Some(start),
                Some(start),
                later,
                Some(later),
                now,
                unreachable(start),
            ),
            // A heartbeat after a probe.
            (
                Some(later),
                None,
                start,
                Some(start),
                now,
                Reachability::Reachable,
            ),
            // A probe that is too old to say anything about heartbeats that fail.
            (
                Some(start),
                Some(start),
                later,
                None,
                later + PROBE_COUNTS + SECOND,
                unreachable(start),
            ),
        ] {
            let heartbeats = Heartbeats {
                succeeded_at,
                failed_at,
                program_version: None,
            };
            let seen = Observation {
                at,
                failed_since,
                certificate_ends: None,
            };
            let found = seen.with(&heartbeats, now).reachability(TTL, now);
            assert_eq!(found, expected, "{heartbeats:?} {seen:?}");
        }
    }

    #[test]
    fn first_failure_is_remembered() {
        let (all, now) = (Observations::default(), SystemTime::UNIX_EPOCH);
        assert!(all.note("one", Ok(Some(now)), now), "the first");
        assert!(!all.note("one", Ok(Some(now)), now + SECOND));
        assert!(all.note("one", Err(()), now + 2 * SECOND));
        assert!(!all.note("one", Err(()), now + 3 * SECOND));
        let seen = all.of("one").expect("noted");
        assert_eq!(seen.failed_since, Some(now + 2 * SECOND));
        assert_eq!(
            (seen.at, seen.certificate_ends),
            (now + 3 * SECOND, Some(now))
        );
        all.retain(|id| id != "one");
        assert!(all.of("one").is_none());
    }
}

//! Whether gateways and relays can be reached, as far as their heartbeats tell.

use std::time::{Duration, SystemTime};

/// How much later than due a heartbeat may come: a request and its retry.
const GRACE: Duration = Duration::from_secs(60);

/// What is known of the heartbeats of a gateway or relay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Heartbeats {
    /// The last that succeeded.
    pub(crate) succeeded_at: Option<SystemTime>,
    /// The first that failed since.
    pub(crate) failed_at: Option<SystemTime>,
    /// The version of the program that sent the last one, if it said so.
    pub(crate) program_version: Option<String>,
}

/// Whether a gateway or relay can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reachability {
    /// A heartbeat has succeeded lately.
    Reachable,
    /// Heartbeats fail, or have ceased.
    Unreachable {
        /// When the first one failed, or the last one succeeded.
        since: SystemTime,
    },
    /// No heartbeat ever succeeded.
    NeverSeen,
}

impl Heartbeats {
    /// Whether their sender can be reached at `now`, if one counts for `lifetime`.
    pub(crate) fn reachability(&self, lifetime: Duration, now: SystemTime) -> Reachability {
        let Some(at) = self.succeeded_at else {
            return Reachability::NeverSeen;
        };
        let age = now.duration_since(at).unwrap_or_default();
        match self.failed_at {
            Some(since) => Reachability::Unreachable { since },
            None if age > lifetime.saturating_add(GRACE) => Reachability::Unreachable { since: at },
            None => Reachability::Reachable,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{GRACE, Heartbeats, Reachability};

    #[test]
    fn heartbeats_tell_who_is_reachable() {
        let lifetime = Duration::from_secs(180);
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let due = start + lifetime + GRACE;
        let late = due + Duration::from_secs(1);
        let unreachable = |since| Reachability::Unreachable { since };
        for (succeeded_at, failed_at, now, expected) in [
            (None, None, start, Reachability::NeverSeen),
            (None, Some(start), start, Reachability::NeverSeen),
            (Some(start), None, start, Reachability::Reachable),
            (Some(start), None, due, Reachability::Reachable),
            (Some(start), None, late, unreachable(start)),
            (Some(start), Some(due), late, unreachable(due)),
            // A clock that was set back.
            (Some(late), None, start, Reachability::Reachable),
        ] {
            let heartbeats = Heartbeats {
                succeeded_at,
                failed_at,
                program_version: None,
            };
            let found = heartbeats.reachability(lifetime, now);
            assert_eq!(found, expected, "{succeeded_at:?} {failed_at:?} {now:?}");
        }
    }
}

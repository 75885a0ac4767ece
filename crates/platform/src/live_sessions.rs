//! Which sessions are open, as far as gateways have reported lately. In memory only: it says what is
//! now, and the record says what was.
//!
//! Bounded: of a gateway the newest sessions, of all gateways together [`MAX_SESSIONS`], texts of
//! [`MAX_TEXT`] characters. A report is believed for [`MAX_AGE`]. Pure: time is an argument.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::api::session_reports::{MAX_REPORTED, ReportedSession, SessionReport};
use crate::error::printable;
use crate::names::GatewayId;

/// For how long a report is believed: gateways send one every two minutes at least.
const MAX_AGE: Duration = Duration::from_secs(150);
/// Sessions of all gateways; of those that report beyond it only the number is kept.
const MAX_SESSIONS: usize = 10_000;
/// Gateways of which anything is kept.
const MAX_GATEWAYS: usize = 10_000;
/// Longest text of a session, in characters: a DNS name with its port.
const MAX_TEXT: usize = 260;

/// The reports of all gateways.
#[derive(Debug, Default)]
pub(crate) struct LiveSessions(Mutex<HashMap<GatewayId, Reported>>);

/// What a gateway has reported last.
#[derive(Debug, Clone)]
pub(crate) struct Reported {
    /// When.
    pub(crate) at: Instant,
    /// How many sessions are open.
    pub(crate) open: u64,
    /// The newest of them, the newest first.
    pub(crate) sessions: Arc<[ReportedSession]>,
}

impl LiveSessions {
    /// Replaces what `gateway` has reported before.
    pub(crate) fn report(&self, gateway: GatewayId, report: SessionReport, now: Instant) {
        let mut all = self.all();
        all.remove(&gateway);
        all.retain(|_, reported| reported.is_recent(now));
        if all.len() >= MAX_GATEWAYS {
            return;
        }
        let kept: usize = all.values().map(|reported| reported.sessions.len()).sum();
        let room = MAX_SESSIONS.saturating_sub(kept).min(MAX_REPORTED);
        let sessions = report.sessions.into_iter().take(room).map(bounded);
        let reported = Reported {
            at: now,
            open: report.open,
            sessions: sessions.collect(),
        };
        all.insert(gateway, reported);
    }

    /// The sessions of `gateway`, unless its last report is too old.
    pub(crate) fn of(&self, gateway: &GatewayId, now: Instant) -> Option<Reported> {
        let all = self.all();
        let reported = all.get(gateway);
        reported.filter(|reported| reported.is_recent(now)).cloned()
    }

    /// Forgets gateways that are not `known`: they were deleted.
    pub(crate) fn retain(&self, known: impl Fn(&GatewayId) -> bool) {
        self.all().retain(|gateway, _| known(gateway));
    }

    fn all(&self) -> MutexGuard<'_, HashMap<GatewayId, Reported>> {
        // Whole at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reported {
    /// How old the report is.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.at)
    }

    fn is_recent(&self, now: Instant) -> bool {
        self.age(now) <= MAX_AGE
    }
}

fn bounded(session: ReportedSession) -> ReportedSession {
    let text = |text: Option<String>| {
        text.map(|text| printable(&text).chars().take(MAX_TEXT).collect::<String>())
    };
    ReportedSession {
        id: session.id,
        actor_type: text(session.actor_type),
        actor_id: text(session.actor_id),
        actor_name: text(session.actor_name),
        target: text(session.target),
        since: text(Some(session.since)).unwrap_or_default(),
        bytes_to_target: session.bytes_to_target,
        bytes_from_target: session.bytes_from_target,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{LiveSessions, MAX_AGE, MAX_SESSIONS, MAX_TEXT};
    use crate::api::session_reports::{MAX_REPORTED, ReportedSession, SessionReport};
    use crate::names::GatewayId;

    fn gateway(number: usize) -> GatewayId {
        let id = format!("5f0c7f3e-0000-4000-8000-{number:012}");
        id.parse().expect("an id")
    }

    fn report(count: usize) -> SessionReport {
        let session = |id| ReportedSession {
            id,
            actor_type: Some("user".to_owned()),
            actor_id: None,
            actor_name: Some("x\n".repeat(1000)),
            target: None,
            since: "2026-11-28T09:00:00Z".to_owned(),
            bytes_to_target: 0,
            bytes_from_target: 0,
        };
        SessionReport {
            open: count as u64,
            sessions: (0..count as u64).map(session).collect(),
        }
    }

    #[test]
    fn reports_are_believed_for_a_while() {
        let (live, now) = (LiveSessions::default(), Instant::now());
        live.report(gateway(1), report(2), now);
        live.report(gateway(1), report(1), now);
        let kept = live.of(&gateway(1), now + MAX_AGE).expect("recent");
        assert_eq!((kept.open, kept.sessions.len()), (1, 1));
        let late = now + MAX_AGE + Duration::from_secs(1);
        assert!(live.of(&gateway(1), late).is_none());
        live.report(gateway(2), report(0), now);
        live.retain(|id| *id != gateway(2));
        assert!(live.of(&gateway(2), now).is_none());
    }

    #[test]
    fn memory_of_reports_is_bounded() {
        let (live, now) = (LiveSessions::default(), Instant::now());
        for number in 0..100 {
            live.report(gateway(number), report(MAX_REPORTED + 1), now);
        }
        let kept: Vec<_> = (0..100).filter_map(|n| live.of(&gateway(n), now)).collect();
        assert!(kept.iter().all(|kept| kept.open == MAX_REPORTED as u64 + 1));
        let count: usize = kept.iter().map(|kept| kept.sessions.len()).sum();
        assert_eq!(count, MAX_SESSIONS);
        let name = kept[0].sessions[0].actor_name.as_deref().expect("a name");
        assert_eq!(name.chars().count(), MAX_TEXT);
        assert!(!name.contains('\n'));
        // Reports that are too old give way.
        let late = now + MAX_AGE + Duration::from_secs(1);
        live.report(gateway(100), report(1), late);
        assert_eq!(live.all().len(), 1);
    }
}

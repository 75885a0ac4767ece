//! One session on record: who, where to, and how it ended.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::Notify;
use tracing::Level;
use tracing::field;

use crate::agent::status::document::{LiveSession, utc};
use crate::api::session_reports::ReportedSession;
use crate::error::printable;
use crate::events::{self, Event};
use crate::metrics::Metrics;
use crate::net::traffic::Traffic;
use crate::pki::extensions::{Actor, Route};
use crate::{event, names::GatewayId};

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Both sides came to their end.
    Completed,
    /// The gateway refused it: a certificate for another gateway or without a target, an unknown
    /// service, a handshake that failed, or a request that is none.
    Refused,
    /// The target could not be reached.
    Unreachable,
    /// The client, the tunnel or the target broke the connection.
    Cut,
    /// A defect of this program ended it.
    Failed,
    /// The gateway stopped before it ended.
    Draining,
}

impl Outcome {
    /// The word in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Cut => "cut",
            Self::Failed => "failed",
            Self::Draining => "draining",
        }
    }
}

/// The end of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) outcome: Outcome,
    /// Why it was not completed.
    pub(crate) error: Option<String>,
    /// The error without what changes from one time to the next.
    pub(crate) kind: String,
}

impl End {
    pub(super) const COMPLETED: Self = Self {
        outcome: Outcome::Completed,
        error: None,
        kind: String::new(),
    };

    /// Of a session whose task ended before the session did.
    pub(super) fn of_lost_task() -> Self {
        let (outcome, error) = if std::thread::panicking() {
            (Outcome::Failed, "the session's task panicked")
        } else {
            (Outcome::Cut, "the session's task was cut")
        };
        Self {
            outcome,
            error: Some(error.to_owned()),
            kind: String::new(),
        }
    }
}

/// A session. Its task writes, others read.
#[derive(Debug)]
pub struct Session {
    pub(super) id: u64,
    gateway: GatewayId,
    since: SystemTime,
    traffic: Traffic,
    metrics: Arc<Metrics>,
    /// Told when it becomes known what the session is for; the other end is [`Audit`](super::Audit).
    changed: Arc<Notify>,
    facts: Mutex<Facts>,
    /// It has an entry of its own, as a long session.
    is_announced: AtomicBool,
}

/// What becomes known while it runs.
#[derive(Debug, Default)]
struct Facts {
    service: Option<&'static str>,
    actor: Option<Actor>,
    target: Option<String>,
    address: Option<SocketAddr>,
    /// It asks how the gateway is, and carries nothing.
    is_check: bool,
    /// A request was answered by its target.
    is_served: bool,
    /// What became of the last request that was not.
    failed_request: Option<End>,
}

impl Session {
    pub(super) fn new(
        id: u64,
        gateway: GatewayId,
        metrics: Arc<Metrics>,
        changed: Arc<Notify>,
    ) -> Self {
        Self {
            id,
            gateway,
            since: SystemTime::now(),
            traffic: Traffic::default(),
            metrics,
            changed,
            facts: Mutex::default(),
            is_announced: AtomicBool::new(false),
        }
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        // Each fact is whole at any time.
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the client wants, and on whose behalf.
    pub(crate) fn claims(
        &self,
        service: &'static str,
        is_check: bool,
        route: Option<&Route>,
        actor: Option<&Actor>,
    ) {
        let mut facts = self.facts();
        facts.service = Some(service);
        facts.is_check = is_check;
        facts.target = route
            .filter(|route| !route.target_host.is_empty())
            .map(|route| format!("{}:{}", route.target_host, route.target_port));
        facts.actor = actor.map(|actor| Actor {
            kind: printable(&actor.kind),
            id: actor.id.as_deref().map(printable),
            name: actor.name.as_deref().map(printable),
        });
        drop(facts);
        if !is_check {
            self.changed.notify_one();
        }
    }

    /// The address that it is connected to.
    pub(crate) fn reached(&self, address: Option<SocketAddr>) {
        if address.is_some() {
            self.facts().address = address;
        }
    }

    /// A request has its answer from the target.
    pub(crate) fn served(&self) {
        self.facts().is_served = true;
    }

    /// A request was answered by the gateway itself.
    pub(crate) fn request_failed(&self, outcome: Outcome, error: String) {
        self.facts().failed_request = Some(End {
            outcome,
            kind: error.clone(),
            error: Some(error),
        });
    }

    /// Its number in the log.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Where it is counted.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// How many bytes went to the target, and came from it.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.traffic.a_to_b(), self.traffic.b_to_a())
    }

    /// Bytes from the client to the target, and back.
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// The end of a session whose connection came to its own: if the target answered none of its
    /// requests, it is the last one's.
    pub(super) fn orderly_end(&self) -> End {
        let facts = self.facts();
        let failed = facts.failed_request.clone();
        failed
            .filter(|_| !facts.is_served)
            .unwrap_or(End::COMPLETED)
    }

    /// True once for a session that is older than `age` and carries something.
    pub(super) fn is_to_announce(&self, age: Duration) -> bool {
        self.traffic.age() >= age
            && self.facts().address.is_some()
            && !self.is_announced.swap(true, Ordering::Relaxed)
    }

    /// True for a session that reached its target.
    pub(super) fn is_established(&self) -> bool {
        self.facts().address.is_some()
    }

    /// True for a check of the gateway.
    pub(crate) fn is_check(&self) -> bool {
        self.facts().is_check
    }

    /// True if it is known what the session is for, and it is no check of the gateway.
    pub(super) fn is_reported(&self) -> bool {
        let facts = self.facts();
        facts.service.is_some() && !facts.is_check
    }

    /// It in a report.
    pub(super) fn reported(&self) -> ReportedSession {
        let live = self.live();
        ReportedSession {
            id: live.id,
            actor_type: live.actor_type,
            actor_id: live.actor_id,
            actor_name: live.actor_name,
            target: live.target.as_deref().map(printable),
            since: live.since.format(&Rfc3339).unwrap_or_default(),
            bytes_to_target: live.bytes_to_target,
            bytes_from_target: live.bytes_from_target,
        }
    }

    pub(super) fn live(&self) -> LiveSession {
        let facts = self.facts();
        let actor = facts.actor.as_ref();
        LiveSession {
            id: self.id,
            actor_type: actor.map(|actor| actor.kind.clone()),
            actor_id: actor.and_then(|actor| actor.id.clone()),
            actor_name: actor.and_then(|actor| actor.name.clone()),
            service: facts.service.map(str::to_owned),
            target: facts.target.clone(),
            address: facts.address,
            since: utc(self.since),
            bytes_to_target: self.traffic.a_to_b(),
            bytes_from_target: self.traffic.b_to_a(),
            idle_seconds: self.traffic.idle().as_secs(),
        }
    }

    /// The entry `event` about it, with its end if it has ended.
    pub(super) fn entry(&self, event: Event, end: Option<End>) -> Entry {
        let (outcome, error) = end.map_or((None, None), |end| (Some(end.outcome), end.error));
        Entry {
            event,
            gateway: self.gateway.clone(),
            session: self.live(),
            duration: self.traffic.age(),
            outcome,
            error,
        }
    }
}

/// An audit event about one session.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) event: Event,
    pub(super) gateway: GatewayId,
    pub(super) session: LiveSession,
    pub(super) duration: Duration,
    pub(super) outcome: Option<Outcome>,
    pub(super) error: Option<String>,
}

impl Entry {
    /// The same for those who look for a defect.
    pub(super) fn into_detail(self) -> Self {
        let level = Level::DEBUG;
        Self {
            event: Event {
                level,
                ..self.event
            },
            ..self
        }
    }

    pub(super) fn log(&self) {
        let session = &self.session;
        event!(
            self.event,
            session.id = session.id,
            service = session.service.as_ref().map(field::display),
            actor.type = session.actor_type.as_ref().map(field::display),
            actor.id = session.actor_id.as_ref().map(field::display),
            actor.name = session.actor_name.as_ref().map(field::display),
            target.name = session.target.as_ref().map(field::display),
            target.address = session.address.map(field::display),
            bytes.to_target = session.bytes_to_target,
            bytes.from_target = session.bytes_from_target,
            duration_ms = self.duration_ms(),
            outcome = self.outcome.map(|outcome| field::display(outcome.as_str())),
            error = self.error.as_ref().map(field::display),
            gateway.id = %self.gateway,
        );
    }

    /// The same for the audit file.
    pub(super) fn line(&self) -> Vec<u8> {
        let session = &self.session;
        let fields = json!({
            "session.id": session.id,
            "service": session.service,
            "actor.type": session.actor_type,
            "actor.id": session.actor_id,
            "actor.name": session.actor_name,
            "target.name": session.target,
            "target.address": session.address,
            "bytes.to_target": session.bytes_to_target,
            "bytes.from_target": session.bytes_from_target,
            "duration_ms": self.duration_ms(),
            "outcome": self.outcome,
            "error": self.error,
            "gateway.id": self.gateway.as_str(),
        });
        line(self.event, fields)
    }

    fn duration_ms(&self) -> u64 {
        u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX)
    }
}

/// A line of the audit file, without the fields that are not known.
fn line(event: Event, fields: Value) -> Vec<u8> {
    let time = OffsetDateTime::now_utc().format(&Rfc3339);
    let mut line = serde_json::Map::new();
    line.insert("timestamp".to_owned(), time.unwrap_or_default().into());
    line.insert("message".to_owned(), event.text.into());
    line.insert("message_id".to_owned(), event.id.into());
    if let Value::Object(fields) = fields {
        line.extend(fields.into_iter().filter(|(_, value)| !value.is_null()));
    }
    let mut line = Value::Object(line).to_string();
    line.push('\n');
    line.into_bytes()
}

/// The audit event about many sessions.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) outcome: Outcome,
    pub(super) actor_id: Option<String>,
    pub(super) target: Option<String>,
    /// Of the last one.
    pub(super) error: Option<String>,
    pub(super) count: u64,
}

impl Summary {
    pub(super) fn log(&self) {
        event!(
            events::SESSIONS_SUMMARIZED,
            count = self.count,
            outcome = %self.outcome.as_str(),
            actor.id = self.actor_id.as_ref().map(field::display),
            target.name = self.target.as_ref().map(field::display),
            error = self.error.as_ref().map(field::display),
        );
    }

    /// The same for the audit file.
    pub(super) fn line(&self) -> Vec<u8> {
        let fields = json!({
            "count": self.count,
            "outcome": self.outcome,
            "actor.id": self.actor_id,
            "target.name": self.target,
            "error": self.error,
        });
        line(events::SESSIONS_SUMMARIZED, fields)
    }
}

//! The record of the sessions: who wanted to go where, what was reached, and how it ended. One
//! session is one channel of a tunnel.
//!
//! [`Audit`] lists the sessions that are open, and logs one event for each that ends, a cut or a
//! panic included: the session's task owns its [`Record`], which does so when it is dropped. A
//! session that lasts has an event after a minute too. Checks of the gateway (the services ping and
//! health) carry nothing and are logged as details. What a client can cause in any number is
//! [summarized](summaries).

mod session;
mod summaries;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::Level;

use crate::agent::status::document::LiveSession;
use crate::api::session_reports::{MAX_REPORTED, SessionReport};
use crate::connection::policy::{MAX_SESSIONS, MAX_TUNNELS};
use crate::events;
use crate::metrics::Metrics;
use crate::names::GatewayId;
pub(crate) use session::End;
use session::{Entry, Summary};
pub use session::{Outcome, Session};
use summaries::Summaries;

/// After so long a session has an event before its end.
const LONG: Duration = Duration::from_secs(60);
/// Between two looks for long sessions and for counts that are due.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Open sessions that are listed at most: as many as tunnels take.
const MAX_LISTED: usize = MAX_TUNNELS * MAX_SESSIONS;
/// Bytes of the sessions of a report: the embedded platform takes requests of 64 KiB.
const MAX_REPORT: usize = 60 * 1024;

/// The sessions of a gateway. Clones are the same.
#[derive(Clone, Default)]
pub struct Audit(Arc<Shared>);

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Audit")
    }
}

/// Takes the lines of the audit file.
type Writer = Box<dyn Fn(&[u8]) + Send + Sync>;

#[derive(Default)]
struct Shared {
    /// For the same events as in the log.
    writer: Option<Writer>,
    last_id: AtomicU64,
    /// By their ids, so in the order in which they began.
    open: Mutex<BTreeMap<u64, Arc<Session>>>,
    summaries: Mutex<Summaries>,
    metrics: Arc<Metrics>,
    /// Told when there may be something to look for; the other end is [`Audit::run`].
    work: Notify,
    /// Told when the [report](Audit::report) has changed; the other end is [`Audit::changed`].
    changed: Arc<Notify>,
}

impl Audit {
    /// No session yet. `write` takes each event as a line of JSON too, and should not wait.
    pub fn new(write: impl Fn(&[u8]) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared {
            writer: Some(Box::new(write)),
            ..Shared::default()
        }))
    }

    /// The sessions that are open, the oldest first.
    #[must_use]
    pub fn live(&self) -> Vec<LiveSession> {
        // The lock is held for the copy of the list only.
        self.open().into_iter().map(|open| open.live()).collect()
    }

    /// The report of the sessions that are open and want a target.
    pub(crate) fn report(&self) -> SessionReport {
        let mut report = SessionReport::default();
        let mut bytes = 0_usize;
        for session in self.open().iter().rev() {
            if !session.is_reported() {
                continue;
            }
            report.open = report.open.saturating_add(1);
            if report.sessions.len() < MAX_REPORTED {
                let reported = session.reported();
                let size = serde_json::to_vec(&reported).map_or(MAX_REPORT, |json| json.len());
                bytes = bytes.saturating_add(size);
                if bytes <= MAX_REPORT {
                    report.sessions.push(reported);
                }
            }
        }
        report
    }

    /// Waits until the report has changed since the last call; one waits at a time. Cancel-safe.
    pub(crate) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// What is counted of sessions and of the connection that they come through.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    /// Bytes of all sessions since the start: to targets, and from them.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        // Held together, so that no session is counted twice or missing as it ends.
        let open = lock(&self.0.open);
        let ended = self.0.metrics.bytes_of_ended();
        open.values().fold(ended, |(to, from), session| {
            let (more_to, more_from) = session.bytes();
            (to.saturating_add(more_to), from.saturating_add(more_from))
        })
    }

    fn open(&self) -> Vec<Arc<Session>> {
        lock(&self.0.open).values().map(Arc::clone).collect()
    }

    /// A session of `gateway` begins. It ends when the record is dropped.
    pub(crate) fn begin(&self, gateway: &GatewayId) -> Record {
        let id = self
            .0
            .last_id
            .fetch_add(1, Ordering::Relaxed)
            .saturating_add(1);
        let session = Arc::new(Session::new(
            id,
            gateway.clone(),
            Arc::clone(&self.0.metrics),
            Arc::clone(&self.0.changed),
        ));
        let mut open = lock(&self.0.open);
        if open.len() < MAX_LISTED {
            open.insert(id, Arc::clone(&session));
        }
        drop(open);
        self.0.work.notify_one();
        Record {
            audit: self.clone(),
            session,
            is_ended: false,
        }
    }

    /// Logs long sessions and counts when they are due. It may be cut anywhere.
    pub(crate) async fn run(self) {
        loop {
            if lock(&self.0.open).is_empty() && lock(&self.0.summaries).is_empty() {
                self.0.work.notified().await;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            for entry in self.newly_long() {
                self.publish(&entry);
            }
            let due = lock(&self.0.summaries).due(Instant::now());
            self.publish_counts(&due);
        }
    }

    /// Logs what is counted so far, at the end.
    pub(crate) fn finish(&self) {
        let counts = lock(&self.0.summaries).drain();
        self.publish_counts(&counts);
    }

    fn publish(&self, entry: &Entry) {
        entry.log();
        if entry.event.level <= Level::INFO {
            self.write(|| entry.line());
        }
    }

    fn publish_counts(&self, counts: &[Summary]) {
        for summary in counts {
            summary.log();
            self.write(|| summary.line());
        }
    }

    fn write(&self, line: impl FnOnce() -> Vec<u8>) {
        if let Some(write) = &self.0.writer {
            write(&line());
        }
    }

    fn newly_long(&self) -> Vec<Entry> {
        let long = self.open().into_iter();
        long.filter(|session| session.is_to_announce(LONG))
            .map(|session| session.entry(events::SESSION_OPEN, None))
            .collect()
    }

    /// What is logged of the end of `session`.
    fn ended(&self, session: &Session, end: End) -> Entry {
        let mut open = lock(&self.0.open);
        open.remove(&session.id);
        self.0.metrics.ended(session, end.outcome);
        drop(open);
        if session.is_reported() {
            self.0.changed.notify_one();
        }
        let is_detail = if session.is_check() {
            true
        } else if session.is_established() || end.outcome == Outcome::Completed {
            false
        } else {
            let live = session.live();
            let is_first = lock(&self.0.summaries).is_first(&live, &end, Instant::now());
            self.0.work.notify_one();
            !is_first
        };
        let entry = session.entry(events::SESSION_ENDED, Some(end));
        if is_detail {
            entry.into_detail()
        } else {
            entry
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Both are whole at any time.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A session that is open until this is dropped.
#[derive(Debug)]
pub(crate) struct Record {
    audit: Audit,
    session: Arc<Session>,
    is_ended: bool,
}

impl Record {
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// The session ended: as it says, or because of a failure.
    pub(crate) fn finish(mut self, failure: Option<End>) {
        let end = failure.unwrap_or_else(|| self.session.orderly_end());
        let entry = self.end(end);
        self.audit.publish(&entry);
    }

    fn end(&mut self, end: End) -> Entry {
        self.is_ended = true;
        self.audit.ended(&self.session, end)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.is_ended {
            let entry = self.end(End::of_lost_task());
            self.audit.publish(&entry);
        }
    }
}

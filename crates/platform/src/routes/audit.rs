//! The record of sessions, logins, enrollments and administration: what routes add to it beside the
//! changes that the store records itself, and how it is read and verified.
//!
//! A session that is not on record is not issued. Refusals are recorded at a rate for each caller,
//! so that none pushes the entries of others out, and of callers without a token at a rate for all
//! of them together: they can come from many addresses. An entry counts those before it that are not
//! on record. The log has each refused request, at its own rate. Of successful logins the store
//! records some and counts the others.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{Path, State};

use super::auth::{Administrators, By};
use super::error::ApiError;
use super::{App, rfc3339};
use crate::api::types::{
    AuditActor, AuditBreak, AuditEntry as Row, AuditSubject, AuditVerification, OpenSession,
};
use crate::error::printable;
use crate::limit::{self, Limiter, Rate};
use crate::store::{Action, AuditEntry, NewAuditEntry, Requester, Subject, hex};

/// Refusals of one caller that are recorded: far more than a person causes.
const REFUSALS: Rate = Rate {
    burst: 60,
    refill: Duration::from_secs(10),
};
/// Refusals of all callers without a token that are recorded: in 90 days half of the entries that
/// are kept.
const UNAUTHENTICATED_REFUSALS: Rate = Rate {
    burst: 600,
    refill: Duration::from_secs(60),
};
/// Entries of one answer.
const PAGE: u32 = 1000;
/// Longest text of a caller that is kept, in characters: a host with its port, twice.
const MAX_TEXT: usize = 600;

/// Whose refusals are counted together.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Refused {
    Caller(&'static str, Option<String>),
    Source(IpAddr),
}

/// Which refusals are recorded.
#[derive(Debug)]
pub(super) struct Refusals {
    recorded: Mutex<Limiter<Refused>>,
    unauthenticated: Mutex<Limiter<()>>,
    /// Not recorded since the last entry.
    left_out: AtomicU64,
}

impl Refusals {
    pub(super) fn new() -> Self {
        Self {
            recorded: Mutex::new(Limiter::new(REFUSALS)),
            unauthenticated: Mutex::new(Limiter::new(UNAUTHENTICATED_REFUSALS)),
            left_out: AtomicU64::new(0),
        }
    }

    fn is_recorded(&self, requester: &Requester) -> bool {
        let now = Instant::now();
        let is_authenticated = requester.kind != "unauthenticated";
        let caller = if is_authenticated {
            Refused::Caller(requester.kind, requester.id.clone())
        } else {
            Refused::Source(limit::source(requester.source))
        };
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        if recorded.attempt(caller, now).is_err() {
            return false;
        }
        let others = self.unauthenticated.lock();
        let mut others = others.unwrap_or_else(PoisonError::into_inner);
        is_authenticated || others.attempt((), now).is_ok()
    }
}

/// What someone tries, for the record.
#[derive(Debug)]
pub(crate) struct Attempt {
    action: Action,
    requester: Requester,
    subject: Option<Subject>,
    details: Option<String>,
}

impl Attempt {
    /// To open a session.
    pub(super) fn session(requester: Requester, gateway: &str, request: &OpenSession) -> Self {
        let target = format!("{}:{}", request.target_host, request.target_port);
        Self {
            action: Action::OpenSession,
            requester,
            subject: Some(Subject::named("gateway", Some(&bounded(gateway)))),
            details: Some(bounded(&target)),
        }
    }

    /// To log in as an identity, if there is one with such an id. The client id is not kept: it may
    /// be a secret in the wrong place.
    pub(super) fn login(requester: Requester, identity: Option<&str>) -> Self {
        Self {
            action: Action::LogIn,
            requester,
            subject: identity.map(|id| Subject::with_id("identity", id, None)),
            details: None,
        }
    }

    /// To log in on the web page, as this identity.
    pub(crate) fn web_login(requester: Requester, identity: Option<&str>) -> Self {
        Self {
            details: Some("web page".to_owned()),
            ..Self::login(requester, identity)
        }
    }

    /// To log out of the web page.
    pub(crate) fn web_log_out(requester: Requester) -> Self {
        Self {
            action: Action::LogOut,
            ..Self::web_login(requester, None)
        }
    }

    /// To make a backup.
    pub(super) fn backup(requester: Requester) -> Self {
        Self {
            action: Action::BackUp,
            requester,
            subject: Some(Subject::named("state", None)),
            details: None,
        }
    }

    /// To enroll a `gateway` or a `relay`.
    pub(super) fn enrollment(requester: Requester, kind: &'static str) -> Self {
        Self {
            action: Action::Enroll,
            requester,
            subject: Some(Subject::named(kind, None)),
            details: None,
        }
    }
}

/// A text of a caller, as it is kept.
fn bounded(text: &str) -> String {
    printable(text).chars().take(MAX_TEXT).collect()
}

impl App {
    /// Records that what was tried succeeded, or was refused because of `refusal`.
    pub(crate) async fn record(
        &self,
        attempt: Attempt,
        refusal: Option<&ApiError>,
    ) -> Result<(), ApiError> {
        let refusals = &self.0.refusals;
        if refusal.is_some() && !refusals.is_recorded(&attempt.requester) {
            refusals.left_out.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let left_out = refusals.left_out.swap(0, Ordering::Relaxed);
        let new = NewAuditEntry {
            action: attempt.action,
            requester: attempt.requester,
            subject: attempt.subject,
            details: attempt.details,
            refusal: refusal.map(|error| (error.kind.to_owned(), bounded(error.reason()))),
            left_out,
        };
        let recorded = self.store().record(new, SystemTime::now()).await;
        if !matches!(recorded, Ok(Some(_))) {
            refusals.left_out.fetch_add(left_out, Ordering::Relaxed);
        }
        recorded?;
        Ok(())
    }
}

/// `GET audit/{since}/{after}`: a page of entries since that second since 1970 and after the one
/// with that number, the oldest first; an empty one ends the list.
pub(super) async fn list(
    State(app): State<App>,
    _: By<Administrators>,
    Path((since, after)): Path<(u64, i64)>,
) -> Result<axum::Json<Vec<Row>>, ApiError> {
    let since = UNIX_EPOCH.checked_add(Duration::from_secs(since));
    let Some(since) = since else {
        return Err(ApiError::invalid(&["since"], "it is too far away"));
    };
    let entries = app.store().audit(since, after, PAGE).await?.into_iter();
    Ok(axum::Json(entries.map(row).collect()))
}

/// `GET audit-chain/{number}`: whether the entries are as they were written, and the hash of the one
/// with that number.
pub(super) async fn verify(
    State(app): State<App>,
    _: By<Administrators>,
    Path(number): Path<i64>,
) -> Result<axum::Json<AuditVerification>, ApiError> {
    let found = app.store().verify_audit(number).await?;
    Ok(axum::Json(AuditVerification {
        removed: found.removed,
        entries: found.entries,
        number: found.number,
        hash: hex(&found.hash),
        broken: found.broken.map(|broken| AuditBreak {
            number: broken.number,
            reason: broken.reason.to_owned(),
        }),
        asked: found.asked.map(|hash| hex(&hash)),
    }))
}

fn row(entry: AuditEntry) -> Row {
    let at = Duration::from_millis(u64::try_from(entry.at).unwrap_or(0));
    Row {
        number: entry.number,
        time: rfc3339(UNIX_EPOCH.checked_add(at).unwrap_or(UNIX_EPOCH)),
        kind: entry.kind,
        action: entry.action,
        actor: AuditActor {
            kind: entry.actor_kind,
            id: entry.actor_id,
            name: entry.actor_name,
        },
        source: entry.source,
        subject: entry.subject_kind.map(|kind| AuditSubject {
            kind,
            id: entry.subject_id,
            name: entry.subject_name,
        }),
        details: entry.details,
        class: entry.refusal_class,
        reason: entry.refusal_reason,
        left_out: u64::try_from(entry.left_out).unwrap_or(0),
        hash: hex(&entry.hash),
    }
}

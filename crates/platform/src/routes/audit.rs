//! The record of grants: what is written of each request for a session, and how it is read.
//!
//! A session that is not on record is not issued. Refusals are recorded at a rate for each caller,
//! so that none pushes the entries of others out; an entry counts those before it that are not on
//! record. The log has each of them, at its own rate.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{Path, State};
use tracing::field;

use super::auth::{Administrators, By};
use super::error::ApiError;
use super::signing::Signer;
use super::{App, rfc3339};
use crate::api::types::{AuditActor, AuditEntry as Row, AuditGateway, OpenSession};
use crate::error::printable;
use crate::event;
use crate::events;
use crate::limit::{Limiter, Rate};
use crate::store::{AuditEntry, NewAuditEntry, Refusal};

/// Refusals of one caller that are recorded: far more than a person causes.
const REFUSALS: Rate = Rate {
    burst: 60,
    refill: Duration::from_secs(10),
};
/// Entries of one answer.
const PAGE: u32 = 1000;
/// Longest text of a caller that is kept, in characters: a host with its port, twice.
const MAX_TEXT: usize = 600;

/// Which refusals are recorded.
#[derive(Debug)]
pub(super) struct Refusals {
    recorded: Mutex<Limiter<Signer>>,
    /// Not recorded since the last entry.
    left_out: AtomicU64,
}

impl Refusals {
    pub(super) fn new() -> Self {
        Self {
            recorded: Mutex::new(Limiter::new(REFUSALS)),
            left_out: AtomicU64::new(0),
        }
    }

    fn is_recorded(&self, signer: &Signer) -> bool {
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.attempt(signer.clone(), Instant::now()).is_ok()
    }
}

/// Who asks for which session.
#[derive(Debug)]
pub(super) struct Asked {
    signer: Signer,
    gateway: String,
    target: String,
}

impl Asked {
    pub(super) fn new(signer: Signer, gateway: &str, request: &OpenSession) -> Self {
        let target = format!("{}:{}", request.target_host, request.target_port);
        Self {
            signer,
            gateway: bounded(gateway),
            target: bounded(&target),
        }
    }
}

/// A text of a caller, as it is kept.
fn bounded(text: &str) -> String {
    printable(text).chars().take(MAX_TEXT).collect()
}

impl App {
    /// Records that the session was issued, or refused because of `refusal`.
    pub(super) async fn record(
        &self,
        asked: Asked,
        refusal: Option<&ApiError>,
    ) -> Result<(), ApiError> {
        let refusals = &self.0.refusals;
        if refusal.is_some() && !refusals.is_recorded(&asked.signer) {
            refusals.left_out.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let (kind, id) = match asked.signer {
            Signer::Administrator => ("administrator", None),
            Signer::Identity(id) => ("identity", Some(id)),
            Signer::Gateway(id) => ("gateway", Some(id.to_string())),
            Signer::Relay(id) => ("relay", Some(id)),
            Signer::Instance => ("relay", None),
        };
        let new = NewAuditEntry {
            actor_kind: kind,
            actor_id: id,
            gateway_name: asked.gateway,
            target: asked.target,
            refusal: refusal.map(|error| Refusal {
                class: error.kind.to_owned(),
                reason: bounded(error.reason()),
            }),
            left_out: refusals.left_out.swap(0, Ordering::Relaxed),
        };
        let entry = self.store().record(new, SystemTime::now()).await?;
        log(&entry);
        Ok(())
    }
}

/// The event about an entry; of refusals the log has an entry about the request.
fn log(entry: &AuditEntry) {
    if entry.refusal.is_some() {
        return;
    }
    event!(
        events::SESSION_ISSUED,
        audit.number = entry.number,
        actor.type = %entry.actor.kind,
        actor.id = entry.actor.id.as_ref().map(field::display),
        actor.name = entry.actor.name.as_ref().map(field::display),
        gateway.id = entry.gateway_id.as_ref().map(field::display),
        gateway.name = %entry.gateway_name,
        target.name = %entry.target,
    );
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

fn row(entry: AuditEntry) -> Row {
    Row {
        number: entry.number,
        time: rfc3339(entry.at),
        actor: AuditActor {
            kind: entry.actor.kind,
            id: entry.actor.id,
            name: entry.actor.name,
        },
        gateway: AuditGateway {
            id: entry.gateway_id,
            name: entry.gateway_name,
        },
        target: entry.target,
        class: entry.refusal.as_ref().map(|refusal| refusal.class.clone()),
        reason: entry.refusal.map(|refusal| refusal.reason),
        left_out: entry.left_out,
    }
}

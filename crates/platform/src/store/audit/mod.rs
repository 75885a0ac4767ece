//! The record of what was asked of the platform and what became of it: sessions, logins,
//! enrollments and administration.
//!
//! Entries are only added, numbered without a gap, and chained by hashes ([`chain`]). A change that
//! is made for a [`Requester`] is in one transaction with its entry; the event about an entry
//! follows the commit. Successful logins have entries at a rate ([`logins`]). The oldest entries go
//! when there are more than [`MAX_ENTRIES`], or after the retention that the store was opened with.

pub(in crate::store) mod chain;
mod entry;
mod event;
mod logins;

use std::time::SystemTime;

use async_trait::async_trait;
pub(super) use chain::Verified;
pub(crate) use entry::{Action, AuditEntry, AuditKind, NewAuditEntry, Requester, Subject};
pub(crate) use event::hex;
pub(super) use event::log;
pub(super) use logins::LoginRates;

use super::Error;

/// Entries that are kept: some 80 MB.
pub(super) const MAX_ENTRIES: i64 = 250_000;

/// The entries of a change.
#[derive(Debug)]
pub(super) struct Record {
    requester: Requester,
    entries: Vec<NewAuditEntry>,
}

impl Record {
    /// For a change that `requester` makes.
    pub(super) fn new(requester: Requester) -> Self {
        Self {
            requester,
            entries: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, action: Action, subject: Subject, details: Option<String>) {
        self.entries.push(NewAuditEntry {
            action,
            requester: self.requester.clone(),
            subject: Some(subject),
            details,
            refusal: None,
            left_out: 0,
        });
    }

    /// The same for a caller that the change has authenticated: it is `who`.
    pub(super) fn add_by(&mut self, action: Action, who: Subject, details: Option<String>) {
        self.requester = Requester {
            kind: who.kind,
            id: who.id.clone(),
            name: who.name.clone(),
            source: self.requester.source,
        };
        self.add(action, who, details);
    }

    /// What is to be written, in its order.
    pub(super) fn into_entries(self) -> Vec<NewAuditEntry> {
        self.entries
    }
}

/// See the module.
#[async_trait]
pub(crate) trait AuditStore {
    /// Writes an entry, and returns it; `None` for a login that is only counted.
    async fn record(
        &self,
        new: NewAuditEntry,
        now: SystemTime,
    ) -> Result<Option<AuditEntry>, Error>;

    /// Writes the entries that sum up the logins which were only counted since the last call.
    async fn record_login_counts(&self, now: SystemTime) -> Result<(), Error>;

    /// Notes that `requester` reads the relay auth secret.
    async fn read_relay_auth_secret(&self, requester: Requester) -> Result<(), Error>;

    /// Removes the entries that are older than the retention at `now`.
    async fn forget_old_entries(&self, now: SystemTime) -> Result<(), Error>;

    /// At most `limit` entries after the one with the number `after` that are not older than
    /// `since`, the oldest first.
    async fn audit(
        &self,
        since: SystemTime,
        after: i64,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, Error>;

    /// At most `limit` entries of `kind`, or of all, with a number below `before`, the newest first.
    async fn newest_audit(
        &self,
        kind: Option<AuditKind>,
        before: i64,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, Error>;

    /// Walks the whole chain, in pages, and looks for the hash of the entry `asked`.
    async fn verify_audit(&self, asked: i64) -> Result<Verified, Error>;
}

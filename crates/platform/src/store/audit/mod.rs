//! The record of what was asked of the platform and what became of it: sessions, logins,
//! enrollments and administration.
//!
//! Entries are only added, numbered without a gap, and chained by hashes ([`chain`]). A change that
//! [`AuditedStore`] makes is in one transaction with its entry; the event about an entry follows the
//! commit. The oldest entries go when there are more than [`MAX_ENTRIES`], or after the retention.

mod chain;
mod entry;
mod event;
mod migration;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

pub(crate) use entry::{Action, AuditEntry, NewAuditEntry, Requester, Subject};
pub(crate) use event::hex;
pub(super) use migration::chain_entries;
use rusqlite::{OptionalExtension as _, Transaction};

use super::{Error, Store, identities, millis};

/// Entries that are kept: some 80 MB.
pub(super) const MAX_ENTRIES: i64 = 250_000;

/// The store in the hands of one caller: for changes that are on record with their entries.
#[derive(Debug)]
pub(crate) struct AuditedStore {
    store: Store,
    requester: Requester,
}

/// The entries of a change.
#[derive(Debug)]
pub(super) struct Record {
    requester: Requester,
    entries: Vec<NewAuditEntry>,
}

impl Record {
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
}

impl AuditedStore {
    /// Runs `work` and writes the entries that it has added, in one transaction.
    pub(super) async fn change<T, F>(self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>, &mut Record) -> Result<T, Error> + Send + 'static,
    {
        let Self { store, requester } = self;
        let retention = store.audit_retention;
        let change = move |tx: &Transaction<'_>| {
            // Before the work, which may delete the caller itself.
            let requester = named(tx, requester)?;
            let mut record = Record {
                requester,
                entries: Vec::new(),
            };
            let done = work(tx, &mut record)?;
            let now = SystemTime::now();
            let entries = record.entries.into_iter();
            let entries = entries.map(|new| insert(tx, new, now, retention));
            Ok((done, entries.collect::<Result<Vec<_>, _>>()?))
        };
        store
            .call_then(change, |(_, entries)| entries.iter().for_each(event::log))
            .await
            .map(|(done, _)| done)
    }

    /// Notes that the caller reads the relay auth secret.
    pub(crate) async fn read_relay_auth_secret(self) -> Result<(), Error> {
        self.change(|_, record| {
            let subject = Subject::named("relay-auth-secret", None);
            record.add(Action::ReadRelayAuthSecret, subject, None);
            Ok(())
        })
        .await
    }
}

impl Store {
    /// The store for what `requester` changes.
    pub(crate) fn audited(&self, requester: Requester) -> AuditedStore {
        AuditedStore {
            store: self.clone(),
            requester,
        }
    }

    /// Keeps entries for `retention` from now on; removes those that are older. Blocks.
    pub(crate) fn with_audit_retention(
        mut self,
        retention: Duration,
        now: SystemTime,
    ) -> Result<Self, Error> {
        self.audit_retention = retention;
        self.transaction(|tx| forget(tx, now, retention))?;
        Ok(self)
    }

    /// Writes an entry, and returns it.
    pub(crate) async fn record(
        &self,
        new: NewAuditEntry,
        now: SystemTime,
    ) -> Result<AuditEntry, Error> {
        let retention = self.audit_retention;
        let write = move |tx: &Transaction<'_>| insert(tx, new, now, retention);
        self.call_then(write, event::log).await
    }

    /// At most `limit` entries after the one with the number `after` that are not older than
    /// `since`, the oldest first.
    pub(crate) async fn audit(
        &self,
        since: SystemTime,
        after: i64,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, Error> {
        self.call(move |tx| {
            let columns = entry::COLUMNS;
            let mut rows = tx.prepare(&format!(
                "SELECT {columns} FROM audit
                 WHERE number > ?1 AND at >= ?2 ORDER BY number LIMIT ?3"
            ))?;
            let entries = rows.query_map((after, millis(since), limit), entry::from_row)?;
            Ok(entries.collect::<Result<_, _>>()?)
        })
        .await
    }
}

fn insert(
    tx: &Transaction<'_>,
    new: NewAuditEntry,
    now: SystemTime,
    retention: Duration,
) -> Result<AuditEntry, Error> {
    let requester = named(tx, new.requester)?;
    let subject = new.subject.map(|subject| identified(tx, subject));
    let subject = subject.transpose()?;
    let (subject_kind, subject_id, subject_name) = match subject {
        Some(Subject { kind, id, name }) => (Some(kind.to_owned()), id, name),
        None => (None, None, None),
    };
    let (refusal_class, refusal_reason) = match new.refusal {
        Some((class, reason)) => (Some(class), Some(reason)),
        None => (None, None),
    };
    let end = chain::end(tx)?;
    let mut entry = AuditEntry {
        number: end.number.saturating_add(1),
        at: millis(now),
        kind: new.action.kind().as_str().to_owned(),
        action: new.action.as_str().to_owned(),
        actor_kind: requester.kind.to_owned(),
        actor_id: requester.id,
        actor_name: requester.name,
        source: requester.source.map(|address| address.to_string()),
        subject_kind,
        subject_id,
        subject_name,
        details: new.details,
        refusal_class,
        refusal_reason,
        left_out: i64::try_from(new.left_out).unwrap_or(i64::MAX),
        hash: Vec::new(),
    };
    entry.hash = chain::hash(&end.hash, &entry);
    entry::write(tx, &entry)?;
    chain::extend(tx, &entry)?;
    forget(tx, now, retention)?;
    Ok(entry)
}

/// With the name that it has now.
fn named(tx: &Transaction<'_>, requester: Requester) -> Result<Requester, Error> {
    let name = match (&requester.name, requester.kind, &requester.id) {
        (Some(name), _, _) => Some(name.clone()),
        (None, "identity", Some(id)) => identities::name_of(tx, id)?,
        (None, "gateway", Some(id)) => look_up(tx, "SELECT name FROM gateway WHERE id = ?1", id)?,
        (None, "relay", Some(id)) => look_up(tx, "SELECT name FROM relay WHERE id = ?1", id)?,
        (None, _, _) => None,
    };
    Ok(Requester { name, ..requester })
}

/// With the id or the name that it has now and that was not known.
fn identified(tx: &Transaction<'_>, subject: Subject) -> Result<Subject, Error> {
    let Subject { kind, id, name } = subject;
    let (id, name) = match (kind, id, name) {
        ("gateway", None, Some(name)) => {
            let select = "SELECT id FROM gateway WHERE name = ?1";
            (look_up(tx, select, &name)?, Some(name))
        }
        ("identity", Some(id), None) => {
            let name = identities::name_of(tx, &id)?;
            (Some(id), name)
        }
        (_, id, name) => (id, name),
    };
    Ok(Subject { kind, id, name })
}

fn look_up(tx: &Transaction<'_>, select: &str, key: &str) -> Result<Option<String>, Error> {
    let found = tx.query_row(select, [key], |row| row.get(0));
    Ok(found.optional()?)
}

/// Removes the entries that are too many or too old. Numbers follow time, so both are at the front:
/// looking there is cheap.
fn forget(tx: &Transaction<'_>, now: SystemTime, retention: Duration) -> Result<(), Error> {
    let newest = chain::end(tx)?.number;
    let oldest_time = millis(now.checked_sub(retention).unwrap_or(now));
    let young = tx.query_row(
        "SELECT number FROM audit WHERE at >= ?1 ORDER BY number LIMIT 1",
        [oldest_time],
        |row| row.get(0),
    );
    let young: i64 = young.optional()?.unwrap_or(i64::MAX);
    let last = newest
        .saturating_sub(MAX_ENTRIES)
        .max(young.saturating_sub(1));
    let removed = tx.query_row(
        "SELECT number, hash FROM audit WHERE number <= ?1 ORDER BY number DESC LIMIT 1",
        [last],
        |row| Ok((row.get(0)?, row.get(1)?)),
    );
    let removed: Option<(i64, Vec<u8>)> = removed.optional()?;
    let Some((number, hash)) = removed else {
        return Ok(());
    };
    tx.execute("DELETE FROM audit WHERE number <= ?1", [number])?;
    chain::begin_after(tx, number, &hash)
}

//! The record of the audit: see [`crate::store::audit`].

mod chain;
mod entry;
mod migration;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
pub(super) use migration::chain_entries;
use rusqlite::{OptionalExtension as _, Transaction};

use super::{Sqlite, identities};
use crate::store::audit::chain::Verified;
use crate::store::audit::{self, AuditStore, MAX_ENTRIES, Record};
use crate::store::{
    Action, AuditEntry, AuditKind, Error, NewAuditEntry, Requester, Subject, millis,
};

/// Entries that a full record removes before the next warning.
const WARNING_INTERVAL: i64 = 1000;

impl Sqlite {
    /// Runs `work` and writes the entries that it has added, in one transaction.
    pub(super) async fn change<T, F>(&self, requester: Requester, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>, &mut Record) -> Result<T, Error> + Send + 'static,
    {
        let retention = self.audit_retention;
        let rates = Arc::clone(&self.login_rates);
        let change = move |tx: &Transaction<'_>| {
            // Before the work, which may delete the caller itself.
            let mut record = Record::new(named(tx, requester)?);
            let done = work(tx, &mut record)?;
            let now = SystemTime::now();
            let entries = record.into_entries().into_iter();
            let entries = entries.filter(|new| rates.admit(new, Instant::now()));
            let entries = entries.map(|new| insert(tx, new, now, retention));
            Ok((done, entries.collect::<Result<Vec<_>, _>>()?))
        };
        self.call_then(change, |(_, entries)| entries.iter().for_each(audit::log))
            .await
            .map(|(done, _)| done)
    }
}

#[async_trait]
impl AuditStore for Sqlite {
    async fn record(
        &self,
        new: NewAuditEntry,
        now: SystemTime,
    ) -> Result<Option<AuditEntry>, Error> {
        if !self.login_rates.admit(&new, Instant::now()) {
            return Ok(None);
        }
        let retention = self.audit_retention;
        let write = move |tx: &Transaction<'_>| insert(tx, new, now, retention);
        self.call_then(write, audit::log).await.map(Some)
    }

    async fn record_login_counts(&self, now: SystemTime) -> Result<(), Error> {
        let retention = self.audit_retention;
        let summaries = self.login_rates.summaries();
        let new = summaries.entries();
        if new.is_empty() {
            return Ok(());
        }
        let write = move |tx: &Transaction<'_>| {
            let entries = new.into_iter().map(|new| insert(tx, new, now, retention));
            entries.collect::<Result<Vec<_>, _>>()
        };
        self.call_then(write, |entries| entries.iter().for_each(audit::log))
            .await?;
        self.login_rates.forget(&summaries);
        Ok(())
    }

    async fn read_relay_auth_secret(&self, requester: Requester) -> Result<(), Error> {
        self.change(requester, |_, record| {
            let subject = Subject::named("relay-auth-secret", None);
            record.add(Action::ReadRelayAuthSecret, subject, None);
            Ok(())
        })
        .await
    }

    async fn forget_old_entries(&self, now: SystemTime) -> Result<(), Error> {
        let retention = self.audit_retention;
        self.call(move |tx| forget(tx, now, retention)).await
    }

    async fn audit(
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

    async fn newest_audit(
        &self,
        kind: Option<AuditKind>,
        before: i64,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, Error> {
        self.call(move |tx| {
            let columns = entry::COLUMNS;
            let mut rows = tx.prepare(&format!(
                "SELECT {columns} FROM audit
                 WHERE number < ?1 AND (?2 IS NULL OR kind = ?2) ORDER BY number DESC LIMIT ?3"
            ))?;
            let kind = kind.map(AuditKind::as_str);
            let entries = rows.query_map((before, kind, limit), entry::from_row)?;
            Ok(entries.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn verify_audit(&self, asked: i64) -> Result<Verified, Error> {
        let mut found: Option<Verified> = None;
        loop {
            let (next, is_over) = self.call(move |tx| chain::page(tx, found, asked)).await?;
            if is_over {
                return Ok(next);
            }
            found = Some(next);
        }
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
    let new = NewAuditEntry {
        requester,
        subject: subject.transpose()?,
        ..new
    };
    let entry = chain::end(tx)?.entry(new, now);
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

/// Whether the removal of the entries up to `number` is worth a warning: at intervals, if those
/// from `young` on are younger than the retention.
fn is_warned_of(number: i64, young: i64) -> bool {
    number >= young && number % WARNING_INTERVAL == 0
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
    if is_warned_of(number, young) {
        tracing::warn!(
            audit.number = number,
            "the audit record is full: entries are removed before the end of --audit-retention; the \
             log has each of them"
        );
    }
    chain::begin_after(tx, number, &hash)
}

//! The row of an entry.

use rusqlite::{Row, Transaction};

use crate::store::{AuditEntry, Error};

/// What [`from_row`] reads, in its order, which is that of [`AuditEntry::fields`] too.
pub(super) const COLUMNS: &str = "number, at, kind, action, actor_kind, actor_id, actor_name, \
    source, subject_kind, subject_id, subject_name, details, refusal_class, refusal_reason, \
    left_out, hash";

pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<AuditEntry> {
    Ok(AuditEntry {
        number: row.get(0)?,
        at: row.get(1)?,
        kind: row.get(2)?,
        action: row.get(3)?,
        actor_kind: row.get(4)?,
        actor_id: row.get(5)?,
        actor_name: row.get(6)?,
        source: row.get(7)?,
        subject_kind: row.get(8)?,
        subject_id: row.get(9)?,
        subject_name: row.get(10)?,
        details: row.get(11)?,
        refusal_class: row.get(12)?,
        refusal_reason: row.get(13)?,
        left_out: row.get(14)?,
        hash: row.get(15)?,
    })
}

pub(super) fn write(tx: &Transaction<'_>, entry: &AuditEntry) -> Result<(), Error> {
    tx.execute(
        &format!(
            "INSERT INTO audit ({COLUMNS})
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)"
        ),
        (
            entry.number,
            entry.at,
            &entry.kind,
            &entry.action,
            &entry.actor_kind,
            &entry.actor_id,
            &entry.actor_name,
            &entry.source,
            &entry.subject_kind,
            &entry.subject_id,
            &entry.subject_name,
            &entry.details,
            &entry.refusal_class,
            &entry.refusal_reason,
            entry.left_out,
            &entry.hash,
        ),
    )?;
    Ok(())
}

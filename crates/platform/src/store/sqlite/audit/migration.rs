//! The step from the record of sessions of earlier programs to that of today.

use rusqlite::{Row, Transaction};

use super::{chain, entry};
use crate::store::audit::chain::{ORIGIN, hash};
use crate::store::{Action, AuditEntry, Error};

/// What [`session`] reads of the table of version 5, in its order.
const SESSIONS: &str = "SELECT number, at, actor_kind, actor_id, actor_name, gateway_id, \
    gateway_name, target, refusal_class, refusal_reason, left_out FROM audit_5 ORDER BY number";

/// Takes the entries of the table `audit_5` over into the table of today and chains them.
pub(in super::super) fn chain_entries(tx: &Transaction<'_>) -> Result<(), Error> {
    chain::create(tx, chain::number_before(tx, "audit_5")?)?;
    let mut previous = ORIGIN.to_vec();
    let mut newest = None;
    let mut statement = tx.prepare(SESSIONS)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let mut entry = session(row)?;
        entry.hash = hash(&previous, &entry);
        previous.clone_from(&entry.hash);
        entry::write(tx, &entry)?;
        newest = Some(entry);
    }
    match newest {
        Some(entry) => chain::extend(tx, &entry),
        None => Ok(()),
    }
}

fn session(row: &Row<'_>) -> rusqlite::Result<AuditEntry> {
    let action = Action::OpenSession;
    Ok(AuditEntry {
        number: row.get(0)?,
        at: row.get(1)?,
        kind: action.kind().as_str().to_owned(),
        action: action.as_str().to_owned(),
        actor_kind: row.get(2)?,
        actor_id: row.get(3)?,
        actor_name: row.get(4)?,
        source: None,
        subject_kind: Some("gateway".to_owned()),
        subject_id: row.get(5)?,
        subject_name: row.get(6)?,
        details: row.get(7)?,
        refusal_class: row.get(8)?,
        refusal_reason: row.get(9)?,
        left_out: row.get(10)?,
        hash: Vec::new(),
    })
}

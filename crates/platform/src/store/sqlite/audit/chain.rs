//! The ends of the chain, in one row, and the walk through it in pages.

use rusqlite::{OptionalExtension as _, Transaction};

use super::entry;
use crate::store::audit::chain::{ORIGIN, Position, Verified};
use crate::store::{AuditEntry, Error};

/// Entries that are verified in one transaction: others wait that long.
const PAGE: u32 = 2000;

fn position(tx: &Transaction<'_>, select: &str) -> Result<Position, Error> {
    let read = tx.query_row(select, [], |row| {
        Ok(Position {
            number: row.get(0)?,
            hash: row.get(1)?,
        })
    });
    Ok(read?)
}

/// The newest entry.
pub(super) fn end(tx: &Transaction<'_>) -> Result<Position, Error> {
    position(tx, "SELECT newest_number, newest_hash FROM audit_chain")
}

/// The last entry that was removed.
fn begin(tx: &Transaction<'_>) -> Result<Position, Error> {
    position(tx, "SELECT removed_number, removed_hash FROM audit_chain")
}

/// Makes `entry` the newest one.
pub(super) fn extend(tx: &Transaction<'_>, entry: &AuditEntry) -> Result<(), Error> {
    tx.execute(
        "UPDATE audit_chain SET newest_number = ?1, newest_hash = ?2",
        (entry.number, &entry.hash),
    )?;
    Ok(())
}

/// Notes that entries up to this one were removed.
pub(super) fn begin_after(tx: &Transaction<'_>, number: i64, hash: &[u8]) -> Result<(), Error> {
    tx.execute(
        "UPDATE audit_chain SET removed_number = ?1, removed_hash = ?2",
        (number, hash),
    )?;
    Ok(())
}

/// Verifies the entries after those of `before`; true if these were the last.
pub(super) fn page(
    tx: &Transaction<'_>,
    before: Option<Verified>,
    asked: i64,
) -> Result<(Verified, bool), Error> {
    let mut found = Verified::resume(before, begin(tx)?, asked);
    let columns = entry::COLUMNS;
    let select = format!("SELECT {columns} FROM audit WHERE number > ?1 ORDER BY number LIMIT ?2");
    let mut statement = tx.prepare(&select)?;
    let mut rows = statement.query((found.number, PAGE))?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        count += 1;
        if !found.follow(row.get(0)?, entry::from_row(row).ok(), asked) {
            return Ok((found, true));
        }
    }
    let is_over = count < PAGE;
    if is_over {
        found.finish(&end(tx)?);
    }
    Ok((found, is_over))
}

/// Writes the row of a chain that begins after the entry `number`.
pub(super) fn create(tx: &Transaction<'_>, number: i64) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO audit_chain VALUES (1, ?1, ?2, ?1, ?2)",
        (number, ORIGIN),
    )?;
    Ok(())
}

/// The number before the first entry of `table`, or that of the last one that was ever there.
pub(super) fn number_before(tx: &Transaction<'_>, table: &str) -> Result<i64, Error> {
    let select = format!("SELECT number - 1 FROM {table} ORDER BY number LIMIT 1");
    let first: Option<i64> = tx.query_row(&select, [], |row| row.get(0)).optional()?;
    if let Some(number) = first {
        return Ok(number);
    }
    let select = "SELECT seq FROM sqlite_sequence WHERE name = ?1";
    let last = tx.query_row(select, [table], |row| row.get(0)).optional()?;
    Ok(last.unwrap_or(0))
}

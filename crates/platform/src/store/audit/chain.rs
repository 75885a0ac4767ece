//! The chain of hashes through the entries: each hash is over the one before and all fields of its
//! entry, so that a changed, missing or added entry breaks it.
//!
//! One row has both ends: the last entry that was removed, from where the entries that are there go
//! on, and the newest one. docs/platform.md describes the encoding, and what a chain does not show.

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use rusqlite::{OptionalExtension as _, Transaction};

use super::super::{Error, Store};
use super::entry::{self, AuditEntry, Field};

/// Entries that are verified in one transaction: others wait that long.
const PAGE: u32 = 2000;
/// Stands before the first entry ever.
pub(super) const ORIGIN: [u8; SHA256_OUTPUT_LEN] = [0; SHA256_OUTPUT_LEN];

/// A place in the chain: after the entry with this number and this hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) number: i64,
    pub(super) hash: Vec<u8>,
}

/// What verifying the chain has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verified {
    /// The last entry that the retention has removed; 0 if there is none.
    pub(crate) removed: i64,
    /// Entries from there on that are as they were written.
    pub(crate) entries: u64,
    /// The last of them, or the last removed one.
    pub(crate) number: i64,
    pub(crate) hash: Vec<u8>,
    /// Where the chain breaks first.
    pub(crate) broken: Option<Break>,
    /// The hash of the entry that was asked about, if it is there and comes before any break.
    pub(crate) asked: Option<Vec<u8>>,
}

/// Where a chain breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Break {
    /// The first entry that does not hold.
    pub(crate) number: i64,
    pub(crate) reason: &'static str,
}

/// The hash of `entry` after the one with the hash `previous`: SHA-256 over `previous` and all
/// fields in their order.
///
/// A field that is absent is the byte 0. Any other is the byte 1, the number of its bytes as 64 bits
/// big endian, and these: a text as UTF-8, a number as 64 bits big endian, in two's complement.
pub(super) fn hash(previous: &[u8], entry: &AuditEntry) -> Vec<u8> {
    let mut context = Context::new(&SHA256);
    add(&mut context, Some(previous));
    for field in entry.fields() {
        match field {
            Field::Number(number) => add(&mut context, Some(&number.to_be_bytes())),
            Field::Text(text) => add(&mut context, text.map(str::as_bytes)),
        }
    }
    context.finish().as_ref().to_vec()
}

fn add(context: &mut Context, field: Option<&[u8]>) {
    let Some(bytes) = field else {
        context.update(&[0]);
        return;
    };
    context.update(&[1]);
    // No slice is longer than 2^63 bytes.
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    context.update(&length.to_be_bytes());
    context.update(bytes);
}

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

impl Store {
    /// Walks the whole chain, in pages, and looks for the hash of the entry `asked`.
    pub(crate) async fn verify_audit(&self, asked: i64) -> Result<Verified, Error> {
        let mut found: Option<Verified> = None;
        loop {
            let (next, is_over) = self.call(move |tx| page(tx, found, asked)).await?;
            if is_over {
                return Ok(next);
            }
            found = Some(next);
        }
    }
}

/// Verifies the entries after those of `before`; true if these were the last.
fn page(
    tx: &Transaction<'_>,
    before: Option<Verified>,
    asked: i64,
) -> Result<(Verified, bool), Error> {
    let (begin, end) = (begin(tx)?, end(tx)?);
    let mut found = match before {
        // The retention may have removed what comes next since the last page.
        Some(found) if found.number >= begin.number => found,
        skipped => Verified {
            removed: begin.number,
            entries: skipped.map_or(0, |found| found.entries),
            asked: (begin.number == asked).then(|| begin.hash.clone()),
            number: begin.number,
            hash: begin.hash,
            broken: None,
        },
    };
    let columns = entry::COLUMNS;
    let select = format!("SELECT {columns} FROM audit WHERE number > ?1 ORDER BY number LIMIT ?2");
    let mut statement = tx.prepare(&select)?;
    let mut rows = statement.query((found.number, PAGE))?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        count += 1;
        let number: i64 = row.get(0)?;
        if let Err(reason) = follow(&mut found, number, entry::from_row(row), asked) {
            let number = found.number.saturating_add(1);
            found.broken = Some(Break { number, reason });
            return Ok((found, true));
        }
    }
    let is_over = count < PAGE;
    let is_end = (found.number, &found.hash) == (end.number, &end.hash);
    if is_over && !is_end {
        found.broken = Some(Break {
            number: found.number.saturating_add(1),
            reason: "the newest entries are missing",
        });
    }
    Ok((found, is_over))
}

/// Takes one entry more into what is `found`, if it is the next one and as it was written.
fn follow(
    found: &mut Verified,
    number: i64,
    entry: rusqlite::Result<AuditEntry>,
    asked: i64,
) -> Result<(), &'static str> {
    if found.number.checked_add(1) != Some(number) {
        return Err("it is missing");
    }
    let entry = entry.map_err(|_| "it cannot be read")?;
    if hash(&found.hash, &entry) != entry.hash {
        return Err("it is not as it was written, or the one before it is not");
    }
    found.number = number;
    found.entries += 1;
    if number == asked {
        found.asked = Some(entry.hash.clone());
    }
    found.hash = entry.hash;
    Ok(())
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

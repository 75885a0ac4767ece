//! Heartbeats in the rows of gateways and relays.

use std::time::SystemTime;

use rusqlite::Transaction;

use super::millis;
use crate::store::Error;

/// The table of those who send heartbeats.
#[derive(Debug, Clone, Copy)]
pub(super) enum Table {
    Gateway,
    Relay,
}

/// Notes in a row of `table` that a heartbeat succeeded, or failed.
pub(super) fn note(
    tx: &Transaction<'_>,
    table: Table,
    id: &str,
    succeeded: bool,
    program_version: Option<&str>,
    now: SystemTime,
) -> Result<(), Error> {
    let table = match table {
        Table::Gateway => "gateway",
        Table::Relay => "relay",
    };
    let change = match succeeded {
        true => "heartbeat_at = ?2, heartbeat_failed_at = NULL",
        false => "heartbeat_failed_at = coalesce(heartbeat_failed_at, ?2)",
    };
    tx.execute(
        &format!("UPDATE {table} SET {change}, program_version = ?3 WHERE id = ?1"),
        (id, millis(now), program_version),
    )?;
    Ok(())
}

//! The tables, and how the connection is set up.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::migrations;
use crate::store::Error;

/// Version of the tables below, with those of the last migration, in SQLite's `user_version`.
pub(super) const VERSION: i64 = 9;

// Times are milliseconds since 1970; `…_hash` and `hash` are SHA-256 of something never written
// down.
const TABLES: &str = "
CREATE TABLE organization (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    key_algorithm TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE TABLE ca (
    name TEXT PRIMARY KEY,
    private_key TEXT NOT NULL,
    certificate TEXT NOT NULL
) STRICT;
CREATE TABLE identity (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    client_id TEXT UNIQUE,
    client_secret_hash BLOB,
    created_at INTEGER NOT NULL
) STRICT;
CREATE TABLE identity_role (
    identity_id TEXT NOT NULL REFERENCES identity ON DELETE CASCADE,
    role TEXT NOT NULL CHECK (role IN ('admin', 'operator', 'gateway', 'relay', 'client')),
    PRIMARY KEY (identity_id, role)
) STRICT, WITHOUT ROWID;
CREATE TABLE relay (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('org', 'instance')),
    name TEXT NOT NULL UNIQUE,
    host TEXT NOT NULL,
    identity_id TEXT REFERENCES identity ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    heartbeat_at INTEGER,
    heartbeat_failed_at INTEGER,
    program_version TEXT
) STRICT;
CREATE TABLE gateway (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    identity_id TEXT UNIQUE REFERENCES identity ON DELETE CASCADE,
    relay_id TEXT REFERENCES relay ON DELETE SET NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    heartbeat_at INTEGER,
    heartbeat_ttl_seconds INTEGER,
    heartbeat_failed_at INTEGER,
    program_version TEXT
) STRICT;
CREATE TABLE access_token (
    hash BLOB PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('identity', 'gateway', 'relay')),
    subject TEXT NOT NULL,
    expires_at INTEGER,
    last_expiry INTEGER
) STRICT;
CREATE INDEX access_token_subject ON access_token (kind, subject);
CREATE TABLE enrollment_token (
    hash BLOB PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('gateway', 'relay')),
    name TEXT NOT NULL,
    host TEXT,
    expires_at INTEGER NOT NULL
) STRICT;
";

/// Sets the connection up, and the tables of a new file.
pub(super) fn prepare(connection: &mut Connection, path: &Path) -> Result<(), Error> {
    let in_use = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::InUse(path.to_owned()),
        Some(_) | None => error.into(),
    };
    // Held for good, the lock keeps a second platform out.
    connection.pragma_update(None, "locking_mode", "exclusive")?;
    connection
        .pragma_update(None, "journal_mode", "wal")
        .map_err(in_use)?;
    // A used enrollment token must stay used after a power failure.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(in_use)?;
    let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > VERSION {
        return Err(Error::Newer {
            path: path.to_owned(),
            found,
            known: VERSION,
        });
    }
    if found == 0 {
        transaction.execute_batch(TABLES)?;
    }
    if found == 1 {
        // In this order: the second step reads relays with today's columns.
        migrations::to_version_3(&transaction)?;
        migrations::to_version_2(&transaction)?;
    }
    if found == 2 {
        migrations::to_version_3(&transaction)?;
    }
    if found < 4 {
        migrations::to_version_4(&transaction)?;
    }
    if found < 5 {
        migrations::to_version_5(&transaction)?;
    }
    if found < 6 {
        migrations::to_version_6(&transaction)?;
    }
    if found < 7 {
        migrations::to_version_7(&transaction)?;
    }
    if found < 8 {
        migrations::to_version_8(&transaction)?;
    }
    if found < 9 {
        migrations::to_version_9(&transaction)?;
    }
    if found != VERSION {
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()?;
    Ok(())
}

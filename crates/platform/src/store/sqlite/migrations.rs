//! Steps from the tables of earlier programs to today's, each in the transaction of the start: a
//! database is of the old version or of the new one, never between.

use std::collections::HashSet;
use std::time::SystemTime;

use rusqlite::Transaction;

use super::{access, audit, relays};
use crate::authority::SERVER_LIFETIME;
use crate::store::relays::canonical;
use crate::store::{Error, millis};

/// Version 2 gives identities the five roles of today and each host to one relay.
///
/// In version 1 every `member` might register gateways and relays. It keeps the kinds that it has
/// registered; one that has registered nothing yet keeps both, since nothing tells which it is for.
/// `no-access` becomes an identity without roles. None becomes administrator, operator or client.
const ROLES: &str = "
CREATE TABLE identity_role (
    identity_id TEXT NOT NULL REFERENCES identity ON DELETE CASCADE,
    role TEXT NOT NULL CHECK (role IN ('admin', 'operator', 'gateway', 'relay', 'client')),
    PRIMARY KEY (identity_id, role)
) STRICT, WITHOUT ROWID;
INSERT INTO identity_role
    SELECT id, 'gateway' FROM identity WHERE role = 'member' AND (
        id IN (SELECT identity_id FROM gateway)
        OR id NOT IN (SELECT identity_id FROM relay WHERE identity_id IS NOT NULL));
INSERT INTO identity_role
    SELECT id, 'relay' FROM identity WHERE role = 'member' AND (
        id IN (SELECT identity_id FROM relay)
        OR id NOT IN (SELECT identity_id FROM gateway WHERE identity_id IS NOT NULL));
ALTER TABLE identity DROP COLUMN role;
";

/// See [`ROLES`]. Of several relays at one host the first keeps it; the others are no longer live,
/// so that they can neither keep the first one out nor get certificates for its host.
pub(super) fn to_version_2(tx: &Transaction<'_>) -> Result<(), Error> {
    tx.execute_batch(ROLES)?;
    let mut relays = relays::all(tx)?;
    relays.sort_by_key(|relay| relay.created_at);
    let mut hosts = HashSet::new();
    for relay in relays {
        if !hosts.insert(canonical(&relay.host)) {
            tracing::warn!(
                relay.name = %relay.name, relay.host = %relay.host,
                "another relay was registered at this host first; this one cannot use it"
            );
            tx.execute(
                "UPDATE relay SET updated_at = 0, heartbeat_at = NULL WHERE id = ?1",
                [&relay.id],
            )?;
        }
    }
    Ok(())
}

/// Version 3 notes when a heartbeat first failed, and which version of the program sent it.
const REACHABILITY: &str = "
ALTER TABLE gateway ADD COLUMN heartbeat_failed_at INTEGER;
ALTER TABLE gateway ADD COLUMN program_version TEXT;
ALTER TABLE relay ADD COLUMN heartbeat_failed_at INTEGER;
ALTER TABLE relay ADD COLUMN program_version TEXT;
";

/// See [`REACHABILITY`].
pub(super) fn to_version_3(tx: &Transaction<'_>) -> Result<(), Error> {
    Ok(tx.execute_batch(REACHABILITY)?)
}

/// Version 4 records grants. `number` never comes again, so that a gap tells of entries that are
/// gone; a refusal without a class is none.
const AUDIT: &str = "
CREATE TABLE audit (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    actor_kind TEXT NOT NULL,
    actor_id TEXT,
    actor_name TEXT,
    gateway_id TEXT,
    gateway_name TEXT NOT NULL,
    target TEXT NOT NULL,
    refusal_class TEXT,
    refusal_reason TEXT,
    left_out INTEGER NOT NULL
) STRICT;
";

/// See [`AUDIT`].
pub(super) fn to_version_4(tx: &Transaction<'_>) -> Result<(), Error> {
    Ok(tx.execute_batch(AUDIT)?)
}

/// Version 5 lets clients reach what a rule allows, and nothing else. Clients of earlier programs
/// could reach everything: each gets a rule that says so, which an administrator sees and can remove.
const ACCESS: &str = "
CREATE TABLE identity_group (
    identity_id TEXT NOT NULL REFERENCES identity ON DELETE CASCADE,
    name TEXT NOT NULL,
    PRIMARY KEY (identity_id, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE access_rule (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    identity_id TEXT REFERENCES identity ON DELETE CASCADE,
    group_name TEXT,
    gateway TEXT NOT NULL,
    target TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    CHECK ((identity_id IS NULL) <> (group_name IS NULL))
) STRICT;
CREATE INDEX access_rule_identity ON access_rule (identity_id);
CREATE INDEX access_rule_group ON access_rule (group_name);
ALTER TABLE gateway ADD COLUMN judges_addresses INTEGER NOT NULL DEFAULT 0;
";

/// See [`ACCESS`].
pub(super) fn to_version_5(tx: &Transaction<'_>) -> Result<(), Error> {
    tx.execute_batch(ACCESS)?;
    access::keep_access_of_clients(tx, SystemTime::now())
}

/// Version 6 records logins, enrollments and administration beside sessions, and chains the entries:
/// `audit_chain` has one row, with the last entry that was removed and the newest one.
const CHAIN: &str = "
ALTER TABLE audit RENAME TO audit_5;
CREATE TABLE audit (
    number INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    action TEXT NOT NULL,
    actor_kind TEXT NOT NULL,
    actor_id TEXT,
    actor_name TEXT,
    source TEXT,
    subject_kind TEXT,
    subject_id TEXT,
    subject_name TEXT,
    details TEXT,
    refusal_class TEXT,
    refusal_reason TEXT,
    left_out INTEGER NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE TABLE audit_chain (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    removed_number INTEGER NOT NULL,
    removed_hash BLOB NOT NULL,
    newest_number INTEGER NOT NULL,
    newest_hash BLOB NOT NULL
) STRICT;
";

/// See [`CHAIN`].
pub(super) fn to_version_6(tx: &Transaction<'_>) -> Result<(), Error> {
    tx.execute_batch(CHAIN)?;
    audit::chain_entries(tx)?;
    Ok(tx.execute_batch("DROP TABLE audit_5")?)
}

/// Version 7 has named services.
const SERVICES: &str = "
CREATE TABLE service (
    gateway TEXT NOT NULL,
    name TEXT NOT NULL,
    target_host TEXT NOT NULL,
    target_port INTEGER NOT NULL,
    local_port INTEGER,
    description TEXT,
    PRIMARY KEY (gateway, name)
) STRICT, WITHOUT ROWID;
";

/// See [`SERVICES`].
pub(super) fn to_version_7(tx: &Transaction<'_>) -> Result<(), Error> {
    Ok(tx.execute_batch(SERVICES)?)
}

/// Version 8 has people: whom an identity is waiting for (an address), or who it is (issuer and
/// subject).
const PEOPLE: &str = "
CREATE TABLE identity_person (
    identity_id TEXT PRIMARY KEY REFERENCES identity ON DELETE CASCADE,
    email TEXT,
    issuer TEXT,
    subject TEXT,
    UNIQUE (issuer, subject),
    CHECK ((issuer IS NULL) = (subject IS NULL)),
    CHECK (email IS NOT NULL OR subject IS NOT NULL)
) STRICT, WITHOUT ROWID;
CREATE INDEX identity_person_email ON identity_person (email);
";

/// See [`PEOPLE`].
pub(super) fn to_version_8(tx: &Transaction<'_>) -> Result<(), Error> {
    Ok(tx.execute_batch(PEOPLE)?)
}

/// Version 9 keeps generations of CAs, and which of them the credentials of gateways and relays have.
const GENERATIONS: &str = "
CREATE TABLE ca_generation (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at INTEGER NOT NULL,
    signs_since INTEGER
) STRICT;
INSERT INTO ca_generation SELECT 1, created_at, created_at FROM organization;
ALTER TABLE ca RENAME TO ca_8;
CREATE TABLE ca (
    generation INTEGER NOT NULL REFERENCES ca_generation ON DELETE CASCADE,
    name TEXT NOT NULL,
    private_key TEXT NOT NULL,
    certificate TEXT NOT NULL,
    PRIMARY KEY (generation, name)
) STRICT;
INSERT INTO ca SELECT 1, name, private_key, certificate FROM ca_8;
DROP TABLE ca_8;
CREATE TABLE credentials_holder (
    kind TEXT NOT NULL CHECK (kind IN ('gateway', 'relay')),
    id TEXT NOT NULL,
    anchors INTEGER NOT NULL,
    signed_by INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT;
";

/// See [`GENERATIONS`]. Every gateway and relay may have got credentials just before.
pub(super) fn to_version_9(tx: &Transaction<'_>) -> Result<(), Error> {
    tx.execute_batch(GENERATIONS)?;
    let expires_at = millis(SystemTime::now() + SERVER_LIFETIME);
    for kind in ["gateway", "relay"] {
        tx.execute(
            &format!("INSERT INTO credentials_holder SELECT '{kind}', id, 1, 1, ?1 FROM {kind}"),
            [expires_at],
        )?;
    }
    Ok(())
}

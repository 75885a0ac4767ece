//! What the platform remembers, behind one trait: [`Storage`].
//!
//! Invariants of every implementation: of tokens and client secrets only hashes are written; a
//! change is one transaction, with the audit entries about it, that is durable before its caller
//! hears of it; one platform at a time uses it. It decides what is consistent (a name has one owner,
//! an enrollment token is exchanged once), never who may ask; the routes do.
//!
//! Here is what is kept, and the rules that hold whatever keeps it; [`sqlite`] alone knows a
//! database.

mod access;
mod audit;
mod backup;
mod cas;
mod enrollments;
mod error;
mod foundation;
mod gateways;
mod identities;
mod people;
mod reachability;
mod relays;
mod roles;
mod services;
mod sqlite;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(super) use access::{AccessRights, AccessRule, NewWho, Who};
pub(super) use audit::{Action, AuditEntry, AuditKind, NewAuditEntry, Requester, Subject, hex};
pub(super) use cas::{Generation, Holder, IssuedCredentials};
pub(super) use enrollments::{Enrollment, EnrollmentKind};
pub use error::Error;
pub(super) use foundation::{Foundation, foundation};
pub(super) use gateways::Gateway;
pub(super) use identities::{Credential, IdentitySummary, Principal, Renewed};
pub(super) use people::{NewPerson, NewSession, SessionOwner};
pub(super) use reachability::{Heartbeats, Reachability};
pub(super) use relays::{Owner, Relay};
pub(super) use roles::Role;
pub(super) use sqlite::{Lock, describe, lock, snapshot_of_stopped};

/// The open store. Cheap to clone.
pub(super) type Store = Arc<dyn Storage>;

/// All that is kept. Methods that take a [`Requester`] write who made the change into the record.
pub(super) trait Storage:
    access::AccessStore
    + audit::AuditStore
    + backup::BackupStore
    + cas::CaStore
    + enrollments::EnrollmentStore
    + foundation::FoundationStore
    + gateways::GatewayStore
    + identities::IdentityStore
    + people::PersonStore
    + relays::RelayStore
    + services::ServiceStore
    + Debug
    + Send
    + Sync
{
}

/// Opens the store in `directory`, which is created as needed. Entries of the record are kept for
/// `audit_retention`. Blocks.
pub(super) fn open(directory: &Path, audit_retention: Duration) -> Result<Store, Error> {
    Ok(Arc::new(sqlite::Sqlite::open(directory, audit_retention)?))
}

/// A time as it is kept: milliseconds since 1970.
fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

//! What the platform remembers: one SQLite file.
//!
//! Invariants: the file is readable by its owner only, from its first byte on; of tokens and client
//! secrets only hashes are written; every change is one transaction on the disk before its caller
//! hears of it; one process at a time. Calls block, so they run on the blocking threads, one after
//! another.
//!
//! It decides what is consistent (a name has one owner, an enrollment token is exchanged once),
//! never who may ask; the routes do.

mod access;
mod audit;
mod enrollments;
mod error;
mod gateways;
mod identities;
mod migrations;
mod reachability;
mod relays;
mod roles;
mod schema;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(super) use access::{AccessRights, AccessRule, NewWho, Who};
pub(super) use audit::{Action, AuditEntry, NewAuditEntry, Requester, Subject, hex};
pub(super) use enrollments::{Enrollment, EnrollmentKind};
pub use error::Error;
pub(super) use gateways::Gateway;
pub(super) use identities::{Credential, IdentitySummary, Principal, Renewed};
pub(super) use reachability::{Heartbeats, Reachability};
pub(super) use relays::{Owner, Relay};
pub(super) use roles::Role;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};

use super::authority::{self, CaRecord, KeyAlgorithm, Organization};
use super::files;
use crate::secret::Secret;

/// Name of the file in the state directory.
const FILE: &str = "platform.db";
/// How long a start waits for a predecessor that is still stopping.
const BUSY: Duration = Duration::from_secs(5);
/// Name of an organization that no one named.
const UNNAMED: &str = "default";

/// The open store. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Store {
    connection: Arc<Mutex<Connection>>,
    /// How long an entry of the record is kept.
    audit_retention: Duration,
}

/// What a platform is made of, besides what it learns later.
#[derive(Debug)]
pub(super) struct Foundation {
    pub(super) organization: Organization,
    pub(super) algorithm: KeyAlgorithm,
    pub(super) cas: Vec<CaRecord>,
}

impl Store {
    /// Opens the file in `directory`, creating both as needed. Blocks.
    pub(super) fn open(directory: &Path) -> Result<Self, Error> {
        files::private_directory(directory)?;
        let path = directory.join(FILE);
        files::private_file(&path)?;
        let mut connection = Connection::open(&path)?;
        connection.busy_timeout(BUSY)?;
        schema::prepare(&mut connection, &path)?;
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
            audit_retention: super::days(super::DEFAULT_AUDIT_RETENTION),
        })
    }

    /// The organization and its CAs; made by `create` when this platform is new. A given
    /// `algorithm` must be the one it was created with; a given `name` replaces the organization's.
    /// Blocks.
    pub(super) fn foundation(
        &self,
        algorithm: Option<KeyAlgorithm>,
        name: Option<&str>,
        create: impl FnOnce(KeyAlgorithm, &Organization) -> Result<Vec<CaRecord>, authority::Error>,
        now: SystemTime,
    ) -> Result<Foundation, Error> {
        self.transaction(|tx| {
            let Some(kept) = load_foundation(tx)? else {
                let made = Foundation {
                    algorithm: algorithm.unwrap_or_default(),
                    organization: Organization {
                        id: uuid::Uuid::new_v4().to_string(),
                        name: name.unwrap_or(UNNAMED).to_owned(),
                    },
                    cas: Vec::new(),
                };
                let cas = create(made.algorithm, &made.organization).map_err(Error::Authority)?;
                let made = Foundation { cas, ..made };
                save_foundation(tx, &made, now)?;
                return Ok(made);
            };
            if let Some(asked) = algorithm.filter(|asked| *asked != kept.algorithm) {
                return Err(Error::OtherAlgorithm {
                    kept: kept.algorithm,
                    asked,
                });
            }
            let Some(name) = name else {
                return Ok(kept);
            };
            tx.execute("UPDATE organization SET name = ?1", [name])?;
            let organization = Organization {
                name: name.to_owned(),
                ..kept.organization
            };
            Ok(Foundation {
                organization,
                ..kept
            })
        })
    }

    /// Runs `work` in a transaction on the blocking threads. It ends even if the caller goes away.
    async fn call<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, Error> + Send + 'static,
    {
        self.call_then(work, |_| ()).await
    }

    /// The same; `then` follows the commit, even if the caller goes away.
    async fn call_then<T, F>(&self, work: F, then: fn(&T)) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, Error> + Send + 'static,
    {
        let store = self.clone();
        let call = move || {
            let done = store.transaction(work)?;
            then(&done);
            Ok(done)
        };
        tokio::task::spawn_blocking(call)
            .await
            .map_err(|_| Error::Interrupted)?
    }

    fn transaction<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        // A panic elsewhere rolled its transaction back, so the connection is as good as before.
        let mut connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let result = work(&transaction)?;
        transaction.commit()?;
        Ok(result)
    }
}

fn load_foundation(tx: &Transaction<'_>) -> Result<Option<Foundation>, Error> {
    let found: Option<(String, String, String)> = tx
        .query_row(
            "SELECT id, name, key_algorithm FROM organization",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .optional()?;
    let Some((id, name, algorithm)) = found else {
        return Ok(None);
    };
    let mut rows = tx.prepare("SELECT name, private_key, certificate FROM ca")?;
    let cas = rows
        .query_map([], |row| {
            Ok(CaRecord {
                name: row.get(0)?,
                private_key: Secret::new(row.get::<_, String>(1)?),
                certificate: row.get(2)?,
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(Some(Foundation {
        organization: Organization { id, name },
        algorithm: text(2, &algorithm)?,
        cas,
    }))
}

fn save_foundation(tx: &Transaction<'_>, made: &Foundation, now: SystemTime) -> Result<(), Error> {
    let Organization { id, name } = &made.organization;
    tx.execute(
        "INSERT INTO organization VALUES (?1, ?2, ?3, ?4)",
        (id, name, made.algorithm.as_str(), millis(now)),
    )?;
    for ca in &made.cas {
        tx.execute(
            "INSERT INTO ca VALUES (?1, ?2, ?3)",
            (&ca.name, ca.private_key.expose(), &ca.certificate),
        )?;
    }
    Ok(())
}

/// A time as the tables hold it: milliseconds since 1970.
fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The reverse of [`millis`].
fn time(millis: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// Parses a text that was valid when it was written.
fn text<T>(column: usize, text: &str) -> rusqlite::Result<T>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(
            column,
            rusqlite::types::Type::Text,
            Box::new(error),
        )
    })
}

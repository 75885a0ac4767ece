//! The store in one SQLite file.
//!
//! Invariants: the file is readable by its owner only, from its first byte on; every change is one
//! transaction on the disk before its caller hears of it; one process at a time. Calls block, so
//! they run on the blocking threads, one after another.
//!
//! No other module of the platform knows SQLite, nor any SQL.

mod access;
mod audit;
mod backup;
mod cas;
mod enrollments;
mod foundation;
mod gateways;
mod identities;
mod migrations;
mod people;
mod reachability;
mod relays;
mod roles;
mod schema;
mod services;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, Transaction, TransactionBehavior};

pub(crate) use backup::{Lock, describe, lock, snapshot_of_stopped};

use super::audit::LoginRates;
use super::{Error, Storage, millis};
use crate::files;

/// Name of the file in the state directory.
const FILE: &str = "platform.db";
/// How long a start waits for a predecessor that is still stopping.
const BUSY: Duration = Duration::from_secs(5);

/// The open file. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Sqlite {
    connection: Arc<Mutex<Connection>>,
    /// How long an entry of the record is kept.
    audit_retention: Duration,
    /// Which logins have an entry.
    login_rates: Arc<LoginRates>,
}

impl Storage for Sqlite {}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(Box::new(error))
    }
}

impl Sqlite {
    /// Opens the file in `directory`, creating both as needed. Blocks.
    pub(super) fn open(directory: &Path, audit_retention: Duration) -> Result<Self, Error> {
        files::private_directory(directory)?;
        let path = directory.join(FILE);
        files::private_file(&path)?;
        let mut connection = Connection::open(&path)?;
        connection.busy_timeout(BUSY)?;
        schema::prepare(&mut connection, &path)?;
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
            audit_retention,
            login_rates: Arc::new(LoginRates::new()),
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

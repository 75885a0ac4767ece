//! Copies of the database for backups, and looks into such copies.

use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{FILE, Sqlite, schema};
use crate::backup::{self, Description};
use crate::files;
use crate::store::Error;
use crate::store::backup::BackupStore;

/// Keeps platforms away from a database.
#[derive(Debug)]
pub(crate) struct Lock(Connection);

#[async_trait]
impl BackupStore for Sqlite {
    async fn snapshot(&self) -> Result<String, Error> {
        let store = self.clone();
        let make = move || {
            let connection = store.connection.lock();
            let connection = connection.unwrap_or_else(PoisonError::into_inner);
            let directory = connection.path().and_then(|path| Path::new(path).parent());
            let directory = directory.map_or_else(PathBuf::new, Path::to_owned);
            // One at a time, so that they cannot fill the disk.
            backup::remove_all(&directory);
            let name = backup::new_name();
            let copied = copy(&connection, &directory.join(&name));
            if copied.is_err() {
                backup::remove_all(&directory);
            }
            copied.map(|()| name)
        };
        tokio::task::spawn_blocking(make)
            .await
            .map_err(|_| Error::Interrupted)?
    }
}

/// The same for a platform that does not run.
pub(crate) fn snapshot_of_stopped(directory: &Path, file: &Path) -> Result<(), Error> {
    copy(&lock(directory)?.0, file)
}

/// Keeps platforms away from the database in `directory`, without links, until this is dropped.
///
/// # Errors
/// [`Error::InUse`] if a platform uses it.
pub(crate) fn lock(directory: &Path) -> Result<Lock, Error> {
    let path = directory.join(FILE);
    let in_use = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::InUse(path.clone()),
        Some(_) | None => error.into(),
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(&path, flags)?;
    // A platform that runs does not give way, so there is nothing to wait for.
    connection.busy_timeout(Duration::ZERO)?;
    connection
        .pragma_update(None, "locking_mode", "exclusive")
        .map_err(in_use)?;
    // The lock is kept after it.
    let locked = connection.execute_batch("BEGIN IMMEDIATE; COMMIT");
    locked.map_err(in_use)?;
    Ok(Lock(connection))
}

fn copy(connection: &Connection, file: &Path) -> Result<(), Error> {
    // An empty file is filled, and keeps its mode.
    files::private_file(file)?;
    connection.execute("VACUUM INTO ?1", [file.to_string_lossy()])?;
    Ok(())
}

/// What the database in `file`, which no one uses, says of itself.
pub(crate) fn describe(file: &Path) -> Result<Description, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(file, flags)?;
    let verdict: String = connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
    let schema_version: i64 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let select = "SELECT id, name FROM organization";
    let (organization_id, organization_name) =
        connection.query_row(select, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(Description {
        organization_id,
        organization_name,
        schema_version,
        is_newer: schema_version > schema::VERSION,
        is_whole: verdict == "ok",
    })
}

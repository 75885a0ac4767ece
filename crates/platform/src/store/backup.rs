//! Copies of the database for backups.

use async_trait::async_trait;

use super::Error;

/// See the module.
#[async_trait]
pub(crate) trait BackupStore {
    /// Writes a copy of the database into the state directory, as it is between two changes, in place
    /// of one that is there already; its name.
    async fn snapshot(&self) -> Result<String, Error>;
}

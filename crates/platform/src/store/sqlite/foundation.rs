//! The organization and its CAs.

use std::time::SystemTime;

use async_trait::async_trait;
use rusqlite::{OptionalExtension as _, Transaction};

use super::{Sqlite, cas, text};
use crate::authority::Organization;
use crate::store::foundation::FoundationStore;
use crate::store::{Error, Foundation, millis};

#[async_trait]
impl FoundationStore for Sqlite {
    async fn kept_foundation(&self) -> Result<Option<Foundation>, Error> {
        self.call(load).await
    }

    async fn keep_foundation(&self, made: Foundation, now: SystemTime) -> Result<(), Error> {
        self.call(move |tx| save(tx, &made, now)).await
    }

    async fn name_organization(&self, name: String) -> Result<(), Error> {
        self.call(move |tx| {
            tx.execute("UPDATE organization SET name = ?1", [name])?;
            Ok(())
        })
        .await
    }
}

fn load(tx: &Transaction<'_>) -> Result<Option<Foundation>, Error> {
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
    let signing = "SELECT number FROM ca_generation WHERE signs_since IS NOT NULL
         ORDER BY number DESC LIMIT 1";
    let signing = tx.query_row(signing, [], |row| row.get(0))?;
    let cas = cas::cas_of(tx, signing)?;
    Ok(Some(Foundation {
        organization: Organization { id, name },
        algorithm: text(2, &algorithm)?,
        cas,
    }))
}

fn save(tx: &Transaction<'_>, made: &Foundation, now: SystemTime) -> Result<(), Error> {
    let Organization { id, name } = &made.organization;
    tx.execute(
        "INSERT INTO organization VALUES (?1, ?2, ?3, ?4)",
        (id, name, made.algorithm.as_str(), millis(now)),
    )?;
    cas::insert(tx, &made.cas, Some(now), now)?;
    Ok(())
}

//! Generations of the CAs, and who holds which.

use std::time::SystemTime;

use async_trait::async_trait;
use rusqlite::{OptionalExtension as _, Row, Transaction};

use super::{Sqlite, time};
use crate::authority::CaRecord;
use crate::secret::Secret;
use crate::store::cas::{CaStore, Generation, Holder, IssuedCredentials};
use crate::store::{Action, Error, Requester, Subject, millis};

/// What [`from_row`] reads, in its order: holders that are still there, with their names.
const HOLDERS: &str = "SELECT 'gateway', holder.id, gateway.name, holder.anchors, holder.signed_by,
     holder.expires_at FROM credentials_holder AS holder
     JOIN gateway ON holder.kind = 'gateway' AND gateway.id = holder.id
     UNION ALL SELECT 'relay', holder.id, relay.name, holder.anchors, holder.signed_by,
     holder.expires_at FROM credentials_holder AS holder
     JOIN relay ON holder.kind = 'relay' AND relay.id = holder.id ORDER BY 1, 3";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Holder> {
    let kind: String = row.get(0)?;
    Ok(Holder {
        kind: if kind == "gateway" {
            "gateway"
        } else {
            "relay"
        },
        id: row.get(1)?,
        name: row.get(2)?,
        anchors: row.get(3)?,
        signed_by: row.get(4)?,
        expires_at: time(row.get(5)?),
    })
}

/// The CAs of a generation.
pub(super) fn cas_of(tx: &Transaction<'_>, generation: i64) -> Result<Vec<CaRecord>, Error> {
    let select = "SELECT name, private_key, certificate FROM ca WHERE generation = ?1";
    let mut rows = tx.prepare(select)?;
    let cas = rows.query_map([generation], |row| {
        Ok(CaRecord {
            name: row.get(0)?,
            private_key: Secret::new(row.get::<_, String>(1)?),
            certificate: row.get(2)?,
        })
    })?;
    Ok(cas.collect::<Result<_, _>>()?)
}

/// Writes a generation and returns its number.
pub(super) fn insert(
    tx: &Transaction<'_>,
    cas: &[CaRecord],
    signs_since: Option<SystemTime>,
    now: SystemTime,
) -> Result<i64, Error> {
    tx.execute(
        "INSERT INTO ca_generation (created_at, signs_since) VALUES (?1, ?2)",
        (millis(now), signs_since.map(millis)),
    )?;
    let number = tx.last_insert_rowid();
    for ca in cas {
        tx.execute(
            "INSERT INTO ca VALUES (?1, ?2, ?3, ?4)",
            (number, &ca.name, ca.private_key.expose(), &ca.certificate),
        )?;
    }
    Ok(number)
}

fn subject(number: i64) -> Subject {
    Subject::with_id("ca-generation", &number.to_string(), None)
}

#[async_trait]
impl CaStore for Sqlite {
    async fn generations(&self) -> Result<Vec<Generation>, Error> {
        self.call(|tx| {
            let select =
                "SELECT number, created_at, signs_since FROM ca_generation ORDER BY number";
            let mut rows = tx.prepare(select)?;
            let generations = rows.query_map([], |row| {
                Ok(Generation {
                    number: row.get(0)?,
                    created_at: time(row.get(1)?),
                    signs_since: row.get::<_, Option<i64>>(2)?.map(time),
                    cas: Vec::new(),
                })
            })?;
            let mut generations: Vec<Generation> = generations.collect::<Result<_, _>>()?;
            for generation in &mut generations {
                generation.cas = cas_of(tx, generation.number)?;
            }
            Ok(generations)
        })
        .await
    }

    async fn add_generation(
        &self,
        requester: Requester,
        cas: Vec<CaRecord>,
        now: SystemTime,
    ) -> Result<i64, Error> {
        self.change(requester, move |tx, record| {
            let count: i64 =
                tx.query_row("SELECT COUNT(*) FROM ca_generation", [], |row| row.get(0))?;
            if count > 1 {
                return Err(Error::RotationUnderWay);
            }
            let number = insert(tx, &cas, None, now)?;
            record.add(Action::RotateCas, subject(number), None);
            Ok(number)
        })
        .await
    }

    async fn sign_with(
        &self,
        requester: Requester,
        number: i64,
        details: String,
        now: SystemTime,
    ) -> Result<(), Error> {
        self.change(requester, move |tx, record| {
            tx.execute(
                "UPDATE ca_generation SET signs_since = ?2 WHERE number = ?1",
                (number, millis(now)),
            )?;
            record.add(Action::SwitchCas, subject(number), Some(details));
            Ok(())
        })
        .await
    }

    async fn remove_generations_before(
        &self,
        requester: Requester,
        number: i64,
        details: String,
    ) -> Result<(), Error> {
        self.change(requester, move |tx, record| {
            let select = "SELECT number FROM ca_generation WHERE number < ?1";
            let mut rows = tx.prepare(select)?;
            let removed = rows.query_map([number], |row| row.get(0))?;
            let removed: Vec<i64> = removed.collect::<Result<_, _>>()?;
            for removed in removed {
                record.add(Action::RemoveCas, subject(removed), Some(details.clone()));
            }
            tx.execute("DELETE FROM ca_generation WHERE number < ?1", [number])?;
            Ok(())
        })
        .await
    }

    async fn holders(&self) -> Result<Vec<Holder>, Error> {
        self.call(|tx| {
            let mut rows = tx.prepare(HOLDERS)?;
            let holders = rows.query_map([], from_row)?;
            Ok(holders.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn holder(&self, kind: &'static str, id: String) -> Result<Option<Holder>, Error> {
        self.call(move |tx| {
            let select = "SELECT kind, id, '', anchors, signed_by, expires_at
                 FROM credentials_holder WHERE kind = ?1 AND id = ?2";
            Ok(tx.query_row(select, (kind, id), from_row).optional()?)
        })
        .await
    }

    async fn note_credentials(
        &self,
        kind: &'static str,
        id: String,
        issued: IssuedCredentials,
    ) -> Result<(), Error> {
        self.call(move |tx| {
            tx.execute(
                "INSERT OR REPLACE INTO credentials_holder VALUES (?1, ?2, ?3, ?4, ?5)",
                (
                    kind,
                    id,
                    issued.anchors,
                    issued.signed_by,
                    millis(issued.expires_at),
                ),
            )?;
            Ok(())
        })
        .await
    }
}

//! Relays and their hosts.

use std::time::SystemTime;

use async_trait::async_trait;
use rusqlite::{OptionalExtension as _, Row, Transaction};

use super::reachability::{self, Table};
use super::{Sqlite, enrollments, text, time};
use crate::config::settings::RelayKind;
use crate::names::{RelayHost, RelayName};
use crate::store::relays::{RelayStore, canonical, check_form};
use crate::store::{Action, Error, Heartbeats, Owner, Relay, Requester, Subject, millis};

/// Columns of [`from_row`].
pub(super) const COLUMNS: &str = "relay.id, relay.kind, relay.name, relay.host, relay.identity_id, \
     relay.created_at, relay.updated_at, relay.heartbeat_at, relay.heartbeat_failed_at, \
     relay.program_version";

/// Reads a relay whose first column is at `at`.
pub(super) fn from_row(row: &Row<'_>, at: usize) -> rusqlite::Result<Relay> {
    let kind: String = row.get(at + 1)?;
    Ok(Relay {
        id: row.get(at)?,
        kind: if kind == "org" {
            RelayKind::Org
        } else {
            RelayKind::Instance
        },
        name: text(at + 2, &row.get::<_, String>(at + 2)?)?,
        host: text(at + 3, &row.get::<_, String>(at + 3)?)?,
        identity_id: row.get(at + 4)?,
        created_at: time(row.get(at + 5)?),
        updated_at: time(row.get(at + 6)?),
        heartbeats: Heartbeats {
            succeeded_at: row.get::<_, Option<i64>>(at + 7)?.map(time),
            failed_at: row.get::<_, Option<i64>>(at + 8)?.map(time),
            program_version: row.get(at + 9)?,
        },
    })
}

fn find(tx: &Transaction<'_>, column: &str, value: &str) -> Result<Option<Relay>, Error> {
    let query = format!("SELECT {COLUMNS} FROM relay WHERE {column} = ?1");
    Ok(tx
        .query_row(&query, [value], |row| from_row(row, 0))
        .optional()?)
}

pub(super) fn by_name(tx: &Transaction<'_>, name: &RelayName) -> Result<Relay, Error> {
    find(tx, "name", name.as_str())?.ok_or_else(|| Error::UnknownRelay(name.to_string()))
}

pub(super) fn all(tx: &Transaction<'_>) -> Result<Vec<Relay>, Error> {
    let mut rows = tx.prepare(&format!("SELECT {COLUMNS} FROM relay ORDER BY name"))?;
    let relays = rows.query_map([], |row| from_row(row, 0))?;
    Ok(relays.collect::<Result<_, _>>()?)
}

/// Refuses a host that another relay than `name` has: its certificates would serve for both.
///
/// An enrolled relay keeps the host that an administrator gave it whether it runs or not, and
/// before it has enrolled; any other one keeps it while it is live.
fn check_host(
    tx: &Transaction<'_>,
    owner: &Owner,
    name: &RelayName,
    host: &RelayHost,
    now: SystemTime,
) -> Result<(), Error> {
    let enrolled = *owner == Owner::Enrolled;
    let taken = |relay: RelayName| Error::HostTaken {
        host: host.clone(),
        relay,
    };
    let wanted = canonical(host);
    let relays = all(tx)?;
    let created_at = relays.iter().find(|relay| relay.name == *name);
    let created_at = created_at.map(|relay| relay.created_at);
    // Databases of version 1 may hold two that enrolled at one host: the first has it.
    let keeps = |relay: &Relay| {
        let came_first = created_at.is_none_or(|at| relay.created_at < at);
        relay.rank(now).is_some() || (Owner::Enrolled.owns(relay) && (!enrolled || came_first))
    };
    let mut others = relays.into_iter().filter(|relay| relay.name != *name);
    if let Some(relay) = others.find(|relay| canonical(&relay.host) == wanted && keeps(relay)) {
        return Err(taken(relay.name));
    }
    if !enrolled {
        let promised = enrollments::promised_hosts(tx, now)?;
        let mut promised = promised.into_iter();
        if let Some((relay, _)) = promised.find(|(_, host)| canonical(host) == wanted) {
            return Err(taken(relay));
        }
    }
    Ok(())
}

/// Refuses what [`register`] would refuse if a relay enrolled now.
pub(super) fn check_enrollment(
    tx: &Transaction<'_>,
    name: &RelayName,
    host: &RelayHost,
    now: SystemTime,
) -> Result<(), Error> {
    let found = find(tx, "name", name.as_str())?;
    if found
        .as_ref()
        .is_some_and(|relay| !Owner::Enrolled.owns(relay))
    {
        return Err(Error::NameTaken(name.to_string()));
    }
    check_form(found.as_ref(), name, host)?;
    check_host(tx, &Owner::Enrolled, name, host, now)
}

/// Creates the relay, or moves it to `host` when `owner` has it already.
pub(super) fn register(
    tx: &Transaction<'_>,
    owner: &Owner,
    name: &RelayName,
    host: &RelayHost,
    now: SystemTime,
) -> Result<Relay, Error> {
    let found = find(tx, "name", name.as_str())?;
    if found.as_ref().is_some_and(|relay| !owner.owns(relay)) {
        return Err(Error::NameTaken(name.to_string()));
    }
    check_form(found.as_ref(), name, host)?;
    check_host(tx, owner, name, host, now)?;
    match found {
        Some(relay) => {
            tx.execute(
                "UPDATE relay SET host = ?2, updated_at = ?3 WHERE id = ?1",
                (&relay.id, host.as_str(), millis(now)),
            )?;
        }
        None => {
            let id = uuid::Uuid::new_v4().to_string();
            let kind = match owner.kind() {
                RelayKind::Org => "org",
                RelayKind::Instance => "instance",
            };
            tx.execute(
                "INSERT INTO relay VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, NULL, NULL, NULL)",
                (
                    id,
                    kind,
                    name.as_str(),
                    host.as_str(),
                    owner.identity(),
                    millis(now),
                ),
            )?;
        }
    }
    by_name(tx, name)
}

#[async_trait]
impl RelayStore for Sqlite {
    async fn register_relay(
        &self,
        owner: Owner,
        name: RelayName,
        host: RelayHost,
        now: SystemTime,
    ) -> Result<Relay, Error> {
        self.call(move |tx| register(tx, &owner, &name, &host, now))
            .await
    }

    async fn relay_of(
        &self,
        owner: Owner,
        name: RelayName,
        now: SystemTime,
    ) -> Result<Relay, Error> {
        self.call(move |tx| {
            let relay = by_name(tx, &name)?;
            if !owner.owns(&relay) {
                return Err(Error::NotOwner(name.to_string()));
            }
            check_host(tx, &owner, &relay.name, &relay.host, now)?;
            Ok(relay)
        })
        .await
    }

    async fn enrolled_relay(&self, id: String, now: SystemTime) -> Result<Relay, Error> {
        self.call(move |tx| {
            let relay = find(tx, "id", &id)?.ok_or(Error::RelayDeleted)?;
            check_host(tx, &Owner::Enrolled, &relay.name, &relay.host, now)?;
            Ok(relay)
        })
        .await
    }

    async fn relays(&self) -> Result<Vec<Relay>, Error> {
        self.call(all).await
    }

    async fn relay_probed(
        &self,
        id: String,
        reached: bool,
        program_version: Option<String>,
        now: SystemTime,
    ) -> Result<(), Error> {
        self.call(move |tx| {
            let version = program_version.as_deref();
            reachability::note(tx, Table::Relay, &id, reached, version, now)
        })
        .await
    }

    async fn delete_relay(&self, requester: Requester, name: RelayName) -> Result<(), Error> {
        self.change(requester, move |tx, record| {
            let relay = by_name(tx, &name)?;
            tx.execute("DELETE FROM relay WHERE id = ?1", [&relay.id])?;
            let subject = Subject::with_id("relay", &relay.id, Some(name.as_str()));
            let details = format!("host {}", relay.host);
            record.add(Action::DeleteRelay, subject, Some(details));
            Ok(())
        })
        .await
    }
}

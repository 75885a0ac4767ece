//! Relays: who owns a name, where it is, when it was last reached.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rusqlite::{OptionalExtension as _, Row, Transaction};

use super::audit::{Action, AuditedStore, Subject};
use super::reachability::{self, Heartbeats, Table};
use super::{Error, Reachability, Store, enrollments, millis, text, time};
use crate::authority::RelaySubject;
use crate::config::settings::RelayKind;
use crate::names::{RelayHost, RelayName};

/// A relay is healthy while its last heartbeat is younger than this (protocol.md §1).
const HEALTHY: Duration = Duration::from_secs(3600);

/// A relay as the store knows it.
#[derive(Debug, Clone)]
pub(crate) struct Relay {
    pub(crate) id: String,
    pub(crate) kind: RelayKind,
    pub(crate) name: RelayName,
    pub(crate) host: RelayHost,
    pub(crate) identity_id: Option<String>,
    pub(crate) created_at: SystemTime,
    pub(crate) updated_at: SystemTime,
    pub(crate) heartbeats: Heartbeats,
}

/// Who registers a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A machine identity, by its id.
    Identity(String),
    /// Anyone who holds the relay auth secret.
    Instance,
    /// The relay itself, enrolled.
    Enrolled,
}

impl Owner {
    fn kind(&self) -> RelayKind {
        match self {
            Self::Identity(_) | Self::Enrolled => RelayKind::Org,
            Self::Instance => RelayKind::Instance,
        }
    }

    fn identity(&self) -> Option<&str> {
        match self {
            Self::Identity(id) => Some(id),
            Self::Instance | Self::Enrolled => None,
        }
    }

    fn owns(&self, relay: &Relay) -> bool {
        relay.kind == self.kind() && relay.identity_id.as_deref() == self.identity()
    }
}

impl Relay {
    /// What its certificates say.
    pub(crate) fn subject(&self) -> RelaySubject<'_> {
        RelaySubject {
            kind: self.kind,
            name: &self.name,
            host: &self.host,
        }
    }

    /// Whether it can be reached.
    pub(crate) fn reachability(&self, now: SystemTime) -> Reachability {
        self.heartbeats.reachability(HEALTHY, now)
    }

    /// How much a gateway should want it, greatest first; `None` not at all. A relay that
    /// registered lately may not have had the time for a heartbeat: better than none.
    pub(super) fn rank(&self, now: SystemTime) -> Option<(bool, bool, SystemTime)> {
        let lately = |at: SystemTime| now.duration_since(at).unwrap_or_default() < HEALTHY;
        let own = self.kind == RelayKind::Org;
        match self.heartbeats.succeeded_at {
            Some(at) if lately(at) => Some((true, own, at)),
            Some(_) | None if lately(self.updated_at) => Some((false, own, self.updated_at)),
            Some(_) | None => None,
        }
    }
}

/// The best of `relays` for a gateway that leaves the choice to the platform: healthy ones first,
/// of those the organization's.
pub(super) fn choose(relays: Vec<Relay>, now: SystemTime) -> Option<Relay> {
    relays
        .into_iter()
        .filter_map(|relay| Some((relay.rank(now)?, relay)))
        .max_by_key(|(rank, _)| *rank)
        .map(|(_, relay)| relay)
}

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

/// A host in the one form in which two can be compared: letters in lower case, addresses as such.
pub(super) fn canonical(host: &RelayHost) -> String {
    host.as_str().parse::<IpAddr>().map_or_else(
        |_| host.as_str().to_ascii_lowercase(),
        |address| address.to_canonical().to_string(),
    )
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

/// Refuses a name or host that cannot be right. What a relay has already is not judged, so that it
/// keeps working.
fn check_form(found: Option<&Relay>, name: &RelayName, host: &RelayHost) -> Result<(), Error> {
    if found.is_none() && !name.is_slug() {
        return Err(Error::NotASlug(name.to_string()));
    }
    if found.is_none_or(|relay| relay.host != *host) && host.is_numeric_name() {
        return Err(Error::NumericHost(host.to_string()));
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

impl Store {
    /// See [`register`].
    pub(crate) async fn register_relay(
        &self,
        owner: Owner,
        name: RelayName,
        host: RelayHost,
        now: SystemTime,
    ) -> Result<Relay, Error> {
        self.call(move |tx| register(tx, &owner, &name, &host, now))
            .await
    }

    /// The relay `name`, if `owner` has it and its host is still its own.
    pub(crate) async fn relay_of(
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

    /// The relay with that id in the same way: the one whose access token was presented.
    pub(crate) async fn enrolled_relay(&self, id: String, now: SystemTime) -> Result<Relay, Error> {
        self.call(move |tx| {
            let relay = find(tx, "id", &id)?.ok_or(Error::RelayDeleted)?;
            check_host(tx, &Owner::Enrolled, &relay.name, &relay.host, now)?;
            Ok(relay)
        })
        .await
    }

    /// All relays, by name.
    pub(crate) async fn relays(&self) -> Result<Vec<Relay>, Error> {
        self.call(all).await
    }

    /// Notes whether the relay was reached.
    pub(crate) async fn relay_probed(
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
}

impl AuditedStore {
    /// Deletes a relay; its host is free then.
    pub(crate) async fn delete_relay(self, name: RelayName) -> Result<(), Error> {
        self.change(move |tx, record| {
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

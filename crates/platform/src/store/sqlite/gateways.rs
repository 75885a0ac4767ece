//! Gateways and their relays.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use rusqlite::{OptionalExtension as _, Row, Transaction};

use super::reachability::{self, Table};
use super::{Sqlite, relays, text, time};
use crate::names::{GatewayId, GatewayName, RelayName};
use crate::store::gateways::{GatewayStore, check_name};
use crate::store::relays::choose;
use crate::store::{Action, Error, Gateway, Heartbeats, Relay, Requester, Subject, millis};

const COLUMNS: &str = "gateway.id, gateway.name, gateway.identity_id, gateway.created_at, \
     gateway.updated_at, gateway.heartbeat_at, gateway.heartbeat_ttl_seconds, gateway.relay_id, \
     gateway.heartbeat_failed_at, gateway.program_version, gateway.judges_addresses";

/// How many columns those are: the relay's come behind.
const RELAY_AT: usize = 11;

fn from_row(row: &Row<'_>) -> rusqlite::Result<Gateway> {
    let ttl: Option<i64> = row.get(6)?;
    let relay_id: Option<String> = row.get(7)?;
    Ok(Gateway {
        id: text(0, &row.get::<_, String>(0)?)?,
        name: text(1, &row.get::<_, String>(1)?)?,
        identity_id: row.get(2)?,
        created_at: time(row.get(3)?),
        updated_at: time(row.get(4)?),
        heartbeats: Heartbeats {
            succeeded_at: row.get::<_, Option<i64>>(5)?.map(time),
            failed_at: row.get::<_, Option<i64>>(8)?.map(time),
            program_version: row.get(9)?,
        },
        heartbeat_ttl: ttl
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map(Duration::from_secs),
        judges_addresses: row.get(10)?,
        relay: relay_id
            .map(|_| relays::from_row(row, RELAY_AT))
            .transpose()?,
    })
}

fn select(rest: &str) -> String {
    let relay = relays::COLUMNS;
    format!(
        "SELECT {COLUMNS}, {relay} FROM gateway
         LEFT JOIN relay ON relay.id = gateway.relay_id {rest}"
    )
}

pub(super) fn find(
    tx: &Transaction<'_>,
    column: &str,
    value: &str,
) -> Result<Option<Gateway>, Error> {
    let query = select(&format!("WHERE gateway.{column} = ?1"));
    Ok(tx.query_row(&query, [value], from_row).optional()?)
}

/// Writes a new gateway and returns its id.
pub(super) fn insert(
    tx: &Transaction<'_>,
    name: &GatewayName,
    identity: Option<&str>,
    now: SystemTime,
) -> Result<String, Error> {
    let id = uuid::Uuid::new_v4().to_string();
    tx.execute(
        "INSERT INTO gateway VALUES (?1, ?2, ?3, NULL, ?4, ?4, NULL, NULL, NULL, NULL, 0)",
        (&id, name.as_str(), identity, millis(now)),
    )?;
    Ok(id)
}

fn set_relay(tx: &Transaction<'_>, id: &str, relay: &Relay, now: SystemTime) -> Result<(), Error> {
    tx.execute(
        "UPDATE gateway SET relay_id = ?2, updated_at = ?3 WHERE id = ?1",
        (id, &relay.id, millis(now)),
    )?;
    Ok(())
}

#[async_trait]
impl GatewayStore for Sqlite {
    async fn register_gateway(
        &self,
        identity: String,
        name: GatewayName,
        relay: RelayName,
        now: SystemTime,
    ) -> Result<(Gateway, Relay), Error> {
        self.call(move |tx| {
            check_name(&name)?;
            let relay = relays::by_name(tx, &relay)?;
            let holder = find(tx, "name", name.as_str())?;
            if holder.is_some_and(|held| held.identity_id.as_ref() != Some(&identity)) {
                return Err(Error::NameTaken(name.to_string()));
            }
            let id = match find(tx, "identity_id", &identity)? {
                Some(gateway) => {
                    tx.execute(
                        "UPDATE gateway SET name = ?2 WHERE id = ?1",
                        (gateway.id.as_str(), name.as_str()),
                    )?;
                    gateway.id.to_string()
                }
                None => insert(tx, &name, Some(&identity), now)?,
            };
            set_relay(tx, &id, &relay, now)?;
            let gateway = find(tx, "id", &id)?.ok_or(Error::GatewayDeleted)?;
            Ok((gateway, relay))
        })
        .await
    }

    async fn connect_gateway(
        &self,
        id: GatewayId,
        relay: Option<RelayName>,
        now: SystemTime,
    ) -> Result<(Gateway, Relay), Error> {
        self.call(move |tx| {
            let gateway = find(tx, "id", id.as_str())?.ok_or(Error::GatewayDeleted)?;
            let current = gateway.relay.clone().filter(|r| r.rank(now).is_some());
            let relay = match (relay, current) {
                (Some(name), _) => relays::by_name(tx, &name)?,
                (None, Some(relay)) => relay,
                (None, None) => choose(relays::all(tx)?, now).ok_or(Error::NoRelay)?,
            };
            set_relay(tx, id.as_str(), &relay, now)?;
            Ok((gateway, relay))
        })
        .await
    }

    async fn enrolled_gateway(&self, id: GatewayId) -> Result<Gateway, Error> {
        self.call(move |tx| find(tx, "id", id.as_str())?.ok_or(Error::GatewayDeleted))
            .await
    }

    async fn gateway_of_identity(&self, identity: String) -> Result<Gateway, Error> {
        self.call(move |tx| find(tx, "identity_id", &identity)?.ok_or(Error::NoGateway))
            .await
    }

    async fn gateway_named(&self, name: GatewayName) -> Result<Gateway, Error> {
        self.call(move |tx| {
            find(tx, "name", name.as_str())?.ok_or_else(|| Error::UnknownGateway(name.to_string()))
        })
        .await
    }

    async fn gateways(&self) -> Result<Vec<Gateway>, Error> {
        self.call(|tx| {
            let mut rows = tx.prepare(&select("ORDER BY gateway.name"))?;
            let gateways = rows.query_map([], from_row)?;
            Ok(gateways.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn gateway_probed(
        &self,
        id: GatewayId,
        ttl: Option<Duration>,
        program_version: Option<String>,
        judges_addresses: bool,
        now: SystemTime,
    ) -> Result<(), Error> {
        self.call(move |tx| {
            let version = program_version.as_deref();
            reachability::note(tx, Table::Gateway, id.as_str(), ttl.is_some(), version, now)?;
            tx.execute(
                "UPDATE gateway SET judges_addresses = ?2 WHERE id = ?1",
                (id.as_str(), judges_addresses),
            )?;
            if let Some(ttl) = ttl {
                let ttl = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
                tx.execute(
                    "UPDATE gateway SET heartbeat_ttl_seconds = ?2 WHERE id = ?1",
                    (id.as_str(), ttl),
                )?;
            }
            Ok(())
        })
        .await
    }

    async fn gateway_started(
        &self,
        id: GatewayId,
        program_version: Option<String>,
    ) -> Result<(), Error> {
        self.call(move |tx| {
            tx.execute(
                "UPDATE gateway SET judges_addresses = 0
                 WHERE id = ?1 AND program_version IS NOT ?2",
                (id.as_str(), program_version),
            )?;
            Ok(())
        })
        .await
    }

    async fn delete_gateway(&self, requester: Requester, name: GatewayName) -> Result<(), Error> {
        self.change(requester, move |tx, record| {
            let gateway = find(tx, "name", name.as_str())?
                .ok_or_else(|| Error::UnknownGateway(name.to_string()))?;
            let id = gateway.id.as_str();
            tx.execute("DELETE FROM gateway WHERE id = ?1", [id])?;
            let subject = Subject::with_id("gateway", id, Some(name.as_str()));
            record.add(Action::DeleteGateway, subject, None);
            Ok(())
        })
        .await
    }
}

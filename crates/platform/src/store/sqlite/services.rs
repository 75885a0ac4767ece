//! Named services.

use async_trait::async_trait;
use rusqlite::{Row, Transaction};

use super::{Sqlite, text};
use crate::api::services::Service;
use crate::names::{GatewayName, ServiceName};
use crate::store::services::{MAX_SERVICES, ServiceStore, details, subject};
use crate::store::{Action, Error, Requester};

/// What [`from_row`] reads, in its order.
const SELECT: &str =
    "SELECT gateway, name, target_host, target_port, local_port, description FROM service";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Service> {
    Ok(Service {
        gateway: text(0, &row.get::<_, String>(0)?)?,
        name: text(1, &row.get::<_, String>(1)?)?,
        target_host: row.get(2)?,
        target_port: row.get(3)?,
        local_port: row.get(4)?,
        description: row.get(5)?,
    })
}

fn find(
    tx: &Transaction<'_>,
    gateway: &GatewayName,
    name: &ServiceName,
) -> Result<Option<Service>, Error> {
    let mut rows = tx.prepare(&format!("{SELECT} WHERE gateway = ?1 AND name = ?2"))?;
    let mut found = rows.query_map([gateway.as_str(), name.as_str()], from_row)?;
    Ok(found.next().transpose()?)
}

#[async_trait]
impl ServiceStore for Sqlite {
    async fn services(&self) -> Result<Vec<Service>, Error> {
        self.call(|tx| {
            let mut rows = tx.prepare(&format!("{SELECT} ORDER BY gateway, name"))?;
            let services = rows.query_map([], from_row)?;
            Ok(services.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn add_service(&self, requester: Requester, service: Service) -> Result<(), Error> {
        self.change(requester, move |tx, record| {
            if find(tx, &service.gateway, &service.name)?.is_some() {
                return Err(Error::ServiceTaken {
                    gateway: service.gateway,
                    name: service.name,
                });
            }
            let count: i64 = tx.query_row("SELECT COUNT(*) FROM service", [], |row| row.get(0))?;
            if count >= MAX_SERVICES {
                return Err(Error::TooManyServices(MAX_SERVICES));
            }
            tx.execute(
                "INSERT INTO service (gateway, name, target_host, target_port, local_port, description)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                (
                    service.gateway.as_str(),
                    service.name.as_str(),
                    &service.target_host,
                    service.target_port,
                    service.local_port,
                    &service.description,
                ),
            )?;
            record.add(Action::AddService, subject(&service), Some(details(&service)));
            Ok(())
        })
        .await
    }

    async fn remove_service(
        &self,
        requester: Requester,
        gateway: GatewayName,
        name: ServiceName,
    ) -> Result<(), Error> {
        self.change(requester, move |tx, record| {
            let Some(service) = find(tx, &gateway, &name)? else {
                return Err(Error::UnknownService { gateway, name });
            };
            tx.execute(
                "DELETE FROM service WHERE gateway = ?1 AND name = ?2",
                [gateway.as_str(), name.as_str()],
            )?;
            record.add(
                Action::RemoveService,
                subject(&service),
                Some(details(&service)),
            );
            Ok(())
        })
        .await
    }
}

//! Named services: targets behind gateways.

use async_trait::async_trait;

use super::Error;
use super::audit::{Requester, Subject};
use crate::api::services::Service;
use crate::names::{GatewayName, ServiceName};

/// Services that a platform keeps: a client's list of them is judged one by one.
pub(super) const MAX_SERVICES: i64 = 1000;

/// What an entry of the record about `service` is about.
pub(super) fn subject(service: &Service) -> Subject {
    Subject::named("service", Some(service.name.as_str()))
}

/// `service`, as the record has it.
pub(super) fn details(service: &Service) -> String {
    let (target, gateway) = (service.target(), &service.gateway);
    format!("{target} through gateway {gateway}")
}

/// See the module.
#[async_trait]
pub(crate) trait ServiceStore {
    /// All services, by gateway and name.
    async fn services(&self) -> Result<Vec<Service>, Error>;

    /// Adds a service; its name must be new at its gateway.
    async fn add_service(&self, requester: Requester, service: Service) -> Result<(), Error>;

    /// Removes a service.
    async fn remove_service(
        &self,
        requester: Requester,
        gateway: GatewayName,
        name: ServiceName,
    ) -> Result<(), Error>;
}

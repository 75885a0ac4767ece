//! Gateways: who owns a name, which relay leads there, when it was last reached.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::Error;
use super::audit::Requester;
use super::reachability::{Heartbeats, Reachability};
use super::relays::Relay;
use crate::authority::GatewaySubject;
use crate::names::{GatewayId, GatewayName, RelayName};

/// A gateway as the store knows it.
#[derive(Debug, Clone)]
pub(crate) struct Gateway {
    pub(crate) id: GatewayId,
    pub(crate) name: GatewayName,
    pub(crate) identity_id: Option<String>,
    pub(crate) created_at: SystemTime,
    pub(crate) updated_at: SystemTime,
    pub(crate) heartbeats: Heartbeats,
    /// Whether it judges the addresses of a name by the rules of a certificate.
    pub(crate) judges_addresses: bool,
    /// How long the gateway said that a heartbeat counts.
    pub(crate) heartbeat_ttl: Option<Duration>,
    /// The relay that it chose last.
    pub(crate) relay: Option<Relay>,
}

impl Gateway {
    /// What its certificates say.
    pub(crate) fn subject(&self) -> GatewaySubject<'_> {
        GatewaySubject {
            id: &self.id,
            name: &self.name,
        }
    }

    /// Whether it can be reached.
    pub(crate) fn reachability(&self, now: SystemTime) -> Reachability {
        let lifetime = self.heartbeat_ttl.unwrap_or_default();
        self.heartbeats.reachability(lifetime, now)
    }
}

/// Refuses a name that is a UUID: names are principals of SSH certificates beside ids, and a relay
/// that does not tell them apart would take one gateway for the other.
pub(super) fn check_name(name: &GatewayName) -> Result<(), Error> {
    match uuid::Uuid::try_parse(name.as_str()) {
        Ok(_) => Err(Error::NameLooksLikeId(name.to_string())),
        Err(_) => Ok(()),
    }
}

/// See the module.
#[async_trait]
pub(crate) trait GatewayStore {
    /// Registers the gateway of an identity, which has one: asked again, it is the same gateway,
    /// under the name and with the relay that are given now.
    async fn register_gateway(
        &self,
        identity: String,
        name: GatewayName,
        relay: RelayName,
        now: SystemTime,
    ) -> Result<(Gateway, Relay), Error>;

    /// Notes the relay that an enrolled gateway will dial. Where it names none, it stays with its
    /// relay while that one is healthy.
    async fn connect_gateway(
        &self,
        id: GatewayId,
        relay: Option<RelayName>,
        now: SystemTime,
    ) -> Result<(Gateway, Relay), Error>;

    /// The gateway whose access token was presented.
    async fn enrolled_gateway(&self, id: GatewayId) -> Result<Gateway, Error>;

    /// The gateway of an identity.
    async fn gateway_of_identity(&self, identity: String) -> Result<Gateway, Error>;

    /// The gateway of that name.
    async fn gateway_named(&self, name: GatewayName) -> Result<Gateway, Error>;

    /// All gateways, by name.
    async fn gateways(&self) -> Result<Vec<Gateway>, Error>;

    /// Notes that the gateway was reached, and for how long that counts; without that, that it was
    /// not.
    async fn gateway_probed(
        &self,
        id: GatewayId,
        ttl: Option<Duration>,
        program_version: Option<String>,
        judges_addresses: bool,
        now: SystemTime,
    ) -> Result<(), Error>;

    /// Notes that this version of the program is the gateway from now on: another one has not said yet
    /// whether it judges addresses, and an earlier one would pass rules for them over.
    async fn gateway_started(
        &self,
        id: GatewayId,
        program_version: Option<String>,
    ) -> Result<(), Error>;

    /// Deletes the gateway of that name. Its access tokens stay, so that it learns why it may no
    /// longer connect.
    async fn delete_gateway(&self, requester: Requester, name: GatewayName) -> Result<(), Error>;
}

//! Relays: who owns a name, where it is, when it was last reached.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::Error;
use super::audit::Requester;
use super::reachability::{Heartbeats, Reachability};
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
    pub(super) fn kind(&self) -> RelayKind {
        match self {
            Self::Identity(_) | Self::Enrolled => RelayKind::Org,
            Self::Instance => RelayKind::Instance,
        }
    }

    pub(super) fn identity(&self) -> Option<&str> {
        match self {
            Self::Identity(id) => Some(id),
            Self::Instance | Self::Enrolled => None,
        }
    }

    pub(super) fn owns(&self, relay: &Relay) -> bool {
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

/// A host in the one form in which two can be compared: letters in lower case, addresses as such.
pub(super) fn canonical(host: &RelayHost) -> String {
    host.as_str().parse::<IpAddr>().map_or_else(
        |_| host.as_str().to_ascii_lowercase(),
        |address| address.to_canonical().to_string(),
    )
}

/// Refuses a name or host that cannot be right. What a relay has already is not judged, so that it
/// keeps working.
pub(super) fn check_form(
    found: Option<&Relay>,
    name: &RelayName,
    host: &RelayHost,
) -> Result<(), Error> {
    if found.is_none() && !name.is_slug() {
        return Err(Error::NotASlug(name.to_string()));
    }
    if found.is_none_or(|relay| relay.host != *host) && host.is_numeric_name() {
        return Err(Error::NumericHost(host.to_string()));
    }
    Ok(())
}

/// See the module.
#[async_trait]
pub(crate) trait RelayStore {
    /// Registers a relay, or renews its registration: a name and a host belong to one relay each.
    async fn register_relay(
        &self,
        owner: Owner,
        name: RelayName,
        host: RelayHost,
        now: SystemTime,
    ) -> Result<Relay, Error>;

    /// The relay `name`, if `owner` has it and its host is still its own.
    async fn relay_of(
        &self,
        owner: Owner,
        name: RelayName,
        now: SystemTime,
    ) -> Result<Relay, Error>;

    /// The relay with that id in the same way: the one whose access token was presented.
    async fn enrolled_relay(&self, id: String, now: SystemTime) -> Result<Relay, Error>;

    /// All relays, by name.
    async fn relays(&self) -> Result<Vec<Relay>, Error>;

    /// Notes whether the relay was reached.
    async fn relay_probed(
        &self,
        id: String,
        reached: bool,
        program_version: Option<String>,
        now: SystemTime,
    ) -> Result<(), Error>;

    /// Deletes a relay; its host is free then.
    async fn delete_relay(&self, requester: Requester, name: RelayName) -> Result<(), Error>;
}

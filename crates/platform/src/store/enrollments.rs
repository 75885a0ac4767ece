//! One-time enrollment tokens: each is exchanged for one access token, once, within an hour.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::Error;
use super::audit::Requester;
use super::relays::Relay;
use crate::names::{GatewayId, GatewayName, RelayHost, RelayName};
use crate::token::TokenHash;

/// How long an enrollment token may be used (protocol.md §6).
pub(super) const LIFETIME: Duration = Duration::from_secs(3600);

/// What a token enrolls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EnrollmentKind {
    Gateway,
    Relay,
}

impl EnrollmentKind {
    /// The name where it is kept.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Relay => "relay",
        }
    }
}

/// A token that was not exchanged yet, without the token.
#[derive(Debug, Clone)]
pub(crate) struct Enrollment {
    pub(crate) kind: EnrollmentKind,
    pub(crate) name: String,
    /// That of a relay.
    pub(crate) host: Option<String>,
    pub(crate) expires_at: SystemTime,
}

/// See the module.
#[async_trait]
pub(crate) trait EnrollmentStore {
    /// Keeps a token that enrolls the gateway `name`.
    async fn allow_gateway(
        &self,
        requester: Requester,
        token: TokenHash,
        name: GatewayName,
        now: SystemTime,
    ) -> Result<(), Error>;

    /// Keeps a token that enrolls the relay `name` at `host`.
    async fn allow_relay(
        &self,
        requester: Requester,
        token: TokenHash,
        name: RelayName,
        host: RelayHost,
        now: SystemTime,
    ) -> Result<(), Error>;

    /// Deletes all tokens that enroll `name`.
    async fn revoke_enrollments(
        &self,
        requester: Requester,
        kind: EnrollmentKind,
        name: String,
        now: SystemTime,
    ) -> Result<(), Error>;

    /// Enrolls a gateway: `token` is used up, `access` is what it obtained. Enrolling an enrolled
    /// gateway again replaces its access token.
    async fn enroll_gateway(
        &self,
        requester: Requester,
        token: TokenHash,
        access: TokenHash,
        now: SystemTime,
    ) -> Result<(GatewayId, GatewayName), Error>;

    /// Enrolls a relay in the same way.
    async fn enroll_relay(
        &self,
        requester: Requester,
        token: TokenHash,
        access: TokenHash,
        now: SystemTime,
    ) -> Result<Relay, Error>;

    /// The tokens that may still be exchanged, by name.
    async fn enrollments(&self, now: SystemTime) -> Result<Vec<Enrollment>, Error>;
}

//! Access rules of the embedded platform (`/v1/embedded/access-rules`), as they are sent; not part of
//! the deployed API.

use serde::{Deserialize, Serialize};

/// What stands in place of a gateway's name for every gateway.
pub const EVERY_GATEWAY: &str = "*";
/// What stands before the name of a group where identities can stand too.
pub const GROUP_PREFIX: &str = "group:";

/// Lets an identity, or those of a group, reach a target through a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessRule {
    /// Counts up from 1, and never comes again.
    pub number: i64,
    /// The identity's name, or `group:` and the group's.
    pub who: String,
    /// The identity's id; null for a group.
    pub identity_id: Option<String>,
    /// The gateway's name, or `*`.
    pub gateway: String,
    /// A host, network or suffix, and ports if only some are meant.
    pub target: String,
    /// RFC 3339.
    pub created_at: String,
}

/// New rules, one for each target.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AllowAccess {
    /// An identity's id or name, or `group:` and a group's name.
    pub who: String,
    /// A gateway's name, or `*`.
    pub gateway: String,
    /// As [`AccessRule::target`].
    pub targets: Vec<String>,
}

/// Whether an identity may reach a target.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckAccess {
    /// An identity's id or name.
    pub who: String,
    /// A gateway's name.
    pub gateway: String,
    /// As a client gives it.
    pub target_host: String,
    /// As a client gives it.
    pub target_port: u16,
}

/// The verdict on [`CheckAccess`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessVerdict {
    /// See there.
    pub outcome: Outcome,
    /// Why, for a person.
    pub reason: String,
    /// The rules that decided.
    pub rules: Vec<AccessRule>,
}

/// What would become of a request for a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It would be granted.
    Allowed,
    /// It would be granted, and the gateway would judge the addresses of the name.
    GatewayDecides,
    /// It would be refused.
    Denied,
}

/// The groups of an identity, all of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SetGroups {
    /// Its id or name.
    pub identity: String,
    /// In any order; none is allowed.
    pub groups: Vec<String>,
}

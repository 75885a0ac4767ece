//! Access rules, and the groups of identities that they are for.

use std::fmt;
use std::time::SystemTime;

use async_trait::async_trait;

use super::Error;
use super::audit::{Requester, Subject};
use crate::api::access::EVERY_GATEWAY;
use crate::config::targets::Rule;

/// Rules that a platform keeps: each session of a client is judged by all that are for it.
pub(super) const MAX_RULES: i64 = 10_000;

/// Lets an identity, or those of a group, reach a target through a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AccessRule {
    /// Counts up from 1, and never comes again.
    pub(crate) number: i64,
    pub(crate) who: Who,
    /// The gateway's name, or [`EVERY_GATEWAY`].
    pub(crate) gateway: String,
    pub(crate) target: Rule,
    pub(crate) created_at: SystemTime,
}

/// Whom a rule is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Who {
    Identity { id: String, name: String },
    Group(String),
}

impl AccessRule {
    pub(super) fn subject(&self) -> Subject {
        Subject::with_id("access-rule", &self.number.to_string(), None)
    }
}

/// As the record has it.
impl fmt::Display for AccessRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.who {
            Who::Identity { id, name } => write!(f, "identity {name} ({id})")?,
            Who::Group(name) => write!(f, "group {name}")?,
        }
        write!(f, " may reach {} through ", self.target)?;
        match self.gateway.as_str() {
            EVERY_GATEWAY => f.write_str("every gateway"),
            name => write!(f, "gateway {name}"),
        }
    }
}

/// Whom a new rule is for.
#[derive(Debug, Clone)]
pub(crate) enum NewWho {
    /// An identity's id, or its name if no other has it.
    Identity(String),
    Group(String),
}

/// What an identity may reach through a gateway.
#[derive(Debug, Clone)]
pub(crate) enum AccessRights {
    /// It is neither a client nor an administrator.
    NoRole,
    /// Everything: it is an administrator.
    Unrestricted,
    /// What these rules are for.
    Rules(Vec<AccessRule>),
}

/// See the module.
#[async_trait]
pub(crate) trait AccessStore {
    /// All rules, in their order.
    async fn access_rules(&self) -> Result<Vec<AccessRule>, Error>;

    /// What the identity with this id may reach through the gateway of this name.
    async fn access(&self, id: String, gateway: String) -> Result<AccessRights, Error>;

    /// The id of the identity that is called so, by id or by name.
    async fn identity_called(&self, called: String) -> Result<String, Error>;

    /// Adds a rule for each target; one that is there already is given as it is.
    async fn allow_access(
        &self,
        requester: Requester,
        who: NewWho,
        gateway: String,
        targets: Vec<Rule>,
        now: SystemTime,
    ) -> Result<Vec<AccessRule>, Error>;

    /// Removes the rule with this number.
    async fn remove_access_rule(&self, requester: Requester, number: i64) -> Result<(), Error>;

    /// Makes `groups` the groups of the identity that is called so.
    async fn set_groups(
        &self,
        requester: Requester,
        called: String,
        groups: Vec<String>,
    ) -> Result<(), Error>;
}

//! The settings that gateways and relays have each under a name of its own.

use super::credential::ResourceId;
use super::env::{
    GATEWAY_ACCESS_TOKEN, GATEWAY_DOMAIN, GATEWAY_ENROLL_METHOD, GATEWAY_ENROLLMENT_TOKEN,
    GATEWAY_ID, GATEWAY_NAME, RELAY_ACCESS_TOKEN, RELAY_DOMAIN, RELAY_ENROLL_METHOD,
    RELAY_ENROLLMENT_TOKEN, RELAY_ID, RELAY_NAME, Used, Variable,
};
use super::raw::Source;
use super::settings::ApiBase;
use crate::names::InvalidName;
use crate::secret::Secret;

/// The settings of one role that the other role has too, by another name.
#[derive(Debug)]
pub struct RoleKeys {
    /// The role.
    pub used: Used,
    /// The role in one word: the command, and a part of the names of files.
    pub word: &'static str,
    /// The folder of the files that are named after such roles.
    pub folder: &'static str,
    /// The role's name.
    pub name: &'static Variable,
    /// How it enrolls.
    pub enroll_method: &'static Variable,
    /// The id with which it enrolls.
    pub id: &'static Variable,
    /// Reads that id.
    pub(super) parse_id: fn(&str) -> Result<ResourceId, InvalidName>,
    /// The access token of an enrolled one.
    pub access_token: &'static Variable,
    /// The one-time token that was exchanged for it.
    pub enrollment_token: &'static Variable,
    /// The platform at which it enrolled.
    pub domain: &'static Variable,
    /// The weakest source whose machine identity displaces a token that an enrollment left behind.
    pub(super) displaces_kept: Source,
}

/// Those of gateways.
pub static GATEWAY: RoleKeys = RoleKeys {
    used: Used::ByGateways,
    word: "gateway",
    folder: "gateways",
    name: &GATEWAY_NAME,
    enroll_method: &GATEWAY_ENROLL_METHOD,
    id: &GATEWAY_ID,
    parse_id: |text| text.parse().map(ResourceId::Gateway),
    access_token: &GATEWAY_ACCESS_TOKEN,
    enrollment_token: &GATEWAY_ENROLLMENT_TOKEN,
    domain: &GATEWAY_DOMAIN,
    // Only what is typed (protocol-addendum.md §6).
    displaces_kept: Source::Flag,
};

/// Those of relays.
pub static RELAY: RoleKeys = RoleKeys {
    used: Used::ByRelays,
    word: "relay",
    folder: "relays",
    name: &RELAY_NAME,
    enroll_method: &RELAY_ENROLL_METHOD,
    id: &RELAY_ID,
    parse_id: |text| text.parse().map(ResourceId::Relay),
    access_token: &RELAY_ACCESS_TOKEN,
    enrollment_token: &RELAY_ENROLLMENT_TOKEN,
    domain: &RELAY_DOMAIN,
    displaces_kept: Source::Environment,
};

/// True for the access token of an enrolled role.
#[must_use]
pub fn is_access_token(variable: &Variable) -> bool {
    [&GATEWAY, &RELAY]
        .map(|role| role.access_token)
        .contains(&variable)
}

/// True for a one-time token in a role's own file, where it stands for what was exchanged.
#[must_use]
pub(crate) fn is_enrollment_token(variable: &Variable) -> bool {
    [&GATEWAY, &RELAY]
        .map(|role| role.enrollment_token)
        .contains(&variable)
}

impl RoleKeys {
    /// What the exchange of `enrollment_token` at `domain` writes to the role's file. The token is
    /// kept, so that the same command run again does not enroll again.
    #[must_use]
    pub fn exchanged(
        &self,
        domain: &ApiBase,
        access_token: Secret,
        enrollment_token: Secret,
    ) -> [(&'static Variable, Secret); 3] {
        [
            (self.domain, Secret::new(domain.as_url().as_str())),
            (self.access_token, access_token),
            (self.enrollment_token, enrollment_token),
        ]
    }
}

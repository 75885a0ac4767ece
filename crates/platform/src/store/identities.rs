//! Machine identities, and the access tokens of everyone.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::Error;
use super::audit::Requester;
use super::people::NewPerson;
use super::roles::Role;
use crate::names::GatewayId;
use crate::token::TokenHash;

/// Lifetime of a token from a login, until renewed.
pub(super) const TOKEN_TTL: Duration = Duration::from_secs(24 * 3600);

/// Age beyond which no renewal extends a token.
pub(super) const TOKEN_MAX_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

/// How a new identity proves itself; the store gets hashes only.
#[derive(Debug, Clone)]
pub(crate) enum Credential {
    /// With an access token that does not expire.
    Token(TokenHash),
    /// By logging in.
    UniversalAuth {
        client_id: String,
        client_secret: TokenHash,
    },
    /// By a login at the OpenID provider.
    Person(NewPerson),
}

/// An authenticated identity.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) id: String,
    pub(crate) roles: Vec<Role>,
}

/// An identity as a list shows it.
#[derive(Debug, Clone)]
pub(crate) struct IdentitySummary {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) roles: Vec<Role>,
    /// By name.
    pub(crate) groups: Vec<String>,
    /// With which it logs in; without one it has an access token.
    pub(crate) client_id: Option<String>,
    /// The address or the subject of the person who it is.
    pub(crate) person: Option<String>,
    pub(crate) created_at: SystemTime,
}

/// Whose access token it is.
#[derive(Debug, Clone)]
pub(crate) enum Principal {
    Identity(Identity),
    /// The gateway may have been deleted since.
    Gateway(GatewayId),
    /// The relay's id; it may have been deleted since.
    Relay(String),
}

/// How long a token of a login lives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Renewed {
    pub(crate) expires_in: Duration,
    pub(crate) max_ttl: Duration,
}

/// Roles and groups, in words.
pub(super) fn rights(roles: &[Role], groups: &[String]) -> String {
    let roles: Vec<_> = roles.iter().map(|role| role.as_str()).collect();
    let mut text = match roles.as_slice() {
        [] => "no role".to_owned(),
        roles => format!("roles {}", roles.join(", ")),
    };
    if !groups.is_empty() {
        text.push_str(&format!("; groups {}", groups.join(", ")));
    }
    text
}

/// See the module.
#[async_trait]
pub(crate) trait IdentityStore {
    /// Creates an identity and returns its id.
    async fn create_identity(
        &self,
        requester: Requester,
        name: String,
        roles: Vec<Role>,
        groups: Vec<String>,
        credential: Credential,
        now: SystemTime,
    ) -> Result<String, Error>;

    /// Deletes an identity, its tokens, and the gateways and relays that it registered.
    async fn delete_identity(&self, requester: Requester, id: String) -> Result<(), Error>;

    /// Exchanges a client secret for the access token whose hash is `token`.
    async fn login(
        &self,
        requester: Requester,
        client_id: String,
        client_secret: TokenHash,
        token: TokenHash,
        now: SystemTime,
    ) -> Result<Renewed, Error>;

    /// The id of the identity with this client id, if it is there.
    async fn identity_of_client(&self, client_id: String) -> Result<Option<String>, Error>;

    /// The name of an identity, if it is there.
    async fn identity_name(&self, id: String) -> Result<Option<String>, Error>;

    /// All identities, by name.
    async fn identities(&self) -> Result<Vec<IdentitySummary>, Error>;

    /// Extends a token of a login, up to its greatest age.
    async fn renew(&self, token: TokenHash, now: SystemTime) -> Result<Renewed, Error>;

    /// Whose token it is; `None` for a token that is wrong, expired or revoked.
    async fn principal(
        &self,
        token: TokenHash,
        now: SystemTime,
    ) -> Result<Option<Principal>, Error>;
}

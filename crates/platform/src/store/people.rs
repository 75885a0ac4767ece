//! People who log in at an OpenID provider, and the sessions that they get.
//!
//! A person is known by issuer and subject. An identity that was created for an address belongs to
//! the first one who logs in with it, verified, and to no later owner of the address.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::Error;
use super::audit::Requester;
use super::roles::Role;
use crate::oidc::Person;
use crate::token::TokenHash;

/// Longest name of an identity that is made of a subject, in characters.
const MAX_NAME: usize = 64;

/// Whom a new identity is for.
#[derive(Debug, Clone)]
pub(crate) enum NewPerson {
    /// Who logs in with this address first, in small letters.
    Email(String),
    /// Who has this subject at this issuer.
    Subject { issuer: String, subject: String },
}

impl NewPerson {
    /// As lists show it.
    pub(super) fn shown(&self) -> &str {
        match self {
            Self::Email(email) => email,
            Self::Subject { subject, .. } => subject,
        }
    }
}

/// A session that a person gets.
#[derive(Debug, Clone)]
pub(crate) struct NewSession {
    pub(crate) person: Person,
    /// Someone who is not known gets an identity with the role client.
    pub(crate) creates_identities: bool,
    /// What the session is found by.
    pub(crate) token: TokenHash,
    pub(crate) lifetime: Duration,
}

/// Whose token it is.
#[derive(Debug, Clone)]
pub(crate) struct SessionOwner {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) roles: Vec<Role>,
    /// By name.
    pub(crate) groups: Vec<String>,
    /// Not there for a token that does not expire.
    pub(crate) expires_at: Option<SystemTime>,
}

/// The name of an identity for someone who is not known. Never one that people choose themselves: an
/// access rule for it must not become theirs.
pub(super) fn name_for(person: &Person) -> String {
    let name = match &person.email {
        Some(email) => email.clone(),
        None => format!("oidc:{}", person.subject),
    };
    name.chars().take(MAX_NAME).collect()
}

/// What an administrator gives `--oidc` for `person`.
pub(super) fn option_for(person: &Person) -> String {
    match &person.email {
        Some(email) => email.clone(),
        None => format!("subject:{}", person.subject),
    }
}

/// See the module.
#[async_trait]
pub(crate) trait PersonStore {
    /// Finds the identity of a person, which may become theirs or be made now, and writes the token
    /// of a session.
    async fn log_in_person(
        &self,
        requester: Requester,
        new: NewSession,
        now: SystemTime,
    ) -> Result<SessionOwner, Error>;

    /// Whose token it is; `None` for one that is not an identity's, is wrong, expired or revoked.
    async fn session_owner(
        &self,
        token: TokenHash,
        now: SystemTime,
    ) -> Result<Option<SessionOwner>, Error>;

    /// Ends the session with this token; a token that does not expire is none of a session.
    async fn log_out(&self, requester: Requester, token: TokenHash) -> Result<(), Error>;
}

//! Machine identities, and the access tokens of everyone.

use std::time::{Duration, SystemTime};

use rusqlite::{OptionalExtension as _, Transaction};

use super::audit::{Action, AuditedStore, Subject};
use super::roles::{self, Role};
use super::{Error, Store, access, millis, time};
use crate::names::GatewayId;
use crate::token::TokenHash;

/// Lifetime of a token from a login, until renewed.
const TOKEN_TTL: Duration = Duration::from_secs(24 * 3600);
/// Age beyond which no renewal extends a token.
const TOKEN_MAX_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

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

/// The name of the identity `id`, if it is there.
pub(super) fn name_of(tx: &Transaction<'_>, id: &str) -> Result<Option<String>, Error> {
    let select = "SELECT name FROM identity WHERE id = ?1";
    let name = tx.query_row(select, [id], |row| row.get(0));
    Ok(name.optional()?)
}

impl AuditedStore {
    /// Creates an identity and returns its id.
    pub(crate) async fn create_identity(
        self,
        name: String,
        roles: Vec<Role>,
        groups: Vec<String>,
        credential: Credential,
        now: SystemTime,
    ) -> Result<String, Error> {
        self.change(move |tx, record| {
            let id = uuid::Uuid::new_v4().to_string();
            let (client_id, client_secret, token) = match credential {
                Credential::Token(token) => (None, None, Some(token)),
                Credential::UniversalAuth {
                    client_id,
                    client_secret,
                } => (Some(client_id), Some(client_secret), None),
            };
            let client_secret = client_secret.as_ref().map(TokenHash::as_bytes);
            tx.execute(
                "INSERT INTO identity VALUES (?1, ?2, ?3, ?4, ?5)",
                (&id, &name, client_id, client_secret, millis(now)),
            )?;
            roles::insert(tx, &id, &roles)?;
            access::replace_groups(tx, &id, &groups)?;
            if let Some(token) = token {
                insert_token(tx, token, "identity", &id, None)?;
            }
            let subject = Subject::with_id("identity", &id, Some(&name));
            let details = rights(&roles, &groups);
            record.add(Action::CreateIdentity, subject, Some(details));
            Ok(id)
        })
        .await
    }

    /// Deletes an identity, its tokens, and the gateways and relays that it registered.
    pub(crate) async fn delete_identity(self, id: String) -> Result<(), Error> {
        self.change(move |tx, record| {
            let name = name_of(tx, &id)?;
            let details = rights(&roles::of(tx, &id)?, &access::groups_of(tx, &id)?);
            let subject = Subject::with_id("identity", &id, name.as_deref());
            record.add(Action::DeleteIdentity, subject, Some(details));
            tx.execute(
                "DELETE FROM access_token WHERE kind = 'identity' AND subject = ?1",
                [&id],
            )?;
            match tx.execute("DELETE FROM identity WHERE id = ?1", [&id])? {
                0 => Err(Error::UnknownIdentity(id)),
                _ => Ok(()),
            }
        })
        .await
    }

    /// Exchanges a client secret for the access token whose hash is `token`.
    pub(crate) async fn login(
        self,
        client_id: String,
        client_secret: TokenHash,
        token: TokenHash,
        now: SystemTime,
    ) -> Result<Renewed, Error> {
        self.change(move |tx, record| {
            let found: Option<(String, String, Vec<u8>)> = tx
                .query_row(
                    "SELECT id, name, client_secret_hash FROM identity WHERE client_id = ?1",
                    [&client_id],
                    |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
                )
                .optional()?;
            let (id, name, _) = found
                .filter(|(_, _, secret)| client_secret.matches(secret))
                .ok_or(Error::Credentials)?;
            // Expired tokens are cleared away where they come from.
            tx.execute(
                "DELETE FROM access_token WHERE expires_at <= ?1",
                [millis(now)],
            )?;
            insert_token(tx, token, "identity", &id, Some(now))?;
            let who = Subject::with_id("identity", &id, Some(&name));
            record.add_by(Action::LogIn, who, None);
            Ok(Renewed {
                expires_in: TOKEN_TTL,
                max_ttl: TOKEN_MAX_TTL,
            })
        })
        .await
    }
}

/// Roles and groups, in words.
fn rights(roles: &[Role], groups: &[String]) -> String {
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

impl Store {
    /// The id of the identity with this client id, if it is there.
    pub(crate) async fn identity_of_client(
        &self,
        client_id: String,
    ) -> Result<Option<String>, Error> {
        self.call(move |tx| {
            let select = "SELECT id FROM identity WHERE client_id = ?1";
            let id = tx.query_row(select, [&client_id], |row| row.get(0));
            Ok(id.optional()?)
        })
        .await
    }

    /// The name of an identity, if it is there.
    pub(crate) async fn identity_name(&self, id: String) -> Result<Option<String>, Error> {
        self.call(move |tx| name_of(tx, &id)).await
    }

    /// All identities, by name.
    pub(crate) async fn identities(&self) -> Result<Vec<IdentitySummary>, Error> {
        self.call(|tx| {
            let mut rows = tx.prepare(
                "SELECT id, name, client_id, created_at FROM identity ORDER BY name, created_at",
            )?;
            let identities = rows.query_map([], |row| {
                Ok(IdentitySummary {
                    id: row.get(0)?,
                    name: row.get(1)?,
                    roles: Vec::new(),
                    groups: Vec::new(),
                    client_id: row.get(2)?,
                    created_at: time(row.get(3)?),
                })
            })?;
            let mut identities: Vec<IdentitySummary> = identities.collect::<Result<_, _>>()?;
            for identity in &mut identities {
                identity.roles = roles::of(tx, &identity.id)?;
                identity.groups = access::groups_of(tx, &identity.id)?;
            }
            Ok(identities)
        })
        .await
    }

    /// Extends a token of a login, up to its greatest age.
    pub(crate) async fn renew(&self, token: TokenHash, now: SystemTime) -> Result<Renewed, Error> {
        self.call(move |tx| {
            let last: Option<i64> = tx
                .query_row(
                    "SELECT last_expiry FROM access_token WHERE hash = ?1 AND kind = 'identity'
                     AND (expires_at IS NULL OR expires_at > ?2)",
                    (token.as_bytes(), millis(now)),
                    |row| row.get(0),
                )
                .optional()?
                .ok_or(Error::Token)?;
            let expires_in = match last {
                // It does not expire at all; the longest lifetime is the nearest thing to say.
                None => TOKEN_MAX_TTL,
                Some(last) => {
                    let expires_at = (now + TOKEN_TTL).min(time(last));
                    tx.execute(
                        "UPDATE access_token SET expires_at = ?2 WHERE hash = ?1",
                        (token.as_bytes(), millis(expires_at)),
                    )?;
                    expires_at.duration_since(now).unwrap_or_default()
                }
            };
            Ok(Renewed {
                expires_in,
                max_ttl: TOKEN_MAX_TTL,
            })
        })
        .await
    }

    /// Whose token it is; `None` for a token that is wrong, expired or revoked.
    pub(crate) async fn principal(
        &self,
        token: TokenHash,
        now: SystemTime,
    ) -> Result<Option<Principal>, Error> {
        self.call(move |tx| {
            let found: Option<(String, String)> = tx
                .query_row(
                    "SELECT kind, subject FROM access_token
                     WHERE hash = ?1 AND (expires_at IS NULL OR expires_at > ?2)",
                    (token.as_bytes(), millis(now)),
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()?;
            let Some((kind, subject)) = found else {
                return Ok(None);
            };
            Ok(match kind.as_str() {
                "gateway" => Some(Principal::Gateway(super::text(1, &subject)?)),
                "relay" => Some(Principal::Relay(subject)),
                "identity" => Some(Principal::Identity(Identity {
                    roles: roles::of(tx, &subject)?,
                    id: subject,
                })),
                _ => None,
            })
        })
        .await
    }
}

/// Writes an access token; one that was `issued` by a login expires.
pub(super) fn insert_token(
    tx: &Transaction<'_>,
    token: TokenHash,
    kind: &str,
    subject: &str,
    issued: Option<SystemTime>,
) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO access_token VALUES (?1, ?2, ?3, ?4, ?5)",
        (
            token.as_bytes(),
            kind,
            subject,
            issued.map(|now| millis(now + TOKEN_TTL)),
            issued.map(|now| millis(now + TOKEN_MAX_TTL)),
        ),
    )?;
    Ok(())
}

//! Identities and access tokens.

use std::time::SystemTime;

use async_trait::async_trait;
use rusqlite::{OptionalExtension as _, Transaction};

use super::{Sqlite, access, people, roles, text, time};
use crate::store::identities::{Identity, IdentityStore, TOKEN_MAX_TTL, TOKEN_TTL, rights};
use crate::store::{
    Action, Credential, Error, IdentitySummary, Principal, Renewed, Requester, Role, Subject,
    millis,
};
use crate::token::TokenHash;

/// Tokens of logins that one identity has at once: more than a fleet that shares it. A further login
/// ends the one that expires first.
pub(super) const MAX_TOKENS: i64 = 10_000;

/// The name of the identity `id`, if it is there.
pub(super) fn name_of(tx: &Transaction<'_>, id: &str) -> Result<Option<String>, Error> {
    let select = "SELECT name FROM identity WHERE id = ?1";
    let name = tx.query_row(select, [id], |row| row.get(0));
    Ok(name.optional()?)
}

#[async_trait]
impl IdentityStore for Sqlite {
    async fn create_identity(
        &self,
        requester: Requester,
        name: String,
        roles: Vec<Role>,
        groups: Vec<String>,
        credential: Credential,
        now: SystemTime,
    ) -> Result<String, Error> {
        self.change(requester, move |tx, record| {
            let id = uuid::Uuid::new_v4().to_string();
            let (client_id, client_secret, token, person) = match credential {
                Credential::Token(token) => (None, None, Some(token), None),
                Credential::UniversalAuth {
                    client_id,
                    client_secret,
                } => (Some(client_id), Some(client_secret), None, None),
                Credential::Person(person) => (None, None, None, Some(person)),
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
            if let Some(person) = person {
                people::insert(tx, &id, &person)?;
            }
            let subject = Subject::with_id("identity", &id, Some(&name));
            let details = rights(&roles, &groups);
            record.add(Action::CreateIdentity, subject, Some(details));
            Ok(id)
        })
        .await
    }

    async fn delete_identity(&self, requester: Requester, id: String) -> Result<(), Error> {
        self.change(requester, move |tx, record| {
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

    async fn login(
        &self,
        requester: Requester,
        client_id: String,
        client_secret: TokenHash,
        token: TokenHash,
        now: SystemTime,
    ) -> Result<Renewed, Error> {
        self.change(requester, move |tx, record| {
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
            remove_surplus_tokens(tx, &id)?;
            let who = Subject::with_id("identity", &id, Some(&name));
            record.add_by(Action::LogIn, who, None);
            Ok(Renewed {
                expires_in: TOKEN_TTL,
                max_ttl: TOKEN_MAX_TTL,
            })
        })
        .await
    }

    async fn identity_of_client(&self, client_id: String) -> Result<Option<String>, Error> {
        self.call(move |tx| {
            let select = "SELECT id FROM identity WHERE client_id = ?1";
            let id = tx.query_row(select, [&client_id], |row| row.get(0));
            Ok(id.optional()?)
        })
        .await
    }

    async fn identity_name(&self, id: String) -> Result<Option<String>, Error> {
        self.call(move |tx| name_of(tx, &id)).await
    }

    async fn identities(&self) -> Result<Vec<IdentitySummary>, Error> {
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
                    person: None,
                    created_at: time(row.get(3)?),
                })
            })?;
            let mut identities: Vec<IdentitySummary> = identities.collect::<Result<_, _>>()?;
            for identity in &mut identities {
                identity.roles = roles::of(tx, &identity.id)?;
                identity.groups = access::groups_of(tx, &identity.id)?;
                identity.person = people::of(tx, &identity.id)?;
            }
            Ok(identities)
        })
        .await
    }

    async fn renew(&self, token: TokenHash, now: SystemTime) -> Result<Renewed, Error> {
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

    async fn principal(
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
                "gateway" => Some(Principal::Gateway(text(1, &subject)?)),
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

/// Writes the token of a session of the identity `id`, which no renewal extends, and clears expired
/// ones away.
pub(super) fn insert_session(
    tx: &Transaction<'_>,
    token: TokenHash,
    id: &str,
    now: SystemTime,
    expires_at: SystemTime,
) -> Result<(), Error> {
    tx.execute(
        "DELETE FROM access_token WHERE expires_at <= ?1",
        [millis(now)],
    )?;
    tx.execute(
        "INSERT INTO access_token VALUES (?1, 'identity', ?2, ?3, ?3)",
        (token.as_bytes(), id, millis(expires_at)),
    )?;
    remove_surplus_tokens(tx, id)
}

/// Keeps the [`MAX_TOKENS`] tokens of logins of the identity `id` that expire last.
fn remove_surplus_tokens(tx: &Transaction<'_>, id: &str) -> Result<(), Error> {
    tx.execute(
        "DELETE FROM access_token WHERE hash IN (
             SELECT hash FROM access_token
             WHERE kind = 'identity' AND subject = ?1 AND expires_at IS NOT NULL
             ORDER BY expires_at DESC LIMIT -1 OFFSET ?2)",
        (id, MAX_TOKENS),
    )?;
    Ok(())
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

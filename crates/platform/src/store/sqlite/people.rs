//! People and their sessions.

use std::time::SystemTime;

use async_trait::async_trait;
use rusqlite::{OptionalExtension as _, Transaction};

use super::{Sqlite, access, identities, roles, time};
use crate::oidc::Person;
use crate::store::people::{NewSession, PersonStore, SessionOwner, name_for, option_for};
use crate::store::{Action, Error, NewPerson, Requester, Role, Subject, millis};
use crate::token::TokenHash;

/// Makes the identity `id` that of a person, who must not have another one.
pub(super) fn insert(tx: &Transaction<'_>, id: &str, person: &NewPerson) -> Result<(), Error> {
    let taken = match person {
        NewPerson::Email(email) => find(tx, "email = ?1 AND subject IS NULL", [email])?,
        NewPerson::Subject { issuer, subject } => {
            find(tx, "issuer = ?1 AND subject = ?2", [issuer, subject])?
        }
    };
    if taken.is_some() {
        return Err(Error::PersonTaken(person.shown().to_owned()));
    }
    let (email, issuer, subject) = match person {
        NewPerson::Email(email) => (Some(email), None, None),
        NewPerson::Subject { issuer, subject } => (None, Some(issuer), Some(subject)),
    };
    tx.execute(
        "INSERT INTO identity_person (identity_id, email, issuer, subject) VALUES (?1, ?2, ?3, ?4)",
        (id, email, issuer, subject),
    )?;
    Ok(())
}

/// As whom the identity `id` logs in, if a person does.
pub(super) fn of(tx: &Transaction<'_>, id: &str) -> Result<Option<String>, Error> {
    let select = "SELECT COALESCE(email, subject) FROM identity_person WHERE identity_id = ?1";
    let found = tx.query_row(select, [id], |row| row.get(0)).optional()?;
    Ok(found.flatten())
}

fn find(
    tx: &Transaction<'_>,
    which: &str,
    parameters: impl rusqlite::Params,
) -> Result<Option<String>, Error> {
    let select = format!("SELECT identity_id FROM identity_person WHERE {which}");
    Ok(tx
        .query_row(&select, parameters, |row| row.get(0))
        .optional()?)
}

/// The identity of `person`, which becomes theirs if it was waiting for their address.
fn identity_of(tx: &Transaction<'_>, person: &Person) -> Result<Option<String>, Error> {
    let Person {
        issuer,
        subject,
        email,
        ..
    } = person;
    if let Some(id) = find(tx, "issuer = ?1 AND subject = ?2", [issuer, subject])? {
        return Ok(Some(id));
    }
    let Some(email) = email else {
        return Ok(None);
    };
    let Some(id) = find(tx, "email = ?1 AND subject IS NULL", [email])? else {
        return Ok(None);
    };
    tx.execute(
        "UPDATE identity_person SET issuer = ?2, subject = ?3 WHERE identity_id = ?1",
        (&id, issuer, subject),
    )?;
    Ok(Some(id))
}

fn owner(
    tx: &Transaction<'_>,
    id: String,
    expires_at: Option<SystemTime>,
) -> Result<SessionOwner, Error> {
    let name = identities::name_of(tx, &id)?;
    Ok(SessionOwner {
        name: name.ok_or_else(|| Error::UnknownIdentity(id.clone()))?,
        roles: roles::of(tx, &id)?,
        groups: access::groups_of(tx, &id)?,
        id,
        expires_at,
    })
}

#[async_trait]
impl PersonStore for Sqlite {
    async fn log_in_person(
        &self,
        requester: Requester,
        new: NewSession,
        now: SystemTime,
    ) -> Result<SessionOwner, Error> {
        self.change(requester, move |tx, record| {
            let person = &new.person;
            let id = match identity_of(tx, person)? {
                Some(id) => id,
                None if new.creates_identities => {
                    let (id, name) = (uuid::Uuid::new_v4().to_string(), name_for(person));
                    tx.execute(
                        "INSERT INTO identity (id, name, created_at) VALUES (?1, ?2, ?3)",
                        (&id, &name, millis(now)),
                    )?;
                    roles::insert(tx, &id, &[Role::Client])?;
                    tx.execute(
                        "INSERT INTO identity_person (identity_id, email, issuer, subject)
                         VALUES (?1, ?2, ?3, ?4)",
                        (&id, &person.email, &person.issuer, &person.subject),
                    )?;
                    let subject = Subject::with_id("identity", &id, Some(&name));
                    let details = "at the first login; roles client".to_owned();
                    record.add(Action::CreateIdentity, subject, Some(details));
                    id
                }
                None => return Err(Error::UnknownPerson(option_for(person))),
            };
            let subject = |name: Option<&str>| Subject::with_id("identity", &id, name);
            if let Some(groups) = &person.groups {
                let before = access::groups_of(tx, &id)?;
                access::replace_groups(tx, &id, groups)?;
                let after = access::groups_of(tx, &id)?;
                if after != before {
                    let details = match after.as_slice() {
                        [] => "no groups, by the provider".to_owned(),
                        groups => format!("groups {}, by the provider", groups.join(", ")),
                    };
                    record.add(Action::SetGroups, subject(None), Some(details));
                }
            }
            let expires_at = now + new.lifetime;
            identities::insert_session(tx, new.token, &id, now, expires_at)?;
            let owner = owner(tx, id.clone(), Some(expires_at))?;
            let details = format!("{} at {}", person.subject, person.issuer);
            record.add_by(Action::LogIn, subject(Some(&owner.name)), Some(details));
            Ok(owner)
        })
        .await
    }

    async fn session_owner(
        &self,
        token: TokenHash,
        now: SystemTime,
    ) -> Result<Option<SessionOwner>, Error> {
        self.call(move |tx| {
            let found: Option<(String, Option<i64>)> = tx
                .query_row(
                    "SELECT subject, expires_at FROM access_token WHERE hash = ?1
                     AND kind = 'identity' AND (expires_at IS NULL OR expires_at > ?2)",
                    (token.as_bytes(), millis(now)),
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()?;
            let owner =
                |(id, expires_at): (String, Option<i64>)| owner(tx, id, expires_at.map(time));
            found.map(owner).transpose()
        })
        .await
    }

    async fn log_out(&self, requester: Requester, token: TokenHash) -> Result<(), Error> {
        self.change(requester, move |tx, record| {
            let id: Option<String> = tx
                .query_row(
                    "SELECT subject FROM access_token WHERE hash = ?1 AND kind = 'identity'
                     AND expires_at IS NOT NULL",
                    [token.as_bytes()],
                    |row| row.get(0),
                )
                .optional()?;
            let id = id.ok_or(Error::NoSession)?;
            tx.execute(
                "DELETE FROM access_token WHERE hash = ?1",
                [token.as_bytes()],
            )?;
            let name = identities::name_of(tx, &id)?;
            let subject = Subject::with_id("identity", &id, name.as_deref());
            record.add(Action::LogOut, subject, None);
            Ok(())
        })
        .await
    }
}

//! One-time enrollment tokens.

use std::time::SystemTime;

use async_trait::async_trait;
use rusqlite::{OptionalExtension as _, Transaction};

use super::identities::insert_token;
use super::{Sqlite, gateways, relays, text, time};
use crate::names::{GatewayId, GatewayName, RelayHost, RelayName};
use crate::store::enrollments::{EnrollmentStore, LIFETIME};
use crate::store::gateways::check_name;
use crate::store::{
    Action, Enrollment, EnrollmentKind, Error, Owner, Relay, Requester, Subject, millis,
};
use crate::token::TokenHash;

#[async_trait]
impl EnrollmentStore for Sqlite {
    async fn allow_gateway(
        &self,
        requester: Requester,
        token: TokenHash,
        name: GatewayName,
        now: SystemTime,
    ) -> Result<(), Error> {
        self.change(requester, move |tx, record| {
            check_name(&name)?;
            let holder = gateways::find(tx, "name", name.as_str())?;
            if holder.is_some_and(|held| held.identity_id.is_some()) {
                return Err(Error::NameTaken(name.to_string()));
            }
            insert(tx, token, "gateway", name.as_str(), None, now)?;
            let subject = Subject::named("gateway", Some(name.as_str()));
            record.add(Action::CreateEnrollmentToken, subject, None);
            Ok(())
        })
        .await
    }

    async fn allow_relay(
        &self,
        requester: Requester,
        token: TokenHash,
        name: RelayName,
        host: RelayHost,
        now: SystemTime,
    ) -> Result<(), Error> {
        self.change(requester, move |tx, record| {
            relays::check_enrollment(tx, &name, &host, now)?;
            insert(tx, token, "relay", name.as_str(), Some(host.as_str()), now)?;
            let subject = Subject::named("relay", Some(name.as_str()));
            let details = format!("host {host}");
            record.add(Action::CreateEnrollmentToken, subject, Some(details));
            Ok(())
        })
        .await
    }

    async fn revoke_enrollments(
        &self,
        requester: Requester,
        kind: EnrollmentKind,
        name: String,
        now: SystemTime,
    ) -> Result<(), Error> {
        self.change(requester, move |tx, record| {
            let revoked = tx.execute(
                "DELETE FROM enrollment_token WHERE kind = ?1 AND name = ?2 AND expires_at > ?3",
                (kind.as_str(), &name, millis(now)),
            )?;
            match revoked {
                0 => Err(Error::UnknownEnrollment {
                    kind: kind.as_str(),
                    name,
                }),
                count => {
                    let subject = Subject::named(kind.as_str(), Some(&name));
                    let details = format!("tokens revoked: {count}");
                    record.add(Action::RevokeEnrollmentTokens, subject, Some(details));
                    Ok(())
                }
            }
        })
        .await
    }

    async fn enroll_gateway(
        &self,
        requester: Requester,
        token: TokenHash,
        access: TokenHash,
        now: SystemTime,
    ) -> Result<(GatewayId, GatewayName), Error> {
        self.change(requester, move |tx, record| {
            let (name, _) = consume(tx, token, "gateway", now)?;
            let name: GatewayName = text(0, &name)?;
            let id = match gateways::find(tx, "name", name.as_str())? {
                Some(gateway) if gateway.identity_id.is_some() => {
                    return Err(Error::NameTaken(name.to_string()));
                }
                Some(gateway) => gateway.id.to_string(),
                None => gateways::insert(tx, &name, None, now)?,
            };
            replace_token(tx, access, "gateway", &id)?;
            let who = Subject::with_id("gateway", &id, Some(name.as_str()));
            record.add_by(Action::Enroll, who, None);
            Ok((text(0, &id)?, name))
        })
        .await
    }

    async fn enroll_relay(
        &self,
        requester: Requester,
        token: TokenHash,
        access: TokenHash,
        now: SystemTime,
    ) -> Result<Relay, Error> {
        self.change(requester, move |tx, record| {
            let (name, host) = consume(tx, token, "relay", now)?;
            let name: RelayName = text(0, &name)?;
            let host: RelayHost = text(1, host.as_deref().unwrap_or_default())?;
            let relay = relays::register(tx, &Owner::Enrolled, &name, &host, now)?;
            replace_token(tx, access, "relay", &relay.id)?;
            let who = Subject::with_id("relay", &relay.id, Some(relay.name.as_str()));
            record.add_by(Action::Enroll, who, Some(format!("host {}", relay.host)));
            Ok(relay)
        })
        .await
    }

    async fn enrollments(&self, now: SystemTime) -> Result<Vec<Enrollment>, Error> {
        self.call(move |tx| {
            let mut rows = tx.prepare(
                "SELECT kind, name, host, expires_at FROM enrollment_token
                 WHERE expires_at > ?1 ORDER BY kind, name, expires_at",
            )?;
            let enrollments = rows.query_map([millis(now)], |row| {
                let kind: String = row.get(0)?;
                Ok(Enrollment {
                    kind: match kind == EnrollmentKind::Gateway.as_str() {
                        true => EnrollmentKind::Gateway,
                        false => EnrollmentKind::Relay,
                    },
                    name: row.get(1)?,
                    host: row.get(2)?,
                    expires_at: time(row.get(3)?),
                })
            })?;
            Ok(enrollments.collect::<Result<_, _>>()?)
        })
        .await
    }
}

/// Names and hosts of relays that may still enroll.
pub(super) fn promised_hosts(
    tx: &Transaction<'_>,
    now: SystemTime,
) -> Result<Vec<(RelayName, RelayHost)>, Error> {
    let mut rows = tx.prepare(
        "SELECT name, host FROM enrollment_token
         WHERE kind = 'relay' AND host IS NOT NULL AND expires_at > ?1",
    )?;
    let promised = rows.query_map([millis(now)], |row| {
        let name = text(0, &row.get::<_, String>(0)?)?;
        Ok((name, text(1, &row.get::<_, String>(1)?)?))
    })?;
    Ok(promised.collect::<Result<_, _>>()?)
}

fn insert(
    tx: &Transaction<'_>,
    token: TokenHash,
    kind: &str,
    name: &str,
    host: Option<&str>,
    now: SystemTime,
) -> Result<(), Error> {
    tx.execute(
        "DELETE FROM enrollment_token WHERE expires_at <= ?1",
        [millis(now)],
    )?;
    tx.execute(
        "INSERT INTO enrollment_token VALUES (?1, ?2, ?3, ?4, ?5)",
        (token.as_bytes(), kind, name, host, millis(now + LIFETIME)),
    )?;
    Ok(())
}

/// Takes the token out of the table; the one who comes second finds nothing. If the rest of the
/// transaction fails, the token is back.
fn consume(
    tx: &Transaction<'_>,
    token: TokenHash,
    kind: &str,
    now: SystemTime,
) -> Result<(String, Option<String>), Error> {
    tx.query_row(
        "DELETE FROM enrollment_token WHERE hash = ?1 AND kind = ?2 AND expires_at > ?3
         RETURNING name, host",
        (token.as_bytes(), kind, millis(now)),
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
    .optional()?
    .ok_or(Error::Enrollment)
}

fn replace_token(
    tx: &Transaction<'_>,
    access: TokenHash,
    kind: &str,
    subject: &str,
) -> Result<(), Error> {
    tx.execute(
        "DELETE FROM access_token WHERE kind = ?1 AND subject = ?2",
        (kind, subject),
    )?;
    insert_token(tx, access, kind, subject, None)
}

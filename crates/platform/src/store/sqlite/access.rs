//! Access rules and groups.

use std::time::SystemTime;

use async_trait::async_trait;
use rusqlite::{Row, Transaction};

use super::{Sqlite, identities, roles, text, time};
use crate::api::access::EVERY_GATEWAY;
use crate::config::targets::Rule;
use crate::store::access::{AccessStore, MAX_RULES};
use crate::store::{
    AccessRights, AccessRule, Action, Error, NewWho, Requester, Role, Subject, Who, millis,
};

/// What [`from_row`] reads, in its order.
const SELECT: &str = "SELECT access_rule.number, access_rule.identity_id, identity.name, \
     access_rule.group_name, access_rule.gateway, access_rule.target, access_rule.created_at \
     FROM access_rule LEFT JOIN identity ON identity.id = access_rule.identity_id";

fn from_row(row: &Row<'_>) -> rusqlite::Result<AccessRule> {
    let identity: Option<String> = row.get(1)?;
    let who = match identity {
        Some(id) => Who::Identity {
            id,
            name: row.get(2)?,
        },
        None => Who::Group(row.get(3)?),
    };
    Ok(AccessRule {
        number: row.get(0)?,
        who,
        gateway: row.get(4)?,
        target: text(5, &row.get::<_, String>(5)?)?,
        created_at: time(row.get(6)?),
    })
}

fn collect(
    tx: &Transaction<'_>,
    rest: &str,
    parameters: impl rusqlite::Params,
) -> Result<Vec<AccessRule>, Error> {
    let mut rows = tx.prepare(&format!("{SELECT} {rest} ORDER BY access_rule.number"))?;
    let rules = rows.query_map(parameters, from_row)?;
    Ok(rules.collect::<Result<_, _>>()?)
}

/// The id of the identity that is called so, by id or by name.
fn identity_called(tx: &Transaction<'_>, called: &str) -> Result<String, Error> {
    if identities::name_of(tx, called)?.is_some() {
        return Ok(called.to_owned());
    }
    let mut rows = tx.prepare("SELECT id FROM identity WHERE name = ?1 LIMIT 2")?;
    let ids = rows.query_map([called], |row| row.get(0))?;
    let mut ids: Vec<String> = ids.collect::<Result<_, _>>()?;
    match (ids.pop(), ids.pop()) {
        (Some(id), None) => Ok(id),
        (Some(_), Some(_)) => Err(Error::AmbiguousIdentity(called.to_owned())),
        (None, _) => Err(Error::UnknownIdentity(called.to_owned())),
    }
}

/// The groups of `identity`, by name.
pub(super) fn groups_of(tx: &Transaction<'_>, identity: &str) -> Result<Vec<String>, Error> {
    let select = "SELECT name FROM identity_group WHERE identity_id = ?1 ORDER BY name";
    let mut rows = tx.prepare(select)?;
    let groups = rows.query_map([identity], |row| row.get(0))?;
    Ok(groups.collect::<Result<_, _>>()?)
}

/// Makes `groups` the groups of `identity`.
pub(super) fn replace_groups(
    tx: &Transaction<'_>,
    identity: &str,
    groups: &[String],
) -> Result<(), Error> {
    tx.execute(
        "DELETE FROM identity_group WHERE identity_id = ?1",
        [identity],
    )?;
    for group in groups {
        tx.execute(
            "INSERT OR IGNORE INTO identity_group VALUES (?1, ?2)",
            (identity, group),
        )?;
    }
    Ok(())
}

#[async_trait]
impl AccessStore for Sqlite {
    async fn access_rules(&self) -> Result<Vec<AccessRule>, Error> {
        self.call(|tx| collect(tx, "", [])).await
    }

    async fn access(&self, id: String, gateway: String) -> Result<AccessRights, Error> {
        self.call(move |tx| {
            let roles = roles::of(tx, &id)?;
            if roles.contains(&Role::Admin) {
                return Ok(AccessRights::Unrestricted);
            }
            if !roles.contains(&Role::Client) {
                return Ok(AccessRights::NoRole);
            }
            let of_both = format!(
                "WHERE access_rule.gateway IN (?2, '{EVERY_GATEWAY}') AND (access_rule.identity_id = ?1
                 OR access_rule.group_name IN (SELECT name FROM identity_group WHERE identity_id = ?1))"
            );
            Ok(AccessRights::Rules(collect(tx, &of_both, (&id, &gateway))?))
        })
        .await
    }

    async fn identity_called(&self, called: String) -> Result<String, Error> {
        self.call(move |tx| identity_called(tx, &called)).await
    }

    async fn allow_access(
        &self,
        requester: Requester,
        who: NewWho,
        gateway: String,
        targets: Vec<Rule>,
        now: SystemTime,
    ) -> Result<Vec<AccessRule>, Error> {
        self.change(requester, move |tx, record| {
            let (identity, group) = match who {
                NewWho::Identity(called) => (Some(identity_called(tx, &called)?), None),
                NewWho::Group(group) => (None, Some(group)),
            };
            let mut rules = Vec::new();
            for target in targets {
                let same = "WHERE access_rule.identity_id IS ?1 AND access_rule.group_name IS ?2
                     AND access_rule.gateway = ?3 AND access_rule.target = ?4";
                let target = target.to_string();
                let key = (&identity, &group, &gateway, &target);
                if let Some(rule) = collect(tx, same, key)?.pop() {
                    rules.push(rule);
                    continue;
                }
                let count: i64 =
                    tx.query_row("SELECT COUNT(*) FROM access_rule", [], |row| row.get(0))?;
                if count >= MAX_RULES {
                    return Err(Error::TooManyRules(MAX_RULES));
                }
                tx.execute(
                    "INSERT INTO access_rule (identity_id, group_name, gateway, target, created_at)
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                    (&identity, &group, &gateway, &target, millis(now)),
                )?;
                let number = tx.last_insert_rowid();
                let added = collect(tx, "WHERE access_rule.number = ?1", [number])?;
                for rule in &added {
                    record.add(
                        Action::AddAccessRule,
                        rule.subject(),
                        Some(rule.to_string()),
                    );
                }
                rules.extend(added);
            }
            Ok(rules)
        })
        .await
    }

    async fn remove_access_rule(&self, requester: Requester, number: i64) -> Result<(), Error> {
        self.change(requester, move |tx, record| {
            let found = collect(tx, "WHERE access_rule.number = ?1", [number])?.pop();
            let rule = found.ok_or(Error::UnknownRule(number))?;
            tx.execute("DELETE FROM access_rule WHERE number = ?1", [number])?;
            record.add(
                Action::RemoveAccessRule,
                rule.subject(),
                Some(rule.to_string()),
            );
            Ok(())
        })
        .await
    }

    async fn set_groups(
        &self,
        requester: Requester,
        called: String,
        groups: Vec<String>,
    ) -> Result<(), Error> {
        self.change(requester, move |tx, record| {
            let id = identity_called(tx, &called)?;
            replace_groups(tx, &id, &groups)?;
            let details = match groups.as_slice() {
                [] => "no groups".to_owned(),
                groups => format!("groups {}", groups.join(", ")),
            };
            let subject = Subject::with_id("identity", &id, None);
            record.add(Action::SetGroups, subject, Some(details));
            Ok(())
        })
        .await
    }
}

/// Lets the clients of an earlier program, which could reach everything, go on to do so.
pub(super) fn keep_access_of_clients(tx: &Transaction<'_>, now: SystemTime) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO access_rule (identity_id, gateway, target, created_at)
         SELECT identity_id, ?1, '*', ?2 FROM identity_role WHERE role = 'client'
         AND identity_id NOT IN (SELECT identity_id FROM identity_role WHERE role = 'admin')",
        (EVERY_GATEWAY, millis(now)),
    )?;
    Ok(())
}

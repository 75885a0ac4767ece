//! Access rules and groups, for administrators.

use std::time::SystemTime;

use axum::extract::{Path, State};

use super::admin::{done, gateway_name};
use super::auth::{Administrators, By};
use super::body::Json;
use super::error::ApiError;
use super::{App, rfc3339};
use crate::access::{self, Verdict, judge};
use crate::api::access::{
    AccessRule as Row, AccessVerdict, AllowAccess, CheckAccess, EVERY_GATEWAY, GROUP_PREFIX,
    Outcome, SetGroups,
};
use crate::api::types::Message;
use crate::config::targets::Rule;
use crate::store::{AccessRule, NewWho, Who};

/// Longest name of a group, in characters.
const MAX_GROUP: usize = 64;
/// Groups of one identity.
const MAX_GROUPS: usize = 100;
/// Targets of one request.
const MAX_TARGETS: usize = 100;

/// `POST access-rules`
pub(crate) async fn allow(
    State(app): State<App>,
    by: By<Administrators>,
    Json(request): Json<AllowAccess>,
) -> Result<axum::Json<Vec<Row>>, ApiError> {
    let who = match request.who.strip_prefix(GROUP_PREFIX) {
        Some(name) => NewWho::Group(group(name)?),
        None => NewWho::Identity(request.who),
    };
    let gateway = match request.gateway.as_str() {
        EVERY_GATEWAY => request.gateway,
        _ => gateway_name(request.gateway)?.to_string(),
    };
    if !(1..=MAX_TARGETS).contains(&request.targets.len()) {
        let rule = format!("give 1 to {MAX_TARGETS} targets");
        return Err(ApiError::invalid(&["targets"], &rule));
    }
    let parse = |text: &String| {
        let wrong = |error| ApiError::invalid(&["targets"], &format!("{text:?}: {error}"));
        text.parse::<Rule>().map_err(wrong)
    };
    let targets = request.targets.iter().map(parse);
    let targets = targets.collect::<Result<Vec<_>, _>>()?;
    let now = SystemTime::now();
    let rules = app
        .store()
        .allow_access(by.requester, who, gateway, targets, now)
        .await?;
    Ok(axum::Json(rules.into_iter().map(row).collect()))
}

/// `GET access-rules`
pub(crate) async fn list(
    State(app): State<App>,
    _: By<Administrators>,
) -> Result<axum::Json<Vec<Row>>, ApiError> {
    let rules = app.store().access_rules().await?;
    Ok(axum::Json(rules.into_iter().map(row).collect()))
}

/// `DELETE access-rules/{number}`
pub(crate) async fn remove(
    State(app): State<App>,
    by: By<Administrators>,
    Path(number): Path<i64>,
) -> Result<axum::Json<Message>, ApiError> {
    app.store().remove_access_rule(by.requester, number).await?;
    Ok(done(
        "the access rule was removed; sessions that are open go on, and certificates that were issued are \
         valid for up to five minutes",
    ))
}

/// `POST access-rules/check`
pub(crate) async fn check(
    State(app): State<App>,
    _: By<Administrators>,
    Json(request): Json<CheckAccess>,
) -> Result<axum::Json<AccessVerdict>, ApiError> {
    let gateway = app
        .store()
        .gateway_named(gateway_name(request.gateway)?)
        .await?;
    let id = app.store().identity_called(request.who).await?;
    let (name, host) = (gateway.name.as_str(), &request.target_host);
    let verdict = verdict(&app, id, name, host, request.target_port).await?;
    let reason = verdict.to_string();
    let (outcome, reason, rules) = match verdict {
        Verdict::Unrestricted => (Outcome::Allowed, reason, Vec::new()),
        Verdict::Allowed(rule) => (Outcome::Allowed, reason, vec![rule]),
        Verdict::OnAddresses(rules) if gateway.judges_addresses => {
            (Outcome::GatewayDecides, reason, rules)
        }
        Verdict::OnAddresses(rules) => (Outcome::Denied, access::cannot_judge(&gateway), rules),
        Verdict::Denied | Verdict::TooMany | Verdict::NoRole => {
            (Outcome::Denied, reason, Vec::new())
        }
    };
    Ok(axum::Json(AccessVerdict {
        outcome,
        reason,
        rules: rules.into_iter().map(row).collect(),
    }))
}

/// Whether `identity` may reach the target through the gateway called `gateway`.
pub(super) async fn verdict(
    app: &App,
    identity: String,
    gateway: &str,
    host: &str,
    port: u16,
) -> Result<Verdict, ApiError> {
    let access = app.store().access(identity, gateway.to_owned()).await?;
    let host = access::host(host)
        .map_err(|error| ApiError::invalid(&["targetHost"], &error.to_string()))?;
    Ok(judge(access, &host, port))
}

/// `POST identity-groups`
pub(crate) async fn set_groups(
    State(app): State<App>,
    by: By<Administrators>,
    Json(request): Json<SetGroups>,
) -> Result<axum::Json<Message>, ApiError> {
    let groups = groups(&request.groups)?;
    let names = match groups.as_slice() {
        [] => "no group".to_owned(),
        [name] => format!("the group {name}"),
        names => format!("the groups {}", names.join(", ")),
    };
    let message = format!("identity {} is now in {names}", request.identity);
    app.store()
        .set_groups(by.requester, request.identity, groups)
        .await?;
    Ok(done(&message))
}

/// Names of groups that were given.
pub(super) fn groups(names: &[String]) -> Result<Vec<String>, ApiError> {
    if names.len() > MAX_GROUPS {
        let rule = format!("an identity has at most {MAX_GROUPS} groups");
        return Err(ApiError::invalid(&["groups"], &rule));
    }
    names.iter().map(|name| group(name)).collect()
}

/// Leaves out of the groups that a provider names those whose names cannot be names of groups here.
pub(super) fn leave_out_invalid(names: &mut Vec<String>) {
    let count = names.len();
    names.retain(|name| group(name).is_ok());
    names.truncate(MAX_GROUPS);
    if names.len() < count {
        tracing::warn!(
            left_out = count - names.len(),
            "groups that the OpenID provider names are left out: their names are not valid here, or there \
             are too many"
        );
    }
}

fn group(name: &str) -> Result<String, ApiError> {
    let is_valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !(1..=MAX_GROUP).contains(&name.len()) || !name.chars().all(is_valid) {
        let rule = format!(
            "the name of a group has 1 to {MAX_GROUP} letters, digits, hyphens, underscores or dots"
        );
        return Err(ApiError::invalid(&["groups"], &rule));
    }
    Ok(name.to_owned())
}

fn row(rule: AccessRule) -> Row {
    let (who, identity_id) = match rule.who {
        Who::Identity { id, name } => (name, Some(id)),
        Who::Group(name) => (format!("{GROUP_PREFIX}{name}"), None),
    };
    Row {
        number: rule.number,
        who,
        identity_id,
        gateway: rule.gateway,
        target: rule.target.to_string(),
        created_at: rfc3339(rule.created_at),
    }
}

//! What `infisical platform … list` prints: tables for people, and with `--json` objects whose shape
//! docs/json.md describes. Secrets are in neither; the platform does not send them.

use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use super::print::{json_object, print, table};
use crate::api::types::{Gateway, Identity, Reach, Relay, Status};
use crate::humanize::Rounded;

/// What stands for what is not known.
pub(super) const NONE: &str = "-";

/// How a list is printed.
#[derive(Debug, Args)]
pub(super) struct Format {
    /// Print JSON (version 1, docs/json.md)
    #[arg(long)]
    json: bool,
}

/// A row of the list of gateways, with what the embedded platform adds.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListedGateway {
    #[serde(flatten)]
    row: Gateway,
    relay_name: Option<String>,
    #[serde(flatten)]
    reach: Reach,
}

/// A row of the list of relays.
#[derive(Debug, Deserialize)]
pub(super) struct ListedRelay {
    #[serde(flatten)]
    row: Relay,
    #[serde(flatten)]
    reach: Reach,
}

/// A one-time token, without the token.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListedEnrollment {
    kind: String,
    name: String,
    host: Option<String>,
    expires_at: String,
}

impl Format {
    pub(super) const fn is_json(&self) -> bool {
        self.json
    }

    pub(super) fn print<T, const N: usize>(
        &self,
        kind: &str,
        rows: &[T],
        object: impl Fn(&T) -> Value,
        head: [&str; N],
        cells: impl Fn(&T) -> [String; N],
    ) -> anyhow::Result<()> {
        if self.json {
            let objects: Vec<_> = rows.iter().map(object).collect();
            return print(&json_object([(kind, objects.into())]));
        }
        print(&table(head, rows.iter().map(cells)))
    }

    pub(super) fn gateways(&self, gateways: &[ListedGateway]) -> anyhow::Result<()> {
        let object = |ListedGateway {
                          row,
                          relay_name,
                          reach,
                      }: &ListedGateway| {
            let object = json!({
                "id": row.id,
                "name": row.name,
                "identity_id": row.identity_id,
                "relay": relay_name,
                "created_at": row.created_at,
            });
            with_reach(object, reach, row.heartbeat.as_deref())
        };
        // What is read most stands first: a terminal wraps the end.
        let head = ["NAME", "STATUS", "RELAY", "HEARTBEAT", "VERSION", "ID"];
        self.print("gateways", gateways, object, head, |gateway| {
            let [status, heartbeat, version] = reach_cells(&gateway.reach);
            let relay = gateway.relay_name.as_deref().unwrap_or(NONE).to_owned();
            let (name, id) = (gateway.row.name.to_string(), gateway.row.id.to_string());
            [name, status, relay, heartbeat, version, id]
        })
    }

    pub(super) fn relays(&self, relays: &[ListedRelay]) -> anyhow::Result<()> {
        let owner = |relay: &ListedRelay| match relay.row.org_id {
            Some(_) => "organization",
            None => "instance",
        };
        let object = |relay: &ListedRelay| {
            let ListedRelay { row, reach } = relay;
            let object = json!({
                "id": row.id,
                "name": row.name,
                "host": row.host,
                "owner": owner(relay),
                "identity_id": row.identity_id,
                "created_at": row.created_at,
            });
            with_reach(object, reach, row.heartbeat.as_deref())
        };
        let head = ["NAME", "HOST", "OWNER", "STATUS", "HEARTBEAT", "VERSION"];
        self.print("relays", relays, object, head, |relay| {
            let [status, heartbeat, version] = reach_cells(&relay.reach);
            let (name, host) = (relay.row.name.to_string(), relay.row.host.to_string());
            [
                name,
                host,
                owner(relay).to_owned(),
                status,
                heartbeat,
                version,
            ]
        })
    }

    pub(super) fn identities(&self, identities: &[Identity]) -> anyhow::Result<()> {
        let login = |identity: &Identity| match (&identity.person, &identity.client_id) {
            (Some(_), _) => "oidc",
            (None, Some(_)) => "universal-auth",
            (None, None) => "token",
        };
        let object = |identity: &Identity| {
            json!({
                "id": identity.id,
                "name": identity.name,
                "roles": identity.roles,
                "groups": identity.groups,
                "login": login(identity),
                "client_id": identity.client_id,
                "person": identity.person,
                "created_at": identity.created_at,
            })
        };
        let head = ["NAME", "ROLES", "GROUPS", "LOGIN", "CREATED", "ID"];
        let joined = |names: &[String]| match names.is_empty() {
            true => NONE.to_owned(),
            false => names.join(","),
        };
        self.print("identities", identities, object, head, |identity| {
            let (roles, groups) = (joined(&identity.roles), joined(&identity.groups));
            let created = minutes(&identity.created_at);
            let (name, id) = (identity.name.clone(), identity.id.clone());
            [name, roles, groups, login(identity).to_owned(), created, id]
        })
    }

    pub(super) fn enrollments(&self, enrollments: &[ListedEnrollment]) -> anyhow::Result<()> {
        let object = |enrollment: &ListedEnrollment| {
            json!({
                "kind": enrollment.kind,
                "name": enrollment.name,
                "host": enrollment.host,
                "expires_at": enrollment.expires_at,
            })
        };
        let head = ["KIND", "NAME", "HOST", "EXPIRES"];
        self.print(
            "enrollment_tokens",
            enrollments,
            object,
            head,
            |enrollment| {
                [
                    enrollment.kind.clone(),
                    enrollment.name.clone(),
                    enrollment.host.as_deref().unwrap_or(NONE).to_owned(),
                    minutes(&enrollment.expires_at),
                ]
            },
        )
    }
}

/// `object` with what is known of heartbeats, of which `last` is the time of the last one.
fn with_reach(mut object: Value, reach: &Reach, last: Option<&str>) -> Value {
    if let Some(fields) = object.as_object_mut() {
        for (name, value) in [
            ("status", json!(reach.status)),
            ("unreachable_since", json!(reach.unreachable_since)),
            ("last_heartbeat", json!(last)),
            (
                "last_heartbeat_age_seconds",
                json!(reach.heartbeat_age_seconds),
            ),
            ("program_version", json!(reach.program_version)),
        ] {
            fields.insert(name.to_owned(), value);
        }
    }
    object
}

/// Status, age of the last heartbeat, and version.
fn reach_cells(reach: &Reach) -> [String; 3] {
    let status = match (reach.status, &reach.unreachable_since) {
        (Status::Reachable, _) => "reachable".to_owned(),
        (Status::Unreachable, Some(since)) => format!("unreachable since {}", minutes(since)),
        (Status::Unreachable, None) => "unreachable".to_owned(),
        (Status::NeverSeen, _) => "never seen".to_owned(),
    };
    let heartbeat = match reach.heartbeat_age_seconds {
        Some(seconds) => format!("{} ago", Rounded(Duration::from_secs(seconds))),
        None => "never".to_owned(),
    };
    let version = reach.program_version.as_deref().unwrap_or(NONE).to_owned();
    [status, heartbeat, version]
}

/// A time of the API to the minute: `2026-11-24 10:00 UTC`.
pub(super) fn minutes(time: &str) -> String {
    // `YYYY-MM-DDTHH:MM:SS…Z`, RFC 3339.
    match (time.get(..10), time.get(11..16), time.ends_with('Z')) {
        (Some(date), Some(minute), true) => format!("{date} {minute} UTC"),
        _ => time.to_owned(),
    }
}

/// The same to the second: `2026-11-24 10:00:03 UTC`.
pub(super) fn to_the_second(time: &str) -> String {
    match (time.get(..10), time.get(11..19), time.ends_with('Z')) {
        (Some(date), Some(second), true) => format!("{date} {second} UTC"),
        _ => time.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{minutes, reach_cells};
    use crate::api::types::{Reach, Status};

    #[test]
    fn status_is_shown_with_its_time() {
        let since = "2026-11-24T10:00:03.5Z".to_owned();
        for (status, unreachable_since, age, expected) in [
            (
                Status::Reachable,
                None,
                Some(12),
                ["reachable", "12 s ago", "0.1.0"],
            ),
            (
                Status::Unreachable,
                Some(since),
                Some(7200),
                ["unreachable since 2026-11-24 10:00 UTC", "2 h ago", "0.1.0"],
            ),
            (
                Status::Unreachable,
                None,
                Some(1),
                ["unreachable", "1 s ago", "0.1.0"],
            ),
            (
                Status::NeverSeen,
                None,
                None,
                ["never seen", "never", "0.1.0"],
            ),
        ] {
            let cells = reach_cells(&Reach {
                status,
                unreachable_since,
                heartbeat_age_seconds: age,
                program_version: Some("0.1.0".to_owned()),
            });
            assert_eq!(cells, expected);
        }
        assert_eq!(minutes("soon"), "soon");
    }
}

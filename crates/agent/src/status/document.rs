//! The status as JSON: what the status socket serves and `--json` prints. Its shape is versioned and
//! documented in docs/json.md.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::condition::Severity;
use super::{Load, Phase, Report};

/// The version of the shape. It changes when a field changes its meaning or goes; new fields may
/// come without.
pub const VERSION: u32 = 1;

/// Which role reports, and what it is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// `gateway` or `relay`.
    pub role: String,
    /// Its name in its configuration.
    pub name: String,
    /// The version of the program.
    pub program_version: String,
    /// The process.
    pub pid: u32,
    /// Its configuration.
    #[serde(default)]
    pub configuration: Option<Configuration>,
}

/// The configuration file of a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// Where the role reads it.
    pub file: PathBuf,
    /// True for a copy, which the service manager makes when the service starts.
    pub is_copy: bool,
}

/// What a role does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The first attempt is under way.
    Starting,
    /// It serves.
    Up,
    /// The last attempt failed; the next one follows.
    Retrying,
    /// What is open finishes before the end.
    Stopping,
}

/// The status of a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// [`VERSION`].
    pub version: u32,
    /// Which role it is.
    #[serde(flatten)]
    pub origin: Origin,
    /// What the platform calls it, where it tells.
    pub platform_name: Option<String>,
    /// The platform's id of it, where it tells.
    pub id: Option<String>,
    /// What it does.
    pub state: State,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// The relay that a gateway's tunnel goes to.
    pub relay: Option<String>,
    /// The host of the relay that a gateway was sent to last, or a relay's own.
    #[serde(default)]
    pub relay_host: Option<String>,
    /// The CA of that relay's host certificate, as a line of OpenSSH; a public key.
    #[serde(default)]
    pub relay_host_ca: Option<String>,
    /// What is served.
    #[serde(flatten)]
    pub serves: Serves,
    /// When the first of its certificates expires.
    #[serde(with = "time::serde::rfc3339::option")]
    pub certificate_expires: Option<OffsetDateTime>,
    /// When they are renewed, unless something speaks for it before.
    #[serde(with = "time::serde::rfc3339::option")]
    pub certificate_renews: Option<OffsetDateTime>,
    /// When the access token expires, as far as is known.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub token_expires: Option<OffsetDateTime>,
    /// The last heartbeat.
    pub heartbeat: Option<Heartbeat>,
    /// When the configuration in use was read.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub configuration_read: Option<OffsetDateTime>,
    /// What failed last, the newest first; at most three.
    pub failures: Vec<Failure>,
    /// What is wrong now.
    pub conditions: Vec<Condition>,
    /// A gateway's sessions that are open, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sessions: Vec<LiveSession>,
}

/// What a gateway knows of its sessions; of a relay nothing.
#[derive(Debug, Clone, Default)]
pub struct Sessions {
    /// Those that are open, the oldest first.
    pub open: Vec<LiveSession>,
    /// Bytes from clients to targets since the start.
    pub bytes_to_targets: u64,
    /// Bytes from targets to clients since the start.
    pub bytes_from_targets: u64,
}

/// A session that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveSession {
    /// Unique as long as the program runs, and the same in the log.
    pub id: u64,
    /// On whose behalf it is, as the client's certificate says.
    pub actor_type: Option<String>,
    /// The actor's id.
    pub actor_id: Option<String>,
    /// The actor's name.
    pub actor_name: Option<String>,
    /// The ALPN name, once the handshake is complete.
    pub service: Option<String>,
    /// The target that was asked for, as `host:port`.
    pub target: Option<String>,
    /// The address that it is connected to.
    pub address: Option<SocketAddr>,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// Bytes from the client to the target.
    pub bytes_to_target: u64,
    /// Bytes from the target to the client.
    pub bytes_from_target: u64,
    /// Whole seconds since the last bytes either way.
    pub idle_seconds: u64,
}

/// What a role serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Serves {
    /// A gateway's sessions.
    Gateway {
        /// Sessions that are open.
        sessions_open: usize,
        /// Sessions since the start.
        sessions_total: u64,
        /// Bytes from clients to targets since the start.
        #[serde(default)]
        bytes_to_targets: u64,
        /// Bytes from targets to clients since the start.
        #[serde(default)]
        bytes_from_targets: u64,
        /// Rules that allow targets; if there are any, all others are refused.
        #[serde(default)]
        allow_rules: usize,
        /// Rules that refuse targets.
        #[serde(default)]
        deny_rules: usize,
    },
    /// A relay's peers.
    Relay {
        /// Gateways with a tunnel.
        gateways: usize,
        /// Clients that authenticated.
        clients: usize,
        /// Bytes that tunnels hold now.
        buffered_bytes: usize,
        /// The most that they may hold.
        buffer_limit_bytes: usize,
    },
}

/// A heartbeat and its result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// True if the platform reached the role.
    pub ok: bool,
    /// Why it failed.
    pub error: Option<String>,
}

/// Something that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// When, the last time.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// How often.
    pub count: u64,
    /// Why.
    pub error: String,
}

/// A condition that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// A word that stays the same.
    pub id: String,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub title: String,
    /// What was seen.
    pub detail: String,
    /// What it comes from.
    pub cause: String,
    /// What to do about it.
    pub fix: String,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
}

/// How a role is, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// It serves, and nothing is wrong.
    Healthy,
    /// It serves, and something is wrong.
    Degraded,
    /// It does not serve.
    Down,
}

impl Document {
    /// What `report` says of `origin` now, with a gateway's `sessions`.
    #[must_use]
    pub fn new(origin: Origin, report: &Report, sessions: Sessions) -> Self {
        let (state, relay) = match &report.phase {
            Phase::Starting => (State::Starting, None),
            Phase::Up(relay) => (State::Up, relay.as_ref()),
            Phase::Retrying { .. } => (State::Retrying, None),
            Phase::Draining => (State::Stopping, None),
        };
        let credentials = report.credentials.as_ref();
        let address = report.address.as_ref();
        let renews = credentials.map(|credentials| SystemTime::now() + credentials.renews_in());
        Self {
            version: VERSION,
            origin,
            platform_name: report.name.clone(),
            id: report.id.clone(),
            state,
            since: utc(report.since),
            relay: relay.map(|relay| relay.as_str().to_owned()),
            relay_host: address.map(|address| address.host.to_string()),
            relay_host_ca: address.and_then(|address| address.host_ca.clone()),
            serves: serves(report, &sessions),
            certificate_expires: credentials.map(|credentials| utc(credentials.expires())),
            certificate_renews: renews.map(utc),
            token_expires: report.token.at().map(utc),
            heartbeat: report.heartbeat.as_ref().map(|heartbeat| Heartbeat {
                at: utc(heartbeat.at),
                ok: heartbeat.error.is_none(),
                error: heartbeat.error.clone(),
            }),
            // To the nanosecond, as the times of files are.
            configuration_read: Some(report.configured.into()),
            failures: report.failures.iter().map(failure).collect(),
            conditions: report.visible_conditions().iter().map(condition).collect(),
            sessions: sessions.open,
        }
    }

    /// How the role is, in one word.
    #[must_use]
    pub fn health(&self) -> Health {
        match self.state {
            State::Up if self.conditions.is_empty() => Health::Healthy,
            State::Up => Health::Degraded,
            State::Starting | State::Retrying | State::Stopping => Health::Down,
        }
    }
}

fn serves(report: &Report, counted: &Sessions) -> Serves {
    match report.load {
        Load::Gateway { sessions } => Serves::Gateway {
            sessions_open: sessions,
            sessions_total: report.sessions_total,
            bytes_to_targets: counted.bytes_to_targets,
            bytes_from_targets: counted.bytes_from_targets,
            allow_rules: report.target_rules.0,
            deny_rules: report.target_rules.1,
        },
        Load::Relay {
            gateways,
            clients,
            buffered,
            buffer_limit,
        } => Serves::Relay {
            gateways,
            clients,
            buffered_bytes: buffered,
            buffer_limit_bytes: buffer_limit,
        },
    }
}

fn failure(failure: &super::Failure) -> Failure {
    Failure {
        at: utc(failure.at),
        count: failure.count,
        error: failure.error.clone(),
    }
}

fn condition(active: &super::Active) -> Condition {
    let condition = active.condition;
    Condition {
        id: condition.id.to_owned(),
        severity: condition.severity,
        title: condition.title.to_owned(),
        detail: active.detail.clone(),
        cause: condition.cause.to_owned(),
        fix: condition.fix.to_owned(),
        since: utc(active.since),
    }
}

/// To the second. What lies beyond the years with four digits, as for a certificate that never
/// expires, is their end.
#[must_use]
pub fn utc(time: SystemTime) -> OffsetDateTime {
    const LAST: i64 = 253_402_300_799;
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    let seconds = since.as_ref().map_or(0, Duration::as_secs);
    let seconds = i64::try_from(seconds).unwrap_or(LAST).min(LAST);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Document, Health, Origin, Sessions};
    use crate::status::condition::{NO_TUNNEL, NOT_REACHED};
    use crate::status::{Reporter, gateway, relay};

    fn origin(role: &str) -> Origin {
        Origin {
            role: role.to_owned(),
            name: "edge-1".to_owned(),
            program_version: "1.2.3".to_owned(),
            pid: 7,
            configuration: None,
        }
    }

    #[test]
    fn health_follows_state_and_conditions() {
        type Change = fn(&Reporter);
        let steps: [(Change, Health); 5] = [
            (|_| (), Health::Down),
            (|reporter| reporter.up(None, None), Health::Healthy),
            (
                |reporter| reporter.up(None, Some((&NOT_REACHED, "502"))),
                Health::Degraded,
            ),
            (
                |reporter| reporter.retrying(&NO_TUNNEL, "refused".to_owned(), Duration::ZERO),
                Health::Down,
            ),
            (Reporter::draining, Health::Down),
        ];
        let (reporter, mut monitor) = gateway();
        for (change, health) in steps {
            change(&reporter);
            let document = Document::new(origin("gateway"), &monitor.report(), Sessions::default());
            assert_eq!(document.health(), health, "{document:?}");
        }
    }

    #[test]
    fn documents_survive_json() {
        for (role, (reporter, mut monitor)) in [("gateway", gateway()), ("relay", relay())] {
            reporter.heartbeat(Some("502".to_owned()));
            reporter.retrying(&NO_TUNNEL, "refused".to_owned(), Duration::ZERO);
            let document = Document::new(origin(role), &monitor.report(), Sessions::default());
            let json = serde_json::to_string(&document).expect("JSON");
            let read: Document = serde_json::from_str(&json).expect("read");
            assert_eq!(read, document, "{json}");
            assert!(json.contains(r#""version":1,"role":""#), "{json}");
        }
    }
}

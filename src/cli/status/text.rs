//! The status of roles as a person reads it.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::time::{Duration, SystemTime};

use indicatif::BinaryBytes;
use time::OffsetDateTime;

use crate::agent::status::condition::Severity;
use crate::agent::status::document::{Condition, Document, Health, LiveSession, Serves, State};
use crate::cli::print::filled;
use crate::config::env::Environment;
use crate::humanize::{Count, Rounded, Utc};

/// Width of the column of names.
const NAMES: usize = 13;

/// Colours of a terminal, or none.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Colours(pub(super) bool);

impl Colours {
    /// Those of standard output, if it is a terminal and the environment does not forbid them.
    pub(in crate::cli) fn of_output(environment: &Environment) -> Self {
        let may_paint = environment.can_draw() && !environment.no_color;
        Self(io::stdout().is_terminal() && may_paint)
    }

    pub(in crate::cli) fn paint(self, code: &str, text: &str) -> String {
        match self {
            Self(true) => format!("\x1b[{code}m{text}\x1b[0m"),
            Self(false) => text.to_owned(),
        }
    }

    fn health(self, health: Health, text: &str) -> String {
        let code = match health {
            Health::Healthy => "32",
            Health::Degraded => "33",
            Health::Down => "31",
        };
        self.paint(code, text)
    }

    fn severity(self, severity: Severity, text: &str) -> String {
        let code = match severity {
            Severity::Warning => "33",
            Severity::Critical => "31",
        };
        self.paint(code, text)
    }
}

/// `document` in lines, as of `now`.
pub(super) fn render(
    document: &Document,
    colours: Colours,
    width: usize,
    now: SystemTime,
) -> String {
    let mut text = String::new();
    let line = |head: &str, value: &str| filled(head, &printable(value), width) + "\n";
    let mut row = |name: &str, value: &str| {
        text.push_str(&line(&format!("{name:>NAMES$}: "), value));
    };
    let health = document.health();
    let origin = &document.origin;
    let ago = |at: OffsetDateTime| {
        let ago = now.duration_since(at.into()).unwrap_or_default();
        format!("{} ago", Rounded(ago))
    };
    row(&origin.role, &known_as(document));
    let state = colours.health(health, state(document.state));
    // The colours are no text of the document. Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{:>NAMES$}: {state} since {} ({})",
        "state",
        Utc(document.since.into()),
        ago(document.since)
    );
    let mut row = |name: &str, value: &str| {
        text.push_str(&line(&format!("{name:>NAMES$}: "), value));
    };
    if let Some(relay) = &document.relay {
        row("relay", relay);
    }
    match document.serves {
        Serves::Gateway {
            sessions_open,
            sessions_total,
            bytes_to_targets,
            bytes_from_targets,
            allow_rules,
            deny_rules,
        } => {
            let sessions = format!("{sessions_open} open, {sessions_total} since the start");
            row("sessions", &sessions);
            let [to, from] = [bytes_to_targets, bytes_from_targets].map(BinaryBytes);
            row("bytes", &format!("{to} to targets, {from} from them"));
            if (allow_rules, deny_rules) != (0, 0) {
                row(
                    "policy",
                    &format!("{allow_rules} allow and {deny_rules} deny rules for targets"),
                );
            }
        }
        Serves::Relay {
            gateways,
            clients,
            buffered_bytes,
            buffer_limit_bytes,
        } => {
            let (gateways, clients) = (Count(gateways, "gateway"), Count(clients, "client"));
            row("serves", &format!("{gateways} and {clients}"));
            let (used, limit) = (buffered_bytes >> 20, buffer_limit_bytes >> 20);
            row("buffers", &format!("{used} of {limit} MiB"));
        }
    }
    let validity = |expires: SystemTime| match expires.duration_since(now) {
        Ok(left) => format!("valid for {} (until {})", Rounded(left), Utc(expires)),
        Err(_) => format!("expired {}", Utc(expires)),
    };
    if let Some(expires) = document.certificate_expires {
        let mut line = validity(expires.into());
        if let Some(renews) = document.certificate_renews {
            let left = SystemTime::from(renews)
                .duration_since(now)
                .unwrap_or(Duration::ZERO);
            let _ = write!(line, ", renewed in {}", Rounded(left));
        }
        row("certificate", &line);
    }
    if let Some(expires) = document.token_expires {
        row("access token", &validity(expires.into()));
    }
    let heartbeat = document.heartbeat.as_ref().map_or_else(
        || "none yet".to_owned(),
        |heartbeat| match &heartbeat.error {
            None => format!("reached {}", ago(heartbeat.at)),
            Some(error) => format!("failed {}: {error}", ago(heartbeat.at)),
        },
    );
    row("heartbeat", &heartbeat);
    row(
        "process",
        &format!("{} (version {})", origin.pid, origin.program_version),
    );
    for (index, failure) in document.failures.iter().enumerate() {
        let name = if index == 0 { "last failures" } else { "" };
        let times = match failure.count {
            1 => String::new(),
            count => format!(" ({count} times)"),
        };
        let separator = if index == 0 { ':' } else { ' ' };
        let told = format!("{}{times}: {}", ago(failure.at), failure.error);
        text.push_str(&line(&format!("{name:>NAMES$}{separator} "), &told));
    }
    for condition in &document.conditions {
        text.push_str(&described(condition, colours, width));
    }
    text
}

/// The columns of the list of sessions.
pub(super) const SESSION_HEAD: [&str; 7] = [
    "ACTOR",
    "TARGET",
    "ADDRESS",
    "AGE",
    "TO TARGET",
    "FROM TARGET",
    "IDLE",
];

/// A session in those columns.
pub(super) fn session_row(open: &LiveSession, now: SystemTime) -> [String; 7] {
    let actor = open.actor_name.as_ref().or(open.actor_id.as_ref());
    let actor = actor.or(open.actor_type.as_ref());
    let known = |text: Option<&String>| text.map_or_else(|| "-".to_owned(), |text| printable(text));
    let age = now.duration_since(open.since.into()).unwrap_or_default();
    [
        known(actor),
        known(open.target.as_ref()),
        open.address
            .map_or_else(|| "-".to_owned(), |address| address.to_string()),
        Rounded(age).to_string(),
        format!("{} KiB", open.bytes_to_target.div_ceil(1024)),
        format!("{} KiB", open.bytes_from_target.div_ceil(1024)),
        Rounded(Duration::from_secs(open.idle_seconds)).to_string(),
    ]
}

/// A condition, with what to do about it.
fn described(condition: &Condition, colours: Colours, width: usize) -> String {
    let title = colours.severity(condition.severity, &printable(&condition.title));
    let detail = match condition.detail.as_str() {
        "" => String::new(),
        detail => format!(": {}", printable(detail)),
    };
    let title = filled("  ", &format!("{title}{detail}"), width);
    let cause = filled("    why:  ", &printable(&condition.cause), width);
    let fix = filled("    then: ", &printable(&condition.fix), width);
    format!("\n{title}\n{cause}\n{fix}\n")
}

/// Its name, and what the platform calls it.
fn known_as(document: &Document) -> String {
    let mut text = document.origin.name.clone();
    if let Some(name) = &document.platform_name
        && *name != text
    {
        let _ = write!(text, ", on the platform {name}");
    }
    if let Some(id) = &document.id {
        let _ = write!(text, " (id {id})");
    }
    text
}

fn state(state: State) -> &'static str {
    match state {
        State::Starting => "starting",
        State::Up => "up",
        State::Retrying => "down, trying again",
        State::Stopping => "stopping",
    }
}

/// Without what would move the cursor of a terminal.
fn printable(text: &str) -> String {
    crate::error::printable(text)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::{Colours, render};
    use crate::agent::status::condition::Severity;
    use crate::agent::status::document::{
        Condition, Document, Failure, Heartbeat, Origin, Serves, State, VERSION,
    };

    const NOW: u64 = 1_800_000_000;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn gateway() -> Document {
        Document {
            version: VERSION,
            origin: Origin {
                role: "gateway".to_owned(),
                name: "edge-1".to_owned(),
                program_version: "1.2.3".to_owned(),
                pid: 7,
                configuration: None,
            },
            platform_name: Some("edge-1".to_owned()),
            id: Some("0b1".to_owned()),
            state: State::Up,
            since: at(NOW - 7200).into(),
            relay: Some("eu-1".to_owned()),
            relay_host: None,
            relay_host_ca: None,
            serves: Serves::Gateway {
                sessions_open: 2,
                sessions_total: 40,
                bytes_to_targets: 700,
                bytes_from_targets: 3 << 30,
                allow_rules: 0,
                deny_rules: 0,
            },
            certificate_expires: Some(at(NOW + 36_000).into()),
            certificate_renews: Some(at(NOW + 18_000).into()),
            token_expires: Some(at(NOW + 3600).into()),
            heartbeat: Some(Heartbeat {
                at: at(NOW - 90).into(),
                ok: true,
                error: None,
            }),
            configuration_read: None,
            failures: Vec::new(),
            conditions: Vec::new(),
            sessions: Vec::new(),
        }
    }

    #[test]
    fn healthy_gateway_is_seven_rows() {
        let text = render(&gateway(), Colours(false), usize::MAX, at(NOW));
        let expected = "      gateway: edge-1 (id 0b1)
        state: up since 2027-01-15 06:00:00 UTC (2 h ago)
        relay: eu-1
     sessions: 2 open, 40 since the start
        bytes: 700 B to targets, 3.00 GiB from them
  certificate: valid for 10 h (until 2027-01-15 18:00:00 UTC), renewed in 5 h
 access token: valid for 60 min (until 2027-01-15 09:00:00 UTC)
    heartbeat: reached 90 s ago
      process: 7 (version 1.2.3)
";
        assert_eq!(text, expected);
    }

    #[test]
    fn conditions_name_cause_and_fix() {
        let mut document = gateway();
        let failure = |error: &str, count| Failure {
            at: at(NOW - 5).into(),
            count,
            error: error.to_owned(),
        };
        document.failures = vec![failure("timed out", 3), failure("no\x1b[1m route", 1)];
        document.conditions = vec![Condition {
            id: "no-tunnel".to_owned(),
            severity: Severity::Critical,
            title: "no tunnel".to_owned(),
            detail: "refused".to_owned(),
            cause: "a cause".to_owned(),
            fix: "a fix".to_owned(),
            since: at(NOW).into(),
        }];
        let text = render(&document, Colours(true), usize::MAX, at(NOW));
        let end = text.split_once("process").expect("rows").1;
        let expected = ": 7 (version 1.2.3)
last failures: 5 s ago (3 times): timed out
               5 s ago: no [1m route

  \x1b[31mno tunnel\x1b[0m: refused
    why:  a cause
    then: a fix
";
        assert_eq!(end, expected);
    }
}

//! `infisical platform audit`: the platform's record of sessions, logins, enrollments and
//! administration.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime};

use super::admin::Administrator;
use super::global::Global;
use super::platform_audit_verify as verify;
use super::platform_lists::{Format, NONE, to_the_second};
use crate::api::types::AuditEntry;

/// Units of a time that is given.
const UNITS: [(char, u64); 4] = [('s', 1), ('m', 60), ('h', 3600), ('d', 24 * 3600)];

/// List who asked for sessions, logged in, enrolled or administered the platform
#[derive(Debug, ClapArgs)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
The platform keeps 250,000 entries, for the days that platform start --audit-retention says. Sessions that were issued \
and administrative changes are on record before their answer; of one caller's refusals, 60 at once and then one every \
10 s are, and of one identity's logins from one address, 60 at once and then one every 10 minutes.

Examples:
  infisical platform audit
  infisical platform audit --since 7d --kind administration
  infisical platform audit --since 2026-11-28
  infisical platform audit --json
  infisical platform audit verify"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// How far back: 90s, 30m, 12h or 7d, or since when: a day (2026-11-28) or a time
    /// (2026-11-28T09:00:00Z)
    #[arg(long, value_name = "WHEN", default_value = "24h", value_parser = since)]
    since: Since,
    /// List entries of this kind only
    #[arg(long, value_name = "KIND")]
    kind: Option<Kind>,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    administrator: Administrator,
}

#[derive(Debug, Subcommand)]
enum Command {
    Verify(verify::Args),
}

/// What an entry is about.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// Sessions that were issued or refused
    Session,
    /// Logins of identities
    Login,
    /// Enrollments of gateways and relays
    Enrollment,
    /// What administrators and operators have changed, and the relay auth secret that they read
    Administration,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Login => "login",
            Self::Enrollment => "enrollment",
            Self::Administration => "administration",
        }
    }
}

/// From when on entries are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    Ago(Duration),
    At(OffsetDateTime),
}

impl Since {
    /// In seconds since 1970.
    fn timestamp(self, now: SystemTime) -> u64 {
        match self {
            Self::Ago(time) => {
                let since = now.checked_sub(time);
                let since = since.and_then(|since| since.duration_since(UNIX_EPOCH).ok());
                since.unwrap_or_default().as_secs()
            }
            Self::At(time) => u64::try_from(time.unix_timestamp()).unwrap_or_default(),
        }
    }
}

/// Reads `--since`. A day begins at midnight in UTC, in which all times of the record are shown.
fn since(text: &str) -> Result<Since, &'static str> {
    const RULE: &str = "give a number and s, m, h or d, such as 12h, a day as 2026-11-28, or a time as \
         2026-11-28T09:00:00Z";
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(Since::At(time));
    }
    if let Ok(day) = Date::parse(text, format_description!("[year]-[month]-[day]")) {
        return Ok(Since::At(day.midnight().assume_utc()));
    }
    let unit = text.chars().last().ok_or(RULE)?;
    let found = UNITS.into_iter().find(|(letter, _)| *letter == unit);
    let (letter, seconds) = found.ok_or(RULE)?;
    let number = text.strip_suffix(letter).ok_or(RULE)?;
    let number: u64 = number.parse().map_err(|_| RULE)?;
    let total = number.checked_mul(seconds).ok_or("it is too long")?;
    Ok(Since::Ago(Duration::from_secs(total)))
}

impl Args {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        if let Some(Command::Verify(args)) = self.command {
            return args.run(global).await;
        }
        let admin = self.administrator.connect(global)?;
        let since = self.since.timestamp(SystemTime::now());
        let kind = self.kind.map(Kind::as_str);
        let mut entries: Vec<AuditEntry> = Vec::new();
        let mut after = 0;
        loop {
            let path = format!("/v1/embedded/audit/{since}/{after}");
            let page: Vec<AuditEntry> = admin.get("reading the audit entries", &path).await?;
            let Some(last) = page.last() else {
                break;
            };
            after = last.number;
            let wanted = |entry: &AuditEntry| kind.is_none_or(|kind| entry.kind == kind);
            entries.extend(page.into_iter().filter(wanted));
        }
        let head = ["TIME", "KIND", "ACTOR", "SOURCE", "ABOUT", "OUTCOME"];
        self.format.print("audit", &entries, object, head, cells)
    }
}

fn is_session(entry: &AuditEntry) -> bool {
    entry.kind == Kind::Session.as_str()
}

fn outcome(entry: &AuditEntry) -> &'static str {
    match entry.class {
        None if is_session(entry) => "issued",
        None => "done",
        Some(_) => "refused",
    }
}

fn object(entry: &AuditEntry) -> Value {
    let gateway = entry.subject.as_ref().filter(|_| is_session(entry));
    let gateway = gateway.map(|gateway| json!({"id": gateway.id, "name": gateway.name}));
    let (target, details) = match is_session(entry) {
        true => (&entry.details, &None),
        false => (&None, &entry.details),
    };
    json!({
        "number": entry.number,
        "time": entry.time,
        "kind": entry.kind,
        "action": entry.action,
        "actor": entry.actor,
        "source": entry.source,
        "subject": entry.subject,
        "gateway": gateway,
        "target": target,
        "details": details,
        "outcome": outcome(entry),
        "class": entry.class,
        "reason": entry.reason,
        "left_out": entry.left_out,
        "hash": entry.hash,
    })
}

fn called(kind: &str, name: Option<&str>, id: Option<&str>) -> String {
    match name.or(id) {
        Some(called) => format!("{kind} {called}"),
        None => kind.to_owned(),
    }
}

/// What was asked for, in words.
fn about(entry: &AuditEntry) -> String {
    let subject = entry.subject.as_ref();
    let subject = subject.map(|subject| {
        let (name, id) = (subject.name.as_deref(), subject.id.as_deref());
        called(&subject.kind, name, id)
    });
    let details = entry.details.as_deref();
    if is_session(entry) {
        return format!(
            "{} through {}",
            details.unwrap_or(NONE),
            subject.as_deref().unwrap_or(NONE)
        );
    }
    let mut text = entry.action.clone();
    for part in [subject.as_deref(), details].into_iter().flatten() {
        text.push_str(": ");
        text.push_str(part);
    }
    text
}

fn cells(entry: &AuditEntry) -> [String; 6] {
    let actor = &entry.actor;
    let mut ending = match &entry.reason {
        None => outcome(entry).to_owned(),
        Some(reason) => {
            let class = entry.class.as_deref().unwrap_or(NONE);
            format!("{} ({class}): {reason}", outcome(entry))
        }
    };
    // Those of logins are in the details.
    if entry.left_out > 0 && entry.action != "count-logins" {
        ending.push_str(&format!(
            "; {} refusals before it are not listed",
            entry.left_out
        ));
    }
    [
        to_the_second(&entry.time),
        entry.kind.clone(),
        called(&actor.kind, actor.name.as_deref(), actor.id.as_deref()),
        entry.source.as_deref().unwrap_or(NONE).to_owned(),
        about(entry),
        ending,
    ]
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::since;

    const NOW: u64 = 1_900_000_000;

    fn timestamp(text: &str) -> Option<u64> {
        let now = UNIX_EPOCH + Duration::from_secs(NOW);
        since(text).ok().map(|since| since.timestamp(now))
    }

    #[test]
    fn duration_has_a_unit() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("12h", 43_200), ("7d", 604_800)] {
            assert_eq!(timestamp(text), Some(NOW - seconds), "{text}");
        }
        assert_eq!(timestamp("999999999d"), Some(0), "the beginning");
        for bad in ["", "h", "12", "-1h", "1w", "1hh h", "99999999999999999999d"] {
            assert_eq!(timestamp(bad), None, "{bad}");
        }
        assert_eq!(timestamp(&format!("{}d", u64::MAX)), None);
    }

    #[test]
    fn day_or_time_is_absolute() {
        for (text, seconds) in [
            ("2026-11-28", 1_795_824_000),
            ("2026-11-28T00:00:00Z", 1_795_824_000),
            ("2026-11-28T01:30:00.5+01:00", 1_795_825_800),
            ("1969-12-31", 0),
        ] {
            assert_eq!(timestamp(text), Some(seconds), "{text}");
        }
        for bad in ["2026-11-31", "2026-11-28T09:00:00", "2026-11", "yesterday"] {
            assert_eq!(timestamp(bad), None, "{bad}");
        }
    }
}

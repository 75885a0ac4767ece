//! `infisical platform audit`: the platform's record of sessions, logins, enrollments and
//! administration.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use serde_json::{Value, json};

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
  infisical platform audit --json
  infisical platform audit verify"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// How far back: a number of seconds, minutes, hours or days, such as 90s, 30m, 12h or 7d
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
    since: Duration,
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

fn duration(text: &str) -> Result<Duration, &'static str> {
    const RULE: &str = "give a number and s, m, h or d, such as 12h";
    let unit = text.chars().last().ok_or(RULE)?;
    let found = UNITS.into_iter().find(|(letter, _)| *letter == unit);
    let (letter, seconds) = found.ok_or(RULE)?;
    let number = text.strip_suffix(letter).ok_or(RULE)?;
    let number: u64 = number.parse().map_err(|_| RULE)?;
    let total = number.checked_mul(seconds).ok_or("it is too long")?;
    Ok(Duration::from_secs(total))
}

impl Args {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        if let Some(Command::Verify(args)) = self.command {
            return args.run(global).await;
        }
        let admin = self.administrator.connect(global)?;
        let since = SystemTime::now().checked_sub(self.since);
        let since = since.and_then(|since| since.duration_since(UNIX_EPOCH).ok());
        let since = since.unwrap_or_default().as_secs();
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
    use std::time::Duration;

    use super::duration;

    #[test]
    fn duration_has_a_unit() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("12h", 43_200), ("7d", 604_800)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "h", "12", "-1h", "1w", "1hh h", "99999999999999999999d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert!(duration(&format!("{}d", u64::MAX)).is_err());
    }
}

//! `infisical platform audit`: the platform's record of the sessions that were asked for.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args as ClapArgs;
use serde_json::{Value, json};

use super::admin::Administrator;
use super::global::Global;
use super::platform_lists::{Format, NONE, to_the_second};
use crate::api::types::AuditEntry;

/// Units of a time that is given.
const UNITS: [(char, u64); 4] = [('s', 1), ('m', 60), ('h', 3600), ('d', 24 * 3600)];

/// List who asked for a session, and whether the platform issued it
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
The platform keeps 250,000 entries, for 90 days at most. Sessions that were issued are on record before the client \
has the certificates; of one caller's refusals, 60 at once and then one every 10 s are.

Examples:
  infisical platform audit
  infisical platform audit --since 7d --json")]
pub(super) struct Args {
    /// How far back: a number of seconds, minutes, hours or days, such as 90s, 30m, 12h or 7d
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
    since: Duration,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    administrator: Administrator,
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
        let admin = self.administrator.connect(global)?;
        let since = SystemTime::now().checked_sub(self.since);
        let since = since.and_then(|since| since.duration_since(UNIX_EPOCH).ok());
        let since = since.unwrap_or_default().as_secs();
        let mut entries: Vec<AuditEntry> = Vec::new();
        loop {
            let after = entries.last().map_or(0, |entry| entry.number);
            let path = format!("/v1/embedded/audit/{since}/{after}");
            let page: Vec<AuditEntry> = admin.get("reading the audit entries", &path).await?;
            if page.is_empty() {
                break;
            }
            entries.extend(page);
        }
        let head = ["TIME", "ACTOR", "GATEWAY", "TARGET", "OUTCOME"];
        self.format.print("audit", &entries, object, head, cells)
    }
}

const fn outcome(entry: &AuditEntry) -> &'static str {
    match entry.class {
        None => "issued",
        Some(_) => "refused",
    }
}

fn object(entry: &AuditEntry) -> Value {
    json!({
        "number": entry.number,
        "time": entry.time,
        "actor": entry.actor,
        "gateway": entry.gateway,
        "target": entry.target,
        "outcome": outcome(entry),
        "class": entry.class,
        "reason": entry.reason,
        "left_out": entry.left_out,
    })
}

fn cells(entry: &AuditEntry) -> [String; 5] {
    let actor = &entry.actor;
    let called = actor.name.as_deref().or(actor.id.as_deref());
    let actor = match called {
        Some(called) => format!("{} {called}", actor.kind),
        None => actor.kind.clone(),
    };
    let mut ending = match &entry.reason {
        None => outcome(entry).to_owned(),
        Some(reason) => {
            let class = entry.class.as_deref().unwrap_or(NONE);
            format!("{} ({class}): {reason}", outcome(entry))
        }
    };
    if entry.left_out > 0 {
        ending.push_str(&format!(
            "; {} refusals before it are not listed",
            entry.left_out
        ));
    }
    [
        to_the_second(&entry.time),
        actor,
        entry.gateway.name.clone(),
        entry.target.clone(),
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

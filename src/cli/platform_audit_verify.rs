//! `infisical platform audit verify`: whether the platform's record is as it was written.

use std::str::FromStr;

use clap::Args as ClapArgs;
use serde_json::json;

use super::admin::Administrator;
use super::exit::{Code, Failure};
use super::global::Global;
use super::print::{json_object, print};
use crate::api::types::AuditVerification;

/// Hexadecimal digits of a hash.
const DIGITS: usize = 64;

/// Verify that the record is as it was written, by its chain of hashes
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
The last line has number and hash of the newest entry. Keep it elsewhere: who can write the database can rewrite all of \
the record and its hashes, which only shows in comparison with a hash that was kept.

The exit code is 0 if all entries hold, and 1 if one does not.

Examples:
  infisical platform audit verify
  infisical platform audit verify --expect 1042:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
pub(super) struct Args {
    /// Compare with this entry, which an earlier verification has printed
    #[arg(long, value_name = "NUMBER:HASH")]
    expect: Option<Kept>,
    /// Print JSON (version 1, docs/json.md)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    administrator: Administrator,
}

/// Number and hash of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    number: i64,
    hash: String,
}

impl FromStr for Kept {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const RULE: &str = "give a number, a colon and a hash of 64 hexadecimal digits";
        let (number, hash) = text.split_once(':').ok_or(RULE)?;
        let number = number.parse().ok().filter(|number| *number > 0);
        if hash.len() != DIGITS || !hash.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(RULE);
        }
        Ok(Self {
            number: number.ok_or(RULE)?,
            hash: hash.to_ascii_lowercase(),
        })
    }
}

/// What the comparison with a kept entry gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Same,
    Different,
    /// It comes after the last entry that holds.
    Missing,
    /// The retention has removed it.
    Removed,
}

impl Comparison {
    fn of(kept: &Kept, found: &AuditVerification) -> Self {
        match &found.asked {
            Some(hash) if *hash == kept.hash => Self::Same,
            Some(_) => Self::Different,
            None if kept.number < found.removed => Self::Removed,
            None => Self::Missing,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Different => "different",
            Self::Missing => "missing",
            Self::Removed => "removed",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Same => "is the one that was kept",
            Self::Different => "is not the one that was kept: the record was rewritten",
            Self::Missing => "is not among the entries that hold",
            Self::Removed => "was removed by the retention and cannot be compared",
        }
    }
}

impl Args {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let admin = self.administrator.connect(global)?;
        let number = self.expect.as_ref().map_or(0, |kept| kept.number);
        let path = format!("/v1/embedded/audit-chain/{number}");
        let found: AuditVerification = admin.get("verifying the record", &path).await?;
        let expected = self.expect.as_ref();
        let expected = expected.map(|kept| (kept.number, Comparison::of(kept, &found)));
        print(&match self.json {
            true => json_object([
                ("entries", json!(found.entries)),
                ("removed", json!(found.removed)),
                ("number", json!(found.number)),
                ("hash", json!(found.hash)),
                ("broken", json!(found.broken)),
                (
                    "expected",
                    json!(expected.map(|(number, comparison)| json!({
                        "number": number, "outcome": comparison.as_str(),
                    }))),
                ),
            ]),
            false => sentences(&found, expected),
        })?;
        let holds = expected.is_none_or(|(_, comparison)| comparison == Comparison::Same);
        if found.broken.is_none() && holds {
            return Ok(());
        }
        let failed = anyhow::Error::msg("the record is not as it was written");
        Err(Failure::of(Code::Degraded, failed).into())
    }
}

fn sentences(found: &AuditVerification, expected: Option<(i64, Comparison)>) -> String {
    let mut text = format!("Entries that hold: {}", found.entries);
    if found.entries > 0 {
        let first = found.removed.saturating_add(1);
        text.push_str(&format!(", from number {first} to {}", found.number));
    }
    text.push('\n');
    if found.removed > 0 {
        text.push_str(&format!(
            "Earlier ones, up to number {}, are gone: the retention has removed them\n",
            found.removed
        ));
    }
    if let Some((number, comparison)) = expected {
        text.push_str(&format!("Entry {number} {}\n", comparison.words()));
    }
    let last = match &found.broken {
        None => "Newest entry",
        Some(broken) => {
            text.push_str(&format!(
                "The chain breaks at number {}: {}\n",
                broken.number, broken.reason
            ));
            "Last entry that holds"
        }
    };
    text.push_str(&format!("{last}: {}:{}\n", found.number, found.hash));
    text
}

#[cfg(test)]
mod tests {
    use super::{Comparison, Kept, sentences};
    use crate::api::types::{AuditBreak, AuditVerification};

    fn found() -> AuditVerification {
        AuditVerification {
            removed: 2,
            entries: 5,
            number: 7,
            hash: "a".repeat(64),
            broken: None,
            asked: None,
        }
    }

    #[test]
    fn kept_entry_has_number_and_hash() {
        let hash = "aB".repeat(32);
        let kept: Kept = format!("7:{hash}").parse().expect("both");
        assert_eq!((kept.number, kept.hash.as_str()), (7, &*"ab".repeat(32)));
        for bad in ["", "7", "7:", "7:abc", ":abc", "x:abc"] {
            assert!(bad.parse::<Kept>().is_err(), "{bad}");
        }
        for bad in ["0", "-1", "x", ""] {
            assert!(format!("{bad}:{hash}").parse::<Kept>().is_err(), "{bad}");
        }
    }

    #[test]
    fn kept_entry_is_compared() {
        let kept = |number| Kept {
            number,
            hash: "b".repeat(64),
        };
        let with = |asked: &str| AuditVerification {
            asked: Some(asked.repeat(64)),
            ..found()
        };
        for (number, found, expected) in [
            (7, with("b"), Comparison::Same),
            (7, with("a"), Comparison::Different),
            (8, found(), Comparison::Missing),
            (1, found(), Comparison::Removed),
        ] {
            assert_eq!(Comparison::of(&kept(number), &found), expected);
        }
    }

    #[test]
    fn sentences_name_the_break() {
        let whole = sentences(&found(), Some((7, Comparison::Same)));
        for part in ["from number 3 to 7", "up to number 2", "Newest entry: 7:aa"] {
            assert!(whole.contains(part), "{part}: {whole}");
        }
        let broken = AuditVerification {
            broken: Some(AuditBreak {
                number: 8,
                reason: "it is missing".to_owned(),
            }),
            ..found()
        };
        let broken = sentences(&broken, None);
        for part in [
            "breaks at number 8: it is missing",
            "Last entry that holds: 7:",
        ] {
            assert!(broken.contains(part), "{part}: {broken}");
        }
    }
}

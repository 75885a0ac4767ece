//! `infisical platform ca`: the certification authorities of the platform, and their rotation.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::admin::Administrator;
use super::global::Global;
use super::platform_lists::{Format, minutes};
use super::print::{json_object, print};
use crate::api::types::{AdvanceCas, CaGeneration, CaStatus};
use crate::error::printable;

const PATH: &str = "/v1/embedded/certification-authorities";
/// How long before its end a CA is warned of.
const WARNED: time::Duration = time::Duration::days(365);

/// The certification authorities, and their rotation, which cuts no tunnel
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the generations of CAs, how far a rotation is, and whom it waits for
    Status {
        #[command(flatten)]
        format: Format,
        #[command(flatten)]
        administrator: Administrator,
    },
    /// Make a new generation of all CAs: it signs when every gateway and relay holds its anchors, and
    /// the old one is removed when nothing that it has signed is valid
    Rotate {
        #[command(flatten)]
        administrator: Administrator,
    },
    /// Take the next step of a rotation, which the platform takes by itself when no one is cut off
    Advance(Advance),
}

/// See the command.
#[derive(Debug, Args)]
pub(super) struct Advance {
    /// Do not wait for gateways and relays that are not ready: they cannot connect, nor be reached by
    /// new sessions, until they have new credentials
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    administrator: Administrator,
}

impl Command {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        match self {
            Self::Status {
                format,
                administrator,
            } => {
                let admin = administrator.connect(global)?;
                let status: CaStatus = admin.get("reading the state of the CAs", PATH).await?;
                if format.is_json() {
                    return print(&object(&status));
                }
                print(&text(&status, OffsetDateTime::now_utc()))
            }
            Self::Rotate { administrator } => {
                let admin = administrator.connect(global)?;
                let path = format!("{PATH}/rotate");
                let status = admin.post("rotating the CAs", &path, &json!({})).await?;
                print(&text(&status, OffsetDateTime::now_utc()))
            }
            Self::Advance(Advance {
                force,
                administrator,
            }) => {
                let admin = administrator.connect(global)?;
                let path = format!("{PATH}/advance");
                let request = json!(AdvanceCas { force });
                let status = admin
                    .post("advancing the rotation", &path, &request)
                    .await?;
                print(&text(&status, OffsetDateTime::now_utc()))
            }
        }
    }
}

/// What the phase means, in words.
fn meaning(phase: &str) -> &str {
    match phase {
        "settled" => "no rotation is under way",
        "distribute" => {
            "gateways and relays get the anchors of the new generation, which signs nothing yet"
        }
        "retire" => {
            "the new generation signs; the old one is removed when nothing that it has signed is valid"
        }
        other => other,
    }
}

fn text(status: &CaStatus, now: OffsetDateTime) -> String {
    let mut text = format!("Phase: {}\n", meaning(&printable(&status.phase)));
    for generation in &status.generations {
        let signs = match (generation.signs, &generation.signs_since) {
            (true, Some(since)) => format!("signs since {}", minutes(since)),
            (true, None) => "signs".to_owned(),
            (false, _) => "is an anchor only".to_owned(),
        };
        let CaGeneration {
            number,
            authorities,
            expires_at,
            ..
        } = generation;
        let _ = writeln!(
            text,
            "Generation {number}: {} CAs, {signs}; expires {}",
            authorities.len(),
            minutes(expires_at)
        );
        let expiry = OffsetDateTime::parse(expires_at, &Rfc3339);
        if generation.signs && expiry.is_ok_and(|at| at - now < WARNED) {
            text.push_str(
                "  It expires within a year: infisical platform ca rotate makes a new one.\n",
            );
        }
    }
    for holder in &status.waits_for {
        let _ = writeln!(
            text,
            "Waits for {} {}, until its credentials expire at {}",
            printable(&holder.kind),
            printable(&holder.name),
            minutes(&holder.expires_at)
        );
    }
    if let Some(at) = &status.not_before {
        let _ = writeln!(
            text,
            "The old generation is kept until {} at least",
            minutes(at)
        );
    }
    text
}

fn object(status: &CaStatus) -> String {
    let generations = status.generations.iter().map(|generation| {
        json!({
            "number": generation.number,
            "signs": generation.signs,
            "created_at": generation.created_at,
            "signs_since": generation.signs_since,
            "expires_at": generation.expires_at,
            "authorities": generation.authorities,
        })
    });
    let waits_for = status.waits_for.iter().map(|holder| {
        json!({
            "type": holder.kind,
            "name": holder.name,
            "expires_at": holder.expires_at,
        })
    });
    json_object([
        ("phase", status.phase.as_str().into()),
        ("generations", generations.collect::<Vec<_>>().into()),
        ("waits_for", waits_for.collect::<Vec<_>>().into()),
        ("not_before", status.not_before.as_deref().into()),
    ])
}

#[cfg(test)]
mod tests {
    use time::{Duration, OffsetDateTime};

    use super::text;
    use crate::api::types::{CaGeneration, CaHolder, CaStatus};

    #[test]
    fn status_warns_a_year_ahead() {
        let status = CaStatus {
            phase: "distribute".to_owned(),
            generations: vec![CaGeneration {
                number: 1,
                signs: true,
                created_at: "2026-01-01T00:00:00Z".to_owned(),
                signs_since: Some("2026-01-01T00:00:00Z".to_owned()),
                expires_at: "2046-01-01T00:00:00Z".to_owned(),
                authorities: vec!["ssh-user".to_owned()],
            }],
            waits_for: vec![CaHolder {
                kind: "gateway".to_owned(),
                name: "edge".to_owned(),
                expires_at: "2026-02-01T00:00:00Z".to_owned(),
            }],
            not_before: None,
        };
        let end = OffsetDateTime::from_unix_timestamp(2_398_377_600).expect("2046");
        let warned = |ahead| text(&status, end - ahead).contains("within a year");
        assert!(warned(Duration::days(364)));
        assert!(!warned(Duration::days(366)));
        assert!(text(&status, end).contains("Waits for gateway edge"));
    }
}

//! `infisical platform sessions`: the sessions that gateways have reported as open.

use std::io::{self, Write as _};

use clap::Args as ClapArgs;
use serde_json::{Value, json};

use super::admin::Administrator;
use super::global::Global;
use super::platform_lists::{Format, NONE, to_the_second};
use super::print::{json_object, print, table};
use crate::api::session_reports::{GatewaySessions, OpenSessions, ReportedSession};
use crate::error::printable;

/// List the sessions that are open now
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Gateways of this program report their sessions within seconds of a change, and the bytes of open ones every minute. \
Administrators and operators see all sessions, clients their own (--token-file FILE, or INFISICAL_TOKEN).

Examples:
  infisical platform sessions
  infisical platform sessions --json")]
pub(super) struct Args {
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    administrator: Administrator,
}

impl Args {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let admin = self.administrator.connect(global)?;
        let path = "/v1/embedded/sessions";
        let OpenSessions { gateways } = admin.get("listing the open sessions", path).await?;
        let sessions = gateways.iter().flat_map(|gateway| {
            let sessions = gateway.sessions.iter();
            sessions.map(move |session| (gateway, session))
        });
        if self.format.is_json() {
            let sessions: Vec<_> = sessions.map(object).collect();
            let gateways: Vec<_> = gateways.iter().map(summary).collect();
            return print(&json_object([
                ("sessions", sessions.into()),
                ("gateways", gateways.into()),
            ]));
        }
        let head = [
            "GATEWAY",
            "WHO",
            "TARGET",
            "SINCE",
            "TO TARGET",
            "FROM TARGET",
        ];
        print(&table(head, sessions.map(cells)))?;
        for note in gateways.iter().filter_map(note) {
            let _ = writeln!(io::stderr(), "{note}");
        }
        Ok(())
    }
}

/// What the table does not show of a gateway.
fn note(gateway: &GatewaySessions) -> Option<String> {
    let name = printable(&gateway.gateway_name);
    let listed = gateway.sessions.len();
    match (gateway.reported_age_seconds, gateway.open) {
        (None, _) => Some(format!(
            "Gateway {name} has not reported its sessions lately: it is not reachable, or its program \
             does not report any."
        )),
        (Some(_), Some(open)) if u64::try_from(listed).is_ok_and(|listed| listed < open) => Some(
            format!("Gateway {name} has {open} open sessions; the newest {listed} are listed."),
        ),
        (Some(_), _) => None,
    }
}

fn object((gateway, session): (&GatewaySessions, &ReportedSession)) -> Value {
    json!({
        "gateway": {"id": gateway.gateway_id, "name": gateway.gateway_name},
        "id": session.id,
        "actor_type": session.actor_type,
        "actor_id": session.actor_id,
        "actor_name": session.actor_name,
        "target": session.target,
        "since": session.since,
        "bytes_to_target": session.bytes_to_target,
        "bytes_from_target": session.bytes_from_target,
    })
}

fn summary(gateway: &GatewaySessions) -> Value {
    json!({
        "id": gateway.gateway_id,
        "name": gateway.gateway_name,
        "sessions_open": gateway.open,
        "reported_age_seconds": gateway.reported_age_seconds,
    })
}

fn cells((gateway, session): (&GatewaySessions, &ReportedSession)) -> [String; 6] {
    let who = session.actor_name.as_ref().or(session.actor_id.as_ref());
    let who = who.or(session.actor_type.as_ref());
    let known =
        |text: Option<&String>| text.map_or_else(|| NONE.to_owned(), |text| printable(text));
    let kib = |bytes: u64| format!("{} KiB", bytes.div_ceil(1024));
    [
        printable(&gateway.gateway_name),
        known(who),
        known(session.target.as_ref()),
        to_the_second(&printable(&session.since)),
        kib(session.bytes_to_target),
        kib(session.bytes_from_target),
    ]
}

#[cfg(test)]
mod tests {
    use super::note;
    use crate::api::session_reports::GatewaySessions;

    #[test]
    fn notes_tell_what_is_not_listed() {
        let gateway = |open, reported_age_seconds| GatewaySessions {
            gateway_id: "1".to_owned(),
            gateway_name: "edge".to_owned(),
            open,
            reported_age_seconds,
            sessions: Vec::new(),
        };
        let of = |open, age| note(&gateway(open, age)).unwrap_or_default();
        assert!(of(None, None).contains("has not reported"));
        assert!(of(Some(230), Some(1)).contains("edge has 230 open sessions; the newest 0"));
        assert_eq!(of(Some(0), Some(1)), "");
        // A client sees its own only, and no number.
        assert_eq!(of(None, Some(1)), "");
    }
}

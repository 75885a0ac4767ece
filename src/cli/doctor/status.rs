//! What the running role says of itself: registration, tunnel and heartbeat. A failure of these
//! that follows from a layer below is that layer's.

use std::time::SystemTime;

use super::layer::{Check, Fault, HEARTBEAT, Layer, Outcome, REGISTRATION, SERVING};
use crate::agent::status::condition::{
    EXPIRED, HEARTBEAT_UNANSWERED, NO_TUNNEL, NOT_REACHED, NOT_REGISTERED, NOT_RENEWED,
};
use crate::agent::status::document::{Condition, Document, State};
use crate::humanize::Rounded;
use crate::names::TLS_PORT;

/// What to do about a failure that no layer below explains.
const AS_DETAILED: &str = "Do what the detail says; it is tried again by itself.";

/// `condition` as the failure of `layer`.
pub(super) fn failed(layer: &'static Layer, condition: &Condition) -> Check {
    let detail = match condition.detail.as_str() {
        "" => condition.title.clone(),
        detail => format!("{}: {detail}", condition.title),
    };
    let (cause, mut fix) = (condition.cause.clone(), condition.fix.clone());
    if condition.id == NO_TUNNEL.id {
        // Its own advice is to run this command.
        fix = AS_DETAILED.to_owned();
    }
    Check::failed(layer, Fault::new(detail, cause, fix))
}

/// The first condition of `document` with one of these ids.
fn condition<'a>(document: &'a Document, ids: &[&str]) -> Option<&'a Condition> {
    let mut conditions = document.conditions.iter();
    conditions.find(|condition| ids.contains(&condition.id.as_str()))
}

/// Whether the platform issued certificates.
pub(super) fn registration(document: &Document) -> Check {
    let ids = [NOT_REGISTERED.id, EXPIRED.id, NOT_RENEWED.id];
    if let Some(condition) = condition(document, &ids) {
        return failed(&REGISTRATION, condition);
    }
    let Some(expires) = document.certificate_expires else {
        return match condition(document, &[NO_TUNNEL.id]) {
            Some(condition) => failed(&REGISTRATION, condition),
            None => Check::skipped(&REGISTRATION, "it is under way; ask again in a moment"),
        };
    };
    let left = SystemTime::from(expires).duration_since(SystemTime::now());
    let left = Rounded(left.unwrap_or_default());
    let id = document.id.as_deref();
    let id = id.map_or_else(String::new, |id| format!("id {id}, "));
    Check::good(&REGISTRATION, format!("{id}certificates valid for {left}"))
}

/// Whether a gateway has its tunnel, or a relay serves.
pub(super) fn serving(document: &Document) -> Check {
    match document.state {
        State::Up => {
            let relay = document.relay.as_ref();
            let detail = relay.map_or_else(
                || "serving".to_owned(),
                |relay| format!("up, through relay {relay}"),
            );
            Check::good(&SERVING, detail)
        }
        State::Starting => Check::skipped(&SERVING, "it is being made; ask again in a moment"),
        State::Stopping => {
            let (cause, fix) = ("It was told to stop.", "Start it again when it has ended.");
            Check::failed(&SERVING, Fault::new("stopping", cause, fix))
        }
        State::Retrying => match condition(document, &[NO_TUNNEL.id, NOT_REGISTERED.id]) {
            Some(condition) => failed(&SERVING, condition),
            None => {
                let detail = document.failures.first();
                let detail = detail.map_or("retrying", |failure| failure.error.as_str());
                let cause = "The last attempt failed, as the detail says.";
                Check::failed(&SERVING, Fault::new(detail, cause, AS_DETAILED))
            }
        },
    }
}

/// The platform does not get through to the relay at `host`, which this machine does.
fn unreached(detail: String, host: &str) -> Fault {
    let cause = format!(
        "The platform cannot reach {host}:{TLS_PORT}, which is open to this machine: a firewall or the network \
         between them blocks the port, or the relay's host means another machine there."
    );
    let fix = format!(
        "Let the platform's addresses connect to port {TLS_PORT} of {host}, in the firewall or security group before \
         the relay, and give the relay a --host that the platform resolves to it."
    );
    Fault::new(detail, cause, fix)
}

/// Whether the platform reaches it; `relay_tls` is what was found of the port where it arrives.
pub(super) fn heartbeat(document: &Document, relay_tls: Option<&Check>) -> Check {
    let ids = [NOT_REACHED.id, HEARTBEAT_UNANSWERED.id];
    if let Some(condition) = condition(document, &ids) {
        let failed = failed(&HEARTBEAT, condition);
        let is_open_here = relay_tls.is_some_and(Check::is_good);
        return match (&document.relay_host, failed.outcome) {
            (Some(host), Outcome::Failed(fault))
                if is_open_here && condition.id == NOT_REACHED.id =>
            {
                Check::failed(&HEARTBEAT, unreached(fault.detail, host))
            }
            (_, outcome) => Check {
                layer: &HEARTBEAT,
                outcome,
            },
        };
    }
    match &document.heartbeat {
        None => Check::skipped(&HEARTBEAT, "none was sent yet; ask again in a moment"),
        Some(heartbeat) => {
            let ago = SystemTime::now().duration_since(heartbeat.at.into());
            let ago = Rounded(ago.unwrap_or_default());
            match &heartbeat.error {
                None => Check::good(&HEARTBEAT, format!("the platform reached it {ago} ago")),
                Some(error) => {
                    let detail = format!("{ago} ago: {error}");
                    let (cause, fix) = (HEARTBEAT_UNANSWERED.cause, HEARTBEAT_UNANSWERED.fix);
                    Check::failed(&HEARTBEAT, Fault::new(detail, cause, fix))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::layer::{Check, Fault, RELAY_TLS};
    use super::heartbeat;
    use crate::agent::status;
    use crate::agent::status::condition::NOT_REACHED;
    use crate::agent::status::document::{Document, Origin, Sessions};

    /// The relay's port is open here and the platform's connection does not arrive: the port is
    /// closed on the platform's side.
    #[test]
    fn port_closed_to_the_platform_is_named() {
        let (reporter, monitor) = status::gateway();
        reporter.up(None, Some((&NOT_REACHED, "502")));
        let origin = Origin {
            role: "gateway".to_owned(),
            name: "edge".to_owned(),
            program_version: String::new(),
            pid: 1,
            configuration: None,
        };
        let mut document = Document::new(origin, &monitor.now(), Sessions::default());
        document.relay_host = Some("relay.example".to_owned());
        document.since = SystemTime::now().into();
        let open = Check::good(&RELAY_TLS, "connected");
        let fault = Fault::new("refused", "cause", "fix");
        let closed = Check::failed(&RELAY_TLS, fault);
        for (port, says) in [(&open, true), (&closed, false)] {
            let json = heartbeat(&document, Some(port)).json();
            let cause = json["cause"].as_str().expect("a cause");
            let named = cause.starts_with("The platform cannot reach relay.example:8443");
            assert_eq!(named, says, "{json}");
        }
    }
}

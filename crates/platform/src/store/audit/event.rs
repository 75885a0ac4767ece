//! The event about an entry: the journal has each of them, with its hash.

use tracing::field;

use super::entry::AuditEntry;
use crate::event;
use crate::events::{self, Event};

/// Logs the event about `entry`.
pub(in crate::store) fn log(entry: &AuditEntry) {
    let is_refused = entry.refusal_class.is_some();
    // One that this program does not know is none that it writes.
    match (entry.kind.as_str(), is_refused) {
        ("session", false) => session(events::SESSION_ISSUED, entry),
        ("session", true) => session(events::SESSION_REFUSED, entry),
        ("login", false) => other(events::LOGIN_SUCCEEDED, entry),
        ("login", true) => other(events::LOGIN_REFUSED, entry),
        ("enrollment", false) => other(events::ENROLLMENT_SUCCEEDED, entry),
        ("enrollment", true) => other(events::ENROLLMENT_REFUSED, entry),
        _ => other(events::ADMINISTERED, entry),
    }
}

/// As text, where it is there.
fn shown(text: Option<&String>) -> Option<field::DisplayValue<&String>> {
    text.map(field::display)
}

/// As hashes are shown.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn session(event: Event, entry: &AuditEntry) {
    event!(
        event,
        audit.number = entry.number,
        audit.hash = %hex(&entry.hash),
        actor.type = %entry.actor_kind,
        actor.id = shown(entry.actor_id.as_ref()),
        actor.name = shown(entry.actor_name.as_ref()),
        source.address = shown(entry.source.as_ref()),
        gateway.id = shown(entry.subject_id.as_ref()),
        gateway.name = shown(entry.subject_name.as_ref()),
        target.name = shown(entry.details.as_ref()),
        error = shown(entry.refusal_reason.as_ref()),
    );
}

fn other(event: Event, entry: &AuditEntry) {
    event!(
        event,
        audit.number = entry.number,
        audit.hash = %hex(&entry.hash),
        audit.action = %entry.action,
        actor.type = %entry.actor_kind,
        actor.id = shown(entry.actor_id.as_ref()),
        actor.name = shown(entry.actor_name.as_ref()),
        source.address = shown(entry.source.as_ref()),
        subject.type = shown(entry.subject_kind.as_ref()),
        subject.id = shown(entry.subject_id.as_ref()),
        subject.name = shown(entry.subject_name.as_ref()),
        details = shown(entry.details.as_ref()),
        error = shown(entry.refusal_reason.as_ref()),
    );
}

//! Tells the service manager how many are connected, what they make the relay hold, and how long
//! the certificates are still good. Logs which organizations have used up their share of the
//! memory.

use std::sync::Arc;
use std::time::Duration;

use super::hub::Hub;
use crate::host::notify;
use crate::humanize::{Count, RoundedUp};
use crate::{event, events};

/// Between two looks. Gateways and clients come and go by the hundred; no one reads faster than
/// this.
const INTERVAL: Duration = Duration::from_secs(5);

/// Longest part of an organization's id that is shown, in characters.
const MAX_SHOWN: usize = 64;

/// Tells forever, whenever the line is another one.
pub(crate) async fn run(hub: Arc<Hub>) {
    let mut said = String::new();
    loop {
        warn_of_shares(&hub);
        let line = line(&hub);
        if line != said {
            notify::status(&line);
            said = line;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn warn_of_shares(hub: &Hub) {
    for (organization, bytes) in hub.buffers.take_short() {
        let organization: String = organization.escape_default().take(MAX_SHOWN).collect();
        let event = events::BUFFERS_SHORT;
        if let Some(permission) = hub.refusals.should_log(event.text, &organization) {
            event!(
                event,
                organization,
                mib = bytes >> 20,
                limit_mib = hub.buffers.limit() >> 20,
                suppressed = permission.suppressed()
            );
        }
    }
}

fn line(hub: &Hub) -> String {
    let identity = hub.identity();
    // Not in the line below, where the registry would stay locked.
    let gateways = hub.registry().len();
    let mut line = format!(
        "serving {} and {}, {} of {} MiB buffered, certificate valid for {}",
        Count(gateways, "gateway"),
        Count(hub.clients_connected(), "client"),
        hub.buffered() >> 20,
        hub.buffers.limit() >> 20,
        RoundedUp(identity.expires_in()),
    );
    if let Some(warning) = hub.warning() {
        line.push_str("; but ");
        line.push_str(&warning);
    }
    line
}

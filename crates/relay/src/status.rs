//! Publishes how many are connected and what they make the relay hold. Logs which organizations
//! have used up their share of the memory.

use std::sync::Arc;
use std::time::Duration;

use super::hub::Hub;
use crate::agent::status::{Load, Reporter};
use crate::{event, events};

/// Between two looks. Gateways and clients come and go by the hundred; no one reads faster than
/// this.
const INTERVAL: Duration = Duration::from_secs(5);

/// Longest part of an organization's id that is shown, in characters.
const MAX_SHOWN: usize = 64;

/// Publishes forever.
pub(crate) async fn run(hub: Arc<Hub>, reporter: Reporter) {
    loop {
        warn_of_shares(&hub);
        publish(&hub, &reporter);
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

/// Publishes what the relay serves.
pub(crate) fn publish(hub: &Hub, reporter: &Reporter) {
    // Not in the value below, where the registry would stay locked.
    let gateways = hub.registry().len();
    reporter.load(Load::Relay {
        gateways,
        clients: hub.clients_connected(),
        buffered: hub.buffered(),
        buffer_limit: hub.buffers.limit(),
    });
}

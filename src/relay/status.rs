//! Tells the service manager how many are connected, and how long the certificates are still good.

use std::sync::Arc;
use std::time::Duration;

use super::hub::Hub;
use crate::host::notify;
use crate::words::{Count, Roughly};

/// Between two looks. Gateways and clients come and go by the hundred; nobody reads faster than this.
const INTERVAL: Duration = Duration::from_secs(5);

/// Tells for ever, whenever the line is another one.
pub(crate) async fn run(hub: Arc<Hub>) {
    let mut said = String::new();
    loop {
        let line = line(&hub);
        if line != said {
            notify::status(&line);
            said = line;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn line(hub: &Hub) -> String {
    let identity = hub.identity();
    let left = identity.expires.duration_since(identity.clock.now());
    let mut line = format!(
        "serving {} and {}, certificate valid for {}",
        Count(hub.registry().len(), "gateway"),
        Count(hub.clients_connected(), "client"),
        Roughly(left.unwrap_or_default()),
    );
    if let Some(doubt) = hub.doubt() {
        line.push_str("; but ");
        line.push_str(&doubt);
    }
    line
}

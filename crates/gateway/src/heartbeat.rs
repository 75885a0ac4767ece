//! Heartbeats: each makes the platform dial back through the relay to this gateway, so a success
//! proves the whole path, and a failure with the tunnel up says which half is broken (protocol.md
//! §1).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use super::credential_client::CredentialClient;
use crate::agent::access::call;
use crate::agent::heartbeat::{Cadence, Log, Timing};
use crate::agent::status::Reporter;
use crate::api::{self, types::HeartbeatAnswer};
use crate::error::{Class, chain};
use crate::events;

/// Time between heartbeats once one has succeeded; also told to the platform by the health service.
pub(crate) const INTERVAL: Duration = Duration::from_secs(180);

const TIMING: Timing = Timing {
    // Deployed gateways wait 10 s; the sooner a person sees the whole path proved, the better, and
    // the relay needs a moment to know its new gateway.
    first: Duration::from_secs(1),
    interval: INTERVAL,
    // protocol.md §1.
    retry: Duration::from_secs(10),
    retry_at_most: INTERVAL,
};

/// What a heartbeat showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heartbeat {
    /// The platform reached this gateway: the whole path works.
    Reached,
    /// The platform is there and says that it did not get through.
    NotReached(String),
    /// The platform did not say: it is away, unwell, or does not let this gateway ask.
    Unanswered(String),
}

/// Sends heartbeats while `tunnel_up` is true, each as the newest of `credential_clients` may, and
/// tells the link what each showed, and `renew` where the platform wants that. Ends when `tunnel_up`
/// is gone.
pub(crate) async fn run(
    credential_clients: watch::Receiver<Arc<CredentialClient>>,
    mut tunnel_up: watch::Receiver<bool>,
    heartbeat_tx: mpsc::Sender<Heartbeat>,
    reporter: Reporter,
    renew: Arc<Notify>,
) {
    // Outlives tunnels, as what the platform asked for does.
    let mut not_before = Instant::now();
    let log = Log::new(
        events::GATEWAY_REACHABLE,
        events::HEARTBEAT_FAILED,
        reporter,
    );
    while tunnel_up.wait_for(|up| *up).await.is_ok() {
        let while_up = heartbeat(
            &credential_clients,
            &heartbeat_tx,
            &mut not_before,
            &log,
            &renew,
        );
        let mut down = tunnel_up.clone();
        tokio::select! {
            () = while_up => {}
            _ = down.wait_for(|up| !*up) => {}
        }
    }
}

/// Sends heartbeats forever.
async fn heartbeat(
    credential_clients: &watch::Receiver<Arc<CredentialClient>>,
    heartbeat_tx: &mpsc::Sender<Heartbeat>,
    not_before: &mut Instant,
    log: &Log,
    renew: &Notify,
) {
    let mut cadence = Cadence::new(TIMING);
    let mut delay = cadence.delay();
    loop {
        let due = Instant::now() + delay;
        tokio::time::sleep_until(due.max(*not_before)).await;
        let credential_client = Arc::clone(&credential_clients.borrow());
        let answer = once(&credential_client).await;
        let was_reachable = cadence.is_reachable();
        delay = cadence.record_answer(&answer, renew);
        let result = answer.map(drop);
        // Full only while the connection does something else, and then the next one tells the same.
        let _ = heartbeat_tx.try_send(Heartbeat::of(&result));
        if let Err((_, Class::RetryAfter(wait))) = result {
            *not_before = Instant::now() + wait;
        }
        let due = Instant::now() + delay;
        let until_next = due
            .max(*not_before)
            .saturating_duration_since(Instant::now());
        log.log(&result, was_reachable, until_next);
    }
}

impl Heartbeat {
    fn of(result: &Result<(), (api::Error, Class)>) -> Self {
        let error = match result {
            Ok(()) => return Self::Reached,
            Err((error, _)) => error,
        };
        let text = chain(error).to_string();
        if error.tells_of_probe() {
            Self::NotReached(text)
        } else {
            Self::Unanswered(text)
        }
    }
}

/// One heartbeat.
async fn once(
    credential_client: &CredentialClient,
) -> Result<HeartbeatAnswer, (api::Error, Class)> {
    let client = credential_client.client();
    let request = &credential_client.heartbeat();
    let heartbeat = |token| async move { client.gateway_heartbeat(&token, request).await };
    call(credential_client.auth().source(), heartbeat).await
}

#[cfg(test)]
mod tests {
    use super::{Cadence, TIMING};

    #[test]
    fn the_cadence_is_soon_then_rarely() {
        let mut cadence = Cadence::new(TIMING);
        let mut delays = Vec::new();
        for success in [
            false, false, true, true, false, false, false, false, false, false, true,
        ] {
            delays.push(cadence.delay().as_secs());
            cadence.record(success);
        }
        assert_eq!(delays, [1, 10, 10, 180, 180, 10, 20, 40, 80, 160, 180]);
        assert_eq!(cadence.delay().as_secs(), 180);
    }
}

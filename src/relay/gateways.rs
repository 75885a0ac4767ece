//! The SSH side: accepts gateways, judges their certificates, and keeps the registry true.
//!
//! A gateway's task lives exactly as long as its session. It registers the session once the certificate is
//! proved, waits for the session's end (keepalives and the kernel's user timeout see to it that a dead
//! gateway's session ends), and deregisters it, unless another session of the same gateway took over.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::time::Instant;

use super::hub::Hub;
use super::limits::{Slot, Source};
use super::registry::Replaced;
use crate::error::chain;
use crate::events;
use crate::names::{GatewayId, TAKEN_OVER};
use crate::net::accept::{Accepted, Acceptor};
use crate::scope::Scope;
use crate::ssh;
use crate::ssh::server::{self, Session};

/// What a gateway is told when the relay stops.
const GOING_AWAY: &str = "the relay is going away";

/// Accepts gateways until `stop` is cancelled. Their sessions belong to `sessions`: its cancellation
/// closes them with a goodbye.
pub(crate) async fn serve(listener: TcpListener, hub: Arc<Hub>, stop: Scope, sessions: Scope) {
    let acceptor = Acceptor::new(listener, hub.handshakes);
    while let Some(accepted) = stop.run(acceptor.accept()).await {
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::error!(error = %chain(&error), "cannot accept gateways any more");
                return;
            }
        };
        let refusal = "too many connections from this address; gateway connection closed";
        let Some((source, newcomer)) = hub.admit(accepted.peer, refusal) else {
            continue;
        };
        let hub = Arc::clone(&hub);
        let stop = stop.clone();
        let scope = sessions.clone();
        sessions.spawn("gateway", async move {
            Box::pin(gateway(accepted, newcomer, &hub, &stop, &scope)).await;
            drop(source);
        });
    }
}

/// One connection, from its first byte to its end.
async fn gateway(
    accepted: Accepted,
    newcomer: Slot<Source>,
    hub: &Arc<Hub>,
    stop: &Scope,
    scope: &Scope,
) {
    let Accepted {
        stream,
        peer,
        permit,
    } = accepted;
    ssh::prepare(&stream);
    let identity = hub.identity();
    let (reader, writer) = stream.into_split();
    let Some(accepted) = stop
        .run(server::accept(reader, writer, &identity.ssh))
        .await
    else {
        return;
    };
    drop((identity, newcomer, permit));
    let proved = accepted.map_err(|error| report(hub, peer, &error)).ok();
    let Some(session) = proved else { return };
    let Ok(id) = GatewayId::try_new(session.subject()) else {
        if let Some(suppressed) = hub.ration.take(Instant::now()) {
            tracing::warn!(%peer, suppressed, "a gateway's certificate has no usable id");
        }
        return session
            .close("the certificate names no usable gateway id")
            .await;
    };

    let session = Arc::new(session);
    let registered = hub.register(id.clone(), peer, Arc::clone(&session));
    match registered.replaced {
        None => tracing::info!(
            message_id = events::GATEWAY_CONNECTED.id,
            gateway.id = %id,
            %peer,
            "{}",
            events::GATEWAY_CONNECTED
        ),
        Some(replaced) => {
            tracing::info!(
                message_id = events::GATEWAY_TOOK_OVER.id,
                gateway.id = %id,
                %peer,
                replaced = %replaced.peer,
                "{}",
                events::GATEWAY_TOOK_OVER
            );
            let hub = Arc::clone(hub);
            let id = id.clone();
            scope.spawn("replaced gateway", async move {
                dismiss(&hub, &id, replaced).await;
            });
        }
    }

    tokio::select! {
        () = session.ended() => {}
        () = scope.cancelled() => session.close(GOING_AWAY).await,
    }
    if hub.registry().deregister(&registered.ticket) {
        let end = session.take_end();
        tracing::info!(
            message_id = events::GATEWAY_DISCONNECTED.id,
            gateway.id = %id,
            %peer,
            reason = %chain(&end),
            "{}",
            events::GATEWAY_DISCONNECTED
        );
    }
}

/// Probes a session that was replaced, closes it either way, and warns if two live gateways alternate.
async fn dismiss(hub: &Hub, id: &GatewayId, replaced: Replaced<Arc<Session>>) {
    let Replaced {
        session,
        peer,
        takeover,
    } = replaced;
    let alive = session.ping(hub.deadlines.probe).await;
    tracing::debug!(gateway.id = %id, %peer, alive, "replaced connection probed");
    let conflict = hub.registry().probed(&takeover, alive, Instant::now());
    if let Some(conflict) = conflict {
        tracing::warn!(
            message_id = events::GATEWAY_CONFLICT.id,
            gateway.id = %id,
            connected = %conflict.connected,
            replaced = %conflict.replaced,
            "{}",
            events::GATEWAY_CONFLICT
        );
    }
    session.close(TAKEN_OVER).await;
}

/// One line for each attempt that failed, as far as the ration goes.
fn report(hub: &Hub, peer: SocketAddr, error: &ssh::Error) {
    let is_worth_a_line = !matches!(error, ssh::Error::Io(_) | ssh::Error::Closed);
    if !is_worth_a_line {
        // Port checks of load balancers and the like.
        tracing::debug!(%peer, error = %chain(error), "connection ended before a gateway proved itself");
        return;
    }
    let Some(suppressed) = hub.ration.take(Instant::now()) else {
        return;
    };
    if matches!(error, ssh::Error::Certificate(_)) {
        tracing::warn!(
            message_id = events::GATEWAY_REFUSED.id,
            %peer,
            suppressed,
            error = %chain(error),
            "{}",
            events::GATEWAY_REFUSED
        );
    } else {
        tracing::info!(%peer, suppressed, error = %chain(error), "gateway did not authenticate");
    }
}

//! The SSH side: accepts gateways, judges their certificates, and keeps the registry true.
//!
//! A gateway's task lives exactly as long as its session. It registers the session once the certificate is
//! proved, waits for the session's end (keepalives and the kernel's user timeout see to it that a dead
//! gateway's session ends), and deregisters it, unless another session of the same gateway took over.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::Instant;

use super::hub::Hub;
use super::limits::{Slot, Source};
use super::registry::Replaced;
use super::tunnel::Tunnel;
use crate::backoff;
use crate::error::chain;
use crate::events;
use crate::names::{GatewayId, TAKEN_OVER};
use crate::net::accept::{Accepted, Acceptor};
use crate::scope::Scope;
use crate::ssh;
use crate::ssh::server;

/// What a gateway is told when the relay stops.
const GOING_AWAY: &str = "the relay is going away";
/// What a gateway is told that would be one too many.
const FULL: &str = "the relay has as many gateways as it may have";

/// The goodbyes of a stop are spread over this long for each gateway: all of them at once would dial the next relay at once.
const BETWEEN_GOODBYES: Duration = Duration::from_millis(5);
/// The same for all gateways together.
const ALL_GOODBYES: Duration = Duration::from_secs(1);

/// Accepts gateways until `stop` is cancelled: then a gateway that no client needs any more hears a goodbye. The
/// sessions belong to `sessions`: its cancellation closes all of them with a goodbye.
pub(crate) async fn serve(listener: TcpListener, hub: Arc<Hub>, stop: Scope, sessions: Scope) {
    let mut acceptor = Acceptor::new(listener, hub.handshakes);
    while let Some(accepted) = stop.run(acceptor.accept()).await {
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::error!(error = %chain(&error), "cannot accept gateways any more");
                return;
            }
        };
        let refusal = "too many connections from this address; gateway connection closed";
        let Some((source, newcomer)) = hub.admit(accepted.peer, &hub.ssh_newcomers, refusal) else {
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
        if let Some(suppressed) = hub.ssh_newcomers.ration.take(Instant::now()) {
            tracing::warn!(%peer, suppressed, "a gateway's certificate has no usable id");
        }
        return session
            .close("the certificate names no usable gateway id")
            .await;
    };

    let tunnel = Arc::new(Tunnel::new(session));
    let Some((registration, replaced)) = hub.register(id.clone(), peer, Arc::clone(&tunnel)) else {
        if let Some(suppressed) = hub.ssh_newcomers.ration.take(Instant::now()) {
            tracing::warn!(gateway.id = %id, %peer, suppressed, "too many gateways; gateway sent away");
        }
        return tunnel.session.close(FULL).await;
    };
    let session = &tunnel.session;
    match replaced {
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

    let others = || hub.registry().len().saturating_sub(1);
    tokio::select! {
        () = session.ended() => {}
        () = goes(stop, tunnel.idle(), others, backoff::random()) => session.close(GOING_AWAY).await,
        () = scope.cancelled() => session.close(GOING_AWAY).await,
    }
    if registration.end() {
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

/// Waits until the relay stops and a gateway is `idle`, and then for this one's part of the time over which goodbyes are spread:
/// many become idle in the same moment, when the relay stops and when it cuts what did not end by itself.
async fn goes(
    stop: &Scope,
    idle: impl Future<Output = ()>,
    others: impl FnOnce() -> usize,
    random: u64,
) {
    stop.cancelled().await;
    idle.await;
    tokio::time::sleep(goodbye_in(others(), random)).await;
}

/// The wait before one goodbye beside `others`: a part of what is between no time and what all of them may take, by
/// `random`.
fn goodbye_in(others: usize, random: u64) -> Duration {
    let others = u32::try_from(others).unwrap_or(u32::MAX);
    let all = BETWEEN_GOODBYES.saturating_mul(others).min(ALL_GOODBYES);
    let part = u32::try_from(random >> 32).unwrap_or(u32::MAX);
    all.mul_f64(f64::from(part) / f64::from(u32::MAX))
}

/// Probes a session that was replaced, closes it either way, and warns if two live gateways alternate.
async fn dismiss(hub: &Hub, id: &GatewayId, replaced: Replaced<Arc<Tunnel>>) {
    let Replaced {
        session: tunnel,
        peer,
        takeover,
    } = replaced;
    let alive = tunnel.session.ping(hub.deadlines.probe).await;
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
    tunnel.session.close(TAKEN_OVER).await;
}

/// One line for each attempt that failed, as far as the ration goes.
fn report(hub: &Hub, peer: SocketAddr, error: &ssh::Error) {
    let is_worth_a_line = !matches!(error, ssh::Error::Io(_) | ssh::Error::Closed);
    if !is_worth_a_line {
        // Port checks of load balancers and the like.
        tracing::debug!(%peer, error = %chain(error), "connection ended before a gateway proved itself");
        return;
    }
    let Some(suppressed) = hub.ssh_newcomers.ration.take(Instant::now()) else {
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

#[cfg(test)]
mod tests {
    use super::{ALL_GOODBYES, BETWEEN_GOODBYES, goes, goodbye_in};
    use crate::scope::Scope;
    use std::time::Duration;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn gateways_that_become_idle_in_the_same_moment_do_not_go_in_the_same_moment() {
        let stop = Scope::new("test");
        stop.cancel();
        let begin = Instant::now();
        let cut = Duration::from_secs(10);
        let gateway = |random| goes(&stop, tokio::time::sleep(cut), || 10, random);
        gateway(0).await;
        assert_eq!(begin.elapsed(), cut);
        gateway(u64::MAX).await;
        assert_eq!(begin.elapsed(), cut * 2 + BETWEEN_GOODBYES * 10);
    }

    #[test]
    fn goodbyes_are_spread_by_their_number_and_a_single_one_is_said_at_once() {
        assert_eq!(goodbye_in(0, u64::MAX), Duration::ZERO);
        assert_eq!(goodbye_in(7, 0), Duration::ZERO);
        assert_eq!(goodbye_in(10, u64::MAX), BETWEEN_GOODBYES * 10);
        assert_eq!(goodbye_in(10, u64::MAX / 2).as_millis(), 25);
        assert_eq!(goodbye_in(1_000_000, u64::MAX), ALL_GOODBYES);
    }
}

//! The SSH side: accepts gateways, judges their certificates, and keeps the registry true.
//!
//! A gateway's task lives exactly as long as its session. It registers the session once the
//! certificate is proved, waits for the session's end (keepalives and the kernel's user timeout see
//! to it that a dead gateway's session ends), and deregisters it, unless another session of the
//! same gateway took over.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};

use super::clients::GAVE_WAY;
use super::hub::Hub;
use super::registry::Replaced;
use super::tunnel::Tunnel;
use crate::backoff;
use crate::error::{chain, kind};
use crate::names::{GatewayId, RelayName};
use crate::net::accept::{Accepted, Acceptor};
use crate::net::handshake_progress::Counted;
use crate::net::handshakes::Handshake;
use crate::net::limits::Source;
use crate::scope::Scope;
use crate::ssh;
use crate::ssh::{DisconnectReason, cert, server};
use crate::{event, events};

/// Sent to a gateway when the relay stops.
const GOING_AWAY: &str = "the relay is going away";
/// Sent to a gateway that is replaced.
const TAKEN_OVER: &str = "another connection of this gateway took over";
/// Sent to a gateway that would be one too many.
const FULL: &str = "the relay has as many gateways as it may have";

/// The disconnect messages of a stop are spread over this long for each gateway: all of them at
/// once would dial the next relay at once.
const DISCONNECT_INTERVAL: Duration = Duration::from_millis(5);
/// The same for all gateways together.
const DISCONNECT_SPREAD: Duration = Duration::from_secs(1);

/// Accepts gateways until `stop` is cancelled: then a gateway that no client needs any more
/// receives a disconnect message. The sessions belong to `sessions`: its cancellation closes all of
/// them with a disconnect message.
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
        let Some(unfinished) = hub.admit(accepted.peer, &hub.ssh_handshakes, "gateway") else {
            acceptor.refuse(accepted);
            continue;
        };
        let hub = Arc::clone(&hub);
        let stop = stop.clone();
        let scope = sessions.clone();
        sessions.spawn("gateway", async move {
            Box::pin(gateway(accepted, unfinished, &hub, &stop, &scope)).await;
        });
    }
}

/// One connection, from its first byte to its end.
async fn gateway(
    accepted: Accepted,
    unfinished: Handshake,
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
    let reader = Counted::new(reader, unfinished.progress());
    let accepting = server::accept_measured(reader, writer, &identity.ssh, unfinished.cpu());
    let accepting = unfinished.run(accepting);
    let accepted = match stop.run(Box::pin(accepting)).await {
        None => return,
        Some(None) => {
            tracing::debug!(%peer, "{GAVE_WAY}");
            return;
        }
        Some(Some(accepted)) => accepted,
    };
    drop((identity, permit));
    let proved = accepted.map_err(|error| report(hub, peer, &error)).ok();
    let Some(session) = proved else { return };
    let Some(_connection) = unfinished.finish() else {
        return;
    };
    let source = Source::from(peer.ip());
    let log = &hub.ssh_handshakes.log;
    let Ok(id) = GatewayId::try_new(session.subject()) else {
        const NO_ID: &str = "a gateway's certificate has no usable id";
        if let Some(permission) = log.should_log_peer(NO_ID, "", source.address()) {
            tracing::warn!(%peer, suppressed = permission.suppressed(), "{NO_ID}");
        }
        return session
            .close("the certificate names no usable gateway id")
            .await;
    };

    let tunnel = Arc::new(Tunnel::new(session));
    let Some((registration, replaced)) = hub.register(id.clone(), peer, Arc::clone(&tunnel)) else {
        const TOO_MANY: &str = "too many gateways; gateway sent away";
        if let Some(permission) = log.should_log_peer(TOO_MANY, "", source.address()) {
            tracing::warn!(
                gateway.id = %id,
                %peer,
                suppressed = permission.suppressed(),
                "{TOO_MANY}"
            );
        }
        return tunnel.session.close(FULL).await;
    };
    let session = &tunnel.session;
    match replaced {
        None => event!(events::GATEWAY_CONNECTED, gateway.id = %id, %peer),
        Some(replaced) => {
            event!(
                events::GATEWAY_TOOK_OVER,
                gateway.id = %id,
                %peer,
                replaced = %replaced.peer
            );
            let hub = Arc::clone(hub);
            let id = id.clone();
            let ending = scope.clone();
            scope.spawn("replaced gateway", async move {
                dismiss(&hub, &id, replaced, &ending).await;
            });
        }
    }

    let others = || hub.registry().len().saturating_sub(1);
    tokio::select! {
        () = session.ended() => {}
        () = goes(stop, tunnel.idle(), others, backoff::random()) => session.close(GOING_AWAY).await,
        () = scope.cancelled() => session.close(GOING_AWAY).await,
    }
    let end = session.take_end();
    // It would have as many key exchanges again with each new connection.
    hub.ssh_handshakes.charge(source, session.rekeys_cost());
    if registration.end() {
        event!(
            events::GATEWAY_DISCONNECTED,
            gateway.id = %id,
            %peer,
            reason = %chain(&end)
        );
    }
}

/// Waits until the relay stops and a gateway is `idle`, and then for this one's part of the time
/// over which disconnect messages are spread: many become idle in the same moment, when the relay
/// stops and when it cuts what did not end by itself.
async fn goes(
    stop: &Scope,
    idle: impl Future<Output = ()>,
    others: impl FnOnce() -> usize,
    random: u64,
) {
    stop.cancelled().await;
    idle.await;
    tokio::time::sleep(disconnect_delay(others(), random)).await;
}

/// The wait before one disconnect message beside `others`: a part of what is between no time and
/// what all of them may take, by `random`.
fn disconnect_delay(others: usize, random: u64) -> Duration {
    let others = u32::try_from(others).unwrap_or(u32::MAX);
    let all = DISCONNECT_INTERVAL
        .saturating_mul(others)
        .min(DISCONNECT_SPREAD);
    let part = u32::try_from(random >> 32).unwrap_or(u32::MAX);
    all.mul_f64(f64::from(part) / f64::from(u32::MAX))
}

/// Probes a session that was replaced, closes it either way, and warns if two live gateways
/// alternate. One that is alive keeps its clients for a while: a gateway that hands over to another
/// process of its own lets their sessions finish.
async fn dismiss(hub: &Hub, id: &GatewayId, replaced: Replaced<Arc<Tunnel>>, ending: &Scope) {
    let Replaced {
        session: tunnel,
        peer,
        takeover,
    } = replaced;
    let alive = tunnel.session.ping(hub.deadlines.probe).await;
    tracing::debug!(gateway.id = %id, %peer, alive, "replaced connection probed");
    let conflict = hub.registry().probed(&takeover, alive, Instant::now());
    if let Some(conflict) = conflict {
        event!(
            events::GATEWAY_CONFLICT,
            gateway.id = %id,
            connected = %conflict.connected,
            replaced = %conflict.replaced
        );
    }
    if alive {
        let finished = timeout(hub.deadlines.grace, tunnel.idle());
        tokio::select! {
            _ = finished => {}
            () = ending.cancelled() => {}
        }
    }
    // Gateways know by the reason that they must not come back at once.
    let reason = DisconnectReason::TOO_MANY_CONNECTIONS;
    tunnel.session.close_because(reason, TAKEN_OVER).await;
}

/// Logs a failed attempt: health checks of load balancers and the like as one line for each source
/// and ten minutes, a certificate that is refused as one for each reason.
fn report(hub: &Hub, peer: SocketAddr, error: &ssh::Error) {
    if matches!(error, ssh::Error::Io(_) | ssh::Error::Closed) {
        // The connection ended before the peer said anything that is wrong.
        tracing::debug!(%peer, error = %chain(error), "connection ended before a gateway authenticated");
        return;
    }
    let is_certificate = matches!(error, ssh::Error::Certificate(_));
    let (event, class) = if is_certificate {
        (events::GATEWAY_REFUSED.text, kind(error))
    } else {
        ("gateway did not authenticate", String::new())
    };
    let source = Source::from(peer.ip()).address();
    let permission = hub
        .ssh_handshakes
        .log
        .should_log_peer(event, &class, source);
    let Some(permission) = permission else {
        tracing::debug!(%peer, error = %chain(error), "{event}");
        return;
    };
    let suppressed = permission.suppressed();
    let advice = advice(error);
    if is_certificate {
        event!(
            events::GATEWAY_REFUSED,
            %peer,
            suppressed,
            error = format!("{}{advice}", chain(error))
        );
    } else {
        tracing::info!(%peer, suppressed, error = %chain(error), "{event}");
    }
}

/// What to do about a gateway's certificate for a relay of another name; nothing otherwise.
fn advice(error: &ssh::Error) -> String {
    let ssh::Error::Certificate(cert::Error::WrongKeyId { found, .. }) = error else {
        return String::new();
    };
    let name = found.strip_prefix("client-").map(RelayName::try_new);
    let Some(Ok(name)) = name else {
        return String::new();
    };
    format!(
        "; the platform sent the gateway to relay {name}: if that is this relay, start this relay with --name {name}"
    )
}

#[cfg(test)]
mod tests {
    use super::{DISCONNECT_INTERVAL, DISCONNECT_SPREAD, disconnect_delay, goes};
    use crate::scope::Scope;
    use std::time::Duration;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn gateways_idle_together_leave_separately() {
        let stop = Scope::new("test");
        stop.cancel();
        let begin = Instant::now();
        let cut = Duration::from_secs(10);
        let gateway = |random| goes(&stop, tokio::time::sleep(cut), || 10, random);
        gateway(0).await;
        assert_eq!(begin.elapsed(), cut);
        gateway(u64::MAX).await;
        assert_eq!(begin.elapsed(), cut * 2 + DISCONNECT_INTERVAL * 10);
    }

    #[test]
    fn disconnects_are_spread_by_their_number() {
        assert_eq!(disconnect_delay(0, u64::MAX), Duration::ZERO);
        assert_eq!(disconnect_delay(7, 0), Duration::ZERO);
        assert_eq!(disconnect_delay(10, u64::MAX), DISCONNECT_INTERVAL * 10);
        assert_eq!(disconnect_delay(10, u64::MAX / 2).as_millis(), 25);
        assert_eq!(disconnect_delay(1_000_000, u64::MAX), DISCONNECT_SPREAD);
    }
}

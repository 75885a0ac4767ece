//! What a gateway offers inside TLS 2: one service for each ALPN name (protocol.md §5). A name that is
//! not listed is not offered, so the handshake of a client that wants it fails cleanly.

mod health;
pub mod http;
mod ping;
mod tcp;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::identity::Identity;
use crate::error::printable;
use crate::net::dial;
use crate::pki::extensions::{self, Claims, Route};
use crate::scope::Scope;
use crate::ssh::ChannelStream;

/// Limit for the handshake of TLS 2.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The services, by their ALPN names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// Copies bytes to and from a TCP target.
    Tcp,
    /// Forwards HTTP requests to a target.
    Http,
    /// Answers `PONG`.
    Ping,
    /// Tells how the gateway is.
    Health,
}

impl Service {
    /// In the order of deployed gateways. It decides for a client that offers several names: the platform's probe
    /// offers health and ping, and takes a gateway that answers ping for one that is checked every half hour only.
    const ALL: [Self; 4] = [Self::Http, Self::Tcp, Self::Health, Self::Ping];

    /// The names to offer; the first one that the client offers too is served.
    pub(crate) const ALPN: [&'static str; 4] = {
        let [a, b, c, d] = Self::ALL;
        [a.alpn(), b.alpn(), c.alpn(), d.alpn()]
    };

    const fn alpn(self) -> &'static str {
        match self {
            Self::Tcp => "infisical-tcp-proxy",
            Self::Http => "infisical-http-proxy",
            Self::Ping => "infisical-ping",
            Self::Health => "infisical-health",
        }
    }

    fn from_alpn(name: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|service| service.alpn().as_bytes() == name)
    }
}

/// Why a session ended other than by its own will. It concerns that session only.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// TLS 2 did not come about.
    #[error("TLS 2 failed")]
    Handshake(#[source] io::Error),
    /// TLS 2 took too long.
    #[error("TLS 2 took longer than {} s", HANDSHAKE.as_secs())]
    HandshakeTimedOut,
    /// The client offered no ALPN name, so the handshake did not fail, and there is nothing to serve.
    #[error("the client named no service (ALPN)")]
    NoService,
    /// The client's certificate says nothing usable.
    #[error(transparent)]
    Claims(#[from] extensions::Error),
    /// The client's certificate is for another gateway: whoever routes must not be able to choose which
    /// network a session ends in.
    #[error("the client certificate is for gateway {0}, not for this one")]
    OtherGateway(String),
    /// The service needs a target, and the certificate names none.
    #[error("the client certificate names no target")]
    NoTarget,
    /// The target cannot be reached.
    #[error(transparent)]
    Target(#[from] dial::Error),
    /// The HTTP service failed.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// The connection failed.
    #[error("the connection failed")]
    Io(#[from] io::Error),
}

/// Answers one channel: TLS 2, then the service that the client asked for. `carried` is told of each TLS 2, which proves the
/// tunnel whatever becomes of the session. Once `draining` is cancelled, a service that could go on for ever ends after what it is
/// doing.
pub(crate) async fn serve(
    channel: ChannelStream,
    identity: &Identity,
    cluster: &http::Cluster,
    draining: &Scope,
    carried: &Notify,
) -> Result<(), Error> {
    // Boxed, as the services below: a session's task should hold only the state it is in, and that once.
    let mut stream = Box::pin(handshake(channel, identity)).await?;
    carried.notify_one();
    let name = stream.get_ref().1.alpn_protocol();
    let Some(service) = name.and_then(Service::from_alpn) else {
        // Closed in order, as deployed gateways do.
        let _ = tokio::time::timeout(HANDSHAKE, stream.shutdown()).await;
        return Err(Error::NoService);
    };
    let Claims {
        route,
        actor,
        gateway,
    } = claims(&stream)?;
    if gateway != identity.gateway_id.as_str() {
        return Err(Error::OtherGateway(printable(&gateway)));
    }
    tracing::debug!(
        service = service.alpn(),
        target.host = route.as_ref().map(|r| r.target_host.as_str()),
        target.port = route.as_ref().map(|r| r.target_port),
        actor = actor.as_ref().map(|a| a.kind.as_str()),
        actor.id = actor.as_ref().and_then(|a| a.id.as_deref()),
        "session opened"
    );
    match service {
        Service::Tcp => Box::pin(tcp::serve(stream, &target(route)?)).await,
        Service::Http => {
            // The target may be empty: requests to the cluster's API server go without (protocol.md §5).
            let route = route.ok_or(Error::NoTarget)?;
            let request = http::Request {
                route: &route,
                actor: actor.as_ref(),
            };
            Ok(Box::pin(http::serve(stream, request, cluster, draining)).await?)
        }
        Service::Ping => Ok(Box::pin(ping::serve(stream)).await?),
        Service::Health => Ok(Box::pin(health::serve(stream)).await?),
    }
}

async fn handshake(
    channel: ChannelStream,
    identity: &Identity,
) -> Result<Box<TlsStream<ChannelStream>>, Error> {
    let acceptor = TlsAcceptor::from(Arc::clone(&identity.tls));
    let accepted = tokio::time::timeout(HANDSHAKE, acceptor.accept(channel)).await;
    let stream = accepted.map_err(|_| Error::HandshakeTimedOut)?;
    Ok(Box::new(stream.map_err(Error::Handshake)?))
}

fn claims(stream: &TlsStream<ChannelStream>) -> Result<Claims, Error> {
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let leaf = certificates
        .first()
        .ok_or_else(|| extensions::Error::Certificate("the client presented none".to_owned()))?;
    Ok(extensions::parse_claims(leaf)?)
}

fn target(route: Option<Route>) -> Result<Route, Error> {
    route
        .filter(|route| !route.target_host.is_empty())
        .ok_or(Error::NoTarget)
}

#[cfg(test)]
mod tests {
    use super::Service;

    #[test]
    fn names_and_order_are_those_of_deployed_gateways() {
        let names = [
            "infisical-http-proxy",
            "infisical-tcp-proxy",
            "infisical-health",
            "infisical-ping",
        ];
        assert_eq!(Service::ALPN, names);
        for name in names {
            assert_eq!(
                Service::from_alpn(name.as_bytes()).map(Service::alpn),
                Some(name)
            );
        }
        assert_eq!(Service::from_alpn(b"infisical-pam-proxy"), None);
        assert_eq!(Service::from_alpn(b""), None);
    }
}

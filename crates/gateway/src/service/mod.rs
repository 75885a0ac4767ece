//! What a gateway offers inside TLS 2: one service for each ALPN name (protocol.md §5). A name that
//! is not listed is not offered, so the handshake of a client that wants it fails cleanly.

mod health;
pub mod http;
#[cfg(test)]
mod panic_tests;
mod ping;
mod tcp;

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::identity::Identity;
use crate::audit::{Outcome, Session};
use crate::error::{kind, printable};
use crate::net::{dial, status};
use crate::pki::extensions::{self, Claims, Route};
use crate::pki::stream::SecureStream;
use crate::scope::Scope;
use crate::ssh::ChannelStream;
use crate::targets::{self, NotAllowed, TargetAccess, Targets};

/// Limit for the handshake of TLS 2.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The services, by their ALPN names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// Copies bytes to and from a TCP target.
    Tcp,
    /// The same, and tells first whether the target was reached. Only clients of this program know
    /// it.
    TcpStatus,
    /// Forwards HTTP requests to a target.
    Http,
    /// Answers `PONG`.
    Ping,
    /// Tells how the gateway is.
    Health,
}

impl Service {
    /// In the order of deployed gateways. It decides for a client that offers several names: the
    /// platform's probe offers health and ping, and takes a gateway that answers ping for one that
    /// is checked every half hour only.
    const ALL: [Self; 5] = [
        Self::Http,
        // Before the service that it extends: its clients offer both, for gateways that do not know
        // it.
        Self::TcpStatus,
        Self::Tcp,
        Self::Health,
        Self::Ping,
    ];

    /// The names to offer; the first one that the client offers too is served.
    pub(crate) const ALPN: [&'static str; 5] = {
        let [a, b, c, d, e] = Self::ALL;
        [a.alpn(), b.alpn(), c.alpn(), d.alpn(), e.alpn()]
    };

    const fn alpn(self) -> &'static str {
        match self {
            Self::Tcp => "infisical-tcp-proxy",
            Self::TcpStatus => status::ALPN,
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
    #[error("TLS 2 failed")]
    Handshake(#[source] io::Error),
    #[error("TLS 2 took longer than {} s", HANDSHAKE.as_secs())]
    HandshakeTimedOut,
    /// The client offered no ALPN name, so the handshake did not fail, and there is nothing to
    /// serve.
    #[error("the client named no service (ALPN)")]
    NoService,
    #[error("the gateway has as many sessions as it accepts")]
    TooManySessions,
    #[error(transparent)]
    Claims(#[from] extensions::Error),
    /// The client's certificate is for another gateway: anyone who routes must not be able to
    /// choose which network a session ends in.
    #[error("the client certificate is for gateway {0}, not for this one")]
    OtherGateway(String),
    #[error("the client certificate names no target")]
    NoTarget,
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    #[error(transparent)]
    Target(#[from] dial::Error),
    #[error(transparent)]
    Http(#[from] http::Error),
    #[error("the client's connection broke")]
    Client(#[source] io::Error),
    #[error("the connection to {target} broke")]
    Broken {
        target: String,
        after_client: bool,
        #[source]
        source: io::Error,
    },
    #[error("the gateway stopped")]
    Stopped,
}

impl From<targets::Error> for Error {
    fn from(error: targets::Error) -> Self {
        match error {
            targets::Error::NotAllowed(error) => Self::NotAllowed(error),
            targets::Error::Dial(error) => Self::Target(error),
        }
    }
}

impl Error {
    /// What it is and at which target, without what changes from one time to the next: for keeping
    /// the log quiet.
    pub(crate) fn kind(&self) -> String {
        match self {
            // Of one level, the text is the target's name.
            Self::NotAllowed(_) | Self::Target(_) | Self::Broken { .. } => {
                format!("{} {self}", kind(self))
            }
            _ => kind(self),
        }
    }

    /// True if the service did not begin because of the client's certificate, or of the number of
    /// sessions.
    fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::TooManySessions | Self::Claims(_) | Self::OtherGateway(_) | Self::NoTarget
        )
    }

    /// What it is in the record of the session.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Handshake(error) if !is_of_tls(error) => Outcome::Cut,
            Self::Handshake(_)
            | Self::HandshakeTimedOut
            | Self::NoService
            | Self::TooManySessions
            | Self::Claims(_)
            | Self::OtherGateway(_)
            | Self::NoTarget
            | Self::NotAllowed(_) => Outcome::Refused,
            Self::Target(_) => Outcome::Unreachable,
            Self::Http(error) => error.outcome(),
            Self::Client(_) | Self::Broken { .. } => Outcome::Cut,
            Self::Stopped => Outcome::Draining,
        }
    }
}

/// True if it is the handshake that failed, and not the connection below it.
fn is_of_tls(error: &io::Error) -> bool {
    let inner = error.get_ref();
    inner.is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>)
}

/// TLS 2 of a client.
type Stream = SecureStream<TlsStream<ChannelStream>>;

/// What a session is served with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) cluster: &'a http::Cluster,
    pub(crate) targets: &'a Targets,
    /// Once it is cancelled, a service that could go on forever ends after what it is doing.
    pub(crate) draining: &'a Scope,
    /// Once it is cancelled, every service ends at once.
    pub(crate) stop: &'a Scope,
    /// Told of each TLS 2, which proves the tunnel whatever becomes of the session.
    pub(crate) session_ok: &'a Notify,
    /// Where it is recorded.
    pub(crate) session: &'a Session,
    /// The gateway has as many sessions as it accepts without this one, which is answered if it
    /// only checks the gateway.
    pub(crate) is_one_too_many: bool,
}

/// Answers one channel: TLS 2, then the service that the client asked for. An error, a panic
/// included, ends TLS 2 with a fatal alert, so that what the client received does not look
/// complete.
pub(crate) async fn serve(channel: ChannelStream, context: Context<'_>) -> Result<(), Error> {
    // Boxed, as the services below: a session's task should hold only the state it is in, and that
    // once.
    let begin = Instant::now();
    let shaking_hands = Box::pin(handshake(channel, context.identity));
    let mut stream = match context.stop.run(shaking_hands).await {
        None => return Err(Error::Stopped),
        Some(stream) => stream?,
    };
    context.session.metrics().handshake(begin.elapsed());
    context.session_ok.notify_one();
    let name = stream.state().alpn_protocol();
    let Some(service) = name.and_then(Service::from_alpn) else {
        // Closed in order, as deployed gateways do.
        let _ = tokio::time::timeout(HANDSHAKE, stream.shutdown()).await;
        return Err(Error::NoService);
    };
    let serving = answer(&mut stream, service, context);
    let served = AssertUnwindSafe(serving).catch_unwind().await;
    if service == Service::TcpStatus
        && let Ok(Err(error)) = &served
        && error.is_refusal()
    {
        tcp::tell_not_reached(&mut stream, error).await;
    }
    if !matches!(served, Ok(Ok(()))) {
        stream.abort().await;
    }
    served.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

async fn answer(stream: &mut Stream, service: Service, context: Context<'_>) -> Result<(), Error> {
    let Claims {
        route,
        actor,
        gateway,
    } = claims(stream)?;
    let is_check = matches!(service, Service::Ping | Service::Health);
    let (session, alpn) = (context.session, service.alpn());
    session.claims(alpn, is_check, route.as_ref(), actor.as_ref());
    if gateway != context.identity.gateway_id.as_str() {
        return Err(Error::OtherGateway(printable(&gateway)));
    }
    if context.is_one_too_many && !is_check {
        return Err(Error::TooManySessions);
    }
    match service {
        Service::Tcp => {
            // Foreign clients close without `close_notify` after their last byte.
            stream.tolerate_truncation();
            let route = target(route)?;
            Box::pin(tcp::serve(stream, &route, false, context)).await
        }
        Service::TcpStatus => {
            let route = target(route)?;
            Box::pin(tcp::serve(stream, &route, true, context)).await
        }
        Service::Http => {
            // The target may be empty: requests to the cluster's API server go without (protocol.md
            // §5).
            let route = route.ok_or(Error::NoTarget)?;
            let request = http::Request {
                route: &route,
                actor: actor.as_ref(),
                access: &TargetAccess::new(context.targets, session, &route.target_addresses),
            };
            let serving = Box::pin(http::serve(
                stream,
                request,
                context.cluster,
                context.draining,
            ));
            let served = context.stop.run(serving).await;
            Ok(served.ok_or(Error::Stopped)??)
        }
        Service::Ping => short(ping::serve(stream)).await,
        Service::Health => short(health::serve(stream)).await,
    }
}

/// A service that answers at once, to a client that may not take the answer.
async fn short(service: impl Future<Output = io::Result<()>>) -> Result<(), Error> {
    let served = tokio::time::timeout(HANDSHAKE, service).await;
    let served = served.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    served.map_err(Error::Client)
}

async fn handshake(mut channel: ChannelStream, identity: &Identity) -> Result<Stream, Error> {
    // Not read any more once TLS 2 has ended by itself.
    channel.require_eof();
    let acceptor = TlsAcceptor::from(Arc::clone(&identity.tls));
    let accepted = tokio::time::timeout(HANDSHAKE, acceptor.accept(channel)).await;
    let stream = accepted.map_err(|_| Error::HandshakeTimedOut)?;
    Ok(SecureStream::new(stream.map_err(Error::Handshake)?))
}

fn claims(stream: &Stream) -> Result<Claims, Error> {
    let certificates = stream.state().peer_certificates().unwrap_or_default();
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
    fn names_and_order_match_deployed_gateways() {
        let names = [
            "infisical-http-proxy",
            "infisical-tcp-proxy-status",
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

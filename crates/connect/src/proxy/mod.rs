//! Local ports at which programs ask for targets of their choice behind one gateway: SOCKS5
//! ([`socks`]) and HTTP CONNECT ([`http`]). Names are not looked up here: the gateway does that.
//!
//! Each request is a connection of its own. Requests for one target share the certificates of its
//! session while those are valid, as the connections of a forwarded port do.

mod http;
mod socks;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::error::Error;
use super::forward::{STOP_DEADLINE, conclude, copy_between, report};
use super::route::{Remote, Route};
use super::{Settings, Target};
use crate::api;
use crate::log_throttle::LogThrottle;
use crate::net::accept::{Accepted, Acceptor};
use crate::net::status::Class;
use crate::net::{listen, reset};
use crate::scope::Scope;
use infisical_runtime::error::{Reason, chain};

/// Local connections of each port at once; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 1024;
/// Targets whose certificates are kept; a browser talks to that many hosts at most in a while.
const MAX_ROUTES: usize = 64;
/// Limit for a program's request, and for our answer.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How programs ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// RFC 1928, without a login.
    Socks5,
    /// RFC 9110 §9.3.6.
    HttpConnect,
}

/// Bound local ports.
#[derive(Debug)]
pub struct Proxy {
    listeners: Vec<(Protocol, TcpListener, SocketAddr)>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    platform: api::Client,
    /// The one that was used last at the end.
    routes: Mutex<Vec<Arc<Route>>>,
    log_throttle: LogThrottle,
}

impl Proxy {
    /// Listens at each address; nothing is accepted and no one is asked for anything yet.
    ///
    /// # Errors
    /// An address cannot be used, or requests to the platform cannot be prepared.
    pub fn bind(
        settings: Settings,
        at: impl IntoIterator<Item = (Protocol, SocketAddr)>,
    ) -> Result<Self, Error> {
        let platform = settings.platform()?;
        let bind = |(protocol, address): (Protocol, SocketAddr)| {
            let listener = listen::bind(Some(address), address.port())?;
            let address = listener.local_addr().map_err(Error::Accept)?;
            Ok((protocol, listener, address))
        };
        let listeners: Result<_, Error> = at.into_iter().map(bind).collect();
        Ok(Self {
            listeners: listeners?,
            shared: Arc::new(Shared {
                settings,
                platform,
                routes: Mutex::default(),
                log_throttle: LogThrottle::for_retries(),
            }),
        })
    }

    /// The addresses listened on, with the ports that the kernel chose where 0 was asked for.
    pub fn addresses(&self) -> impl Iterator<Item = (Protocol, SocketAddr)> {
        let listeners = self.listeners.iter();
        listeners.map(|(protocol, _, address)| (*protocol, *address))
    }

    /// Serves until `scope` is cancelled.
    ///
    /// # Errors
    /// A listener broke.
    pub async fn run(self, scope: Scope) -> Result<(), Error> {
        let connections = scope.child("connections");
        let (broken, mut first_broken) = mpsc::channel(1);
        for (protocol, listener, _) in self.listeners {
            let (shared, broken) = (Arc::clone(&self.shared), broken.clone());
            let stop = connections.clone();
            connections.spawn("accept", async move {
                let error = accept(protocol, listener, &shared, &stop).await;
                if let Some(error) = error {
                    let _ = broken.try_send(error);
                }
            });
        }
        // The other ends are the tasks that accept.
        drop(broken);
        let result = match first_broken.recv().await {
            Some(error) => Err(Error::Accept(error)),
            None => Ok(()),
        };
        connections.cancel();
        connections.finish(STOP_DEADLINE).await;
        result
    }
}

/// Accepts until `stop` is cancelled; the error that ended it, if one did.
async fn accept(
    protocol: Protocol,
    listener: TcpListener,
    shared: &Arc<Shared>,
    stop: &Scope,
) -> Option<io::Error> {
    let mut acceptor = Acceptor::new(listener, MAX_CONNECTIONS);
    loop {
        let accepted = match stop.run(acceptor.accept()).await? {
            Ok(accepted) => accepted,
            Err(error) => return Some(error),
        };
        let (shared, ended) = (Arc::clone(shared), stop.clone());
        stop.spawn("connection", async move {
            serve(protocol, accepted, &shared, &ended).await;
        });
    }
}

async fn serve(protocol: Protocol, accepted: Accepted, shared: &Shared, stop: &Scope) {
    let Accepted {
        mut stream,
        peer,
        permit: _permit,
    } = accepted;
    let receiving = tokio::time::timeout(HANDSHAKE, protocol.receive(&mut stream));
    let target = match stop.run(receiving).await {
        Some(Ok(Ok(target))) => target,
        Some(Ok(Err(error))) => {
            tracing::debug!(%peer, error = %chain(&error), "request refused");
            return;
        }
        Some(Err(_)) => {
            tracing::debug!(%peer, "no request in time");
            return;
        }
        None => return,
    };
    tracing::debug!(%peer, %target, "connection accepted");
    let route = shared.route(&target);
    // Boxed, so that an open connection does not carry the size of its handshakes.
    let opened = stop.run(Box::pin(route.open())).await;
    let remote = match opened.unwrap_or(Err(Error::Stopped)) {
        Ok(remote) => remote,
        Err(error) => {
            let refusing = protocol.refuse(&mut stream, &error);
            // A program that is gone does not need it.
            let _ = tokio::time::timeout(HANDSHAKE, refusing).await;
            return report(peer, &error, &shared.log_throttle);
        }
    };
    // From here on: a reset tells the local program what an orderly end would hide.
    reset::arm(&stream);
    let ended = connected(protocol, &route, remote, &mut stream, stop).await;
    conclude(&stream, peer, ended, &shared.log_throttle);
}

async fn connected(
    protocol: Protocol,
    route: &Route,
    remote: Remote,
    local: &mut TcpStream,
    stop: &Scope,
) -> Result<(), Error> {
    let accepting = tokio::time::timeout(HANDSHAKE, protocol.accept(local)).await;
    let accepted = accepting.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    accepted.map_err(Error::Local)?;
    copy_between(route, remote, local, stop).await
}

impl Shared {
    /// The way to `target`, which is kept for the next request.
    fn route(&self, target: &Target) -> Arc<Route> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let known = routes.iter().position(|route| route.target() == target);
        let route = match known {
            Some(at) => routes.remove(at),
            None => {
                let (settings, platform) = (self.settings.clone(), self.platform.clone());
                Arc::new(Route::new(settings, target.clone(), platform))
            }
        };
        if routes.len() >= MAX_ROUTES {
            routes.remove(0);
        }
        routes.push(Arc::clone(&route));
        route
    }
}

/// Why a program's request is not one that can be served. It was told so, where its protocol has
/// words for that.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error("the program broke off")]
    Local(#[from] io::Error),
    #[error("{0}")]
    Invalid(&'static str),
}

/// Why there is no connection, as far as a protocol tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// Platform or gateway do not permit it.
    NotAllowed,
    /// The gateway does not reach the target.
    Unreachable,
    /// The gateway was not reached.
    Failed,
}

impl Refusal {
    fn of(error: &Error) -> Self {
        match error {
            Error::Target { class, .. } => match class {
                Class::Refused => Self::NotAllowed,
                Class::Unreachable => Self::Unreachable,
                Class::Draining => Self::Failed,
            },
            Error::Silent { .. } => Self::Unreachable,
            error if error.reason() == Reason::Permission => Self::NotAllowed,
            _ => Self::Failed,
        }
    }
}

impl Protocol {
    /// The target that a program asks for.
    async fn receive(self, stream: &mut TcpStream) -> Result<Target, RequestError> {
        match self {
            Self::Socks5 => socks::receive(stream).await,
            Self::HttpConnect => http::receive(stream).await,
        }
    }

    /// Tells the program that its bytes go to the target from now on.
    async fn accept(self, stream: &mut TcpStream) -> io::Result<()> {
        match self {
            Self::Socks5 => socks::accept(stream).await,
            Self::HttpConnect => http::accept(stream).await,
        }
    }

    /// Tells the program why there is no connection.
    async fn refuse(self, stream: &mut TcpStream, error: &Error) -> io::Result<()> {
        let (refusal, text) = (Refusal::of(error), chain(error).to_string());
        match self {
            Self::Socks5 => socks::refuse(stream, refusal).await,
            Self::HttpConnect => http::refuse(stream, refusal, &text).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::time::{Instant, timeout};

    use super::{HANDSHAKE, MAX_ROUTES, Protocol, Proxy};
    use crate::Settings;
    use crate::config::proxy::Proxies;
    use crate::config::settings::{ApiBase, CustomHeaders};
    use crate::scope::Scope;
    use crate::secret::Secret;

    fn bind() -> Proxy {
        let settings = Settings {
            domain: ApiBase::parse("http://127.0.0.1:1").expect("a domain"),
            headers: CustomHeaders::default(),
            proxies: Proxies::default(),
            token: Secret::new("token"),
            gateway: "edge".parse().expect("a name"),
        };
        let address = "127.0.0.1:0".parse().expect("an address");
        let at = [Protocol::Socks5, Protocol::HttpConnect].map(|protocol| (protocol, address));
        Proxy::bind(settings, at).expect("ports")
    }

    #[tokio::test(start_paused = true)]
    async fn silent_program_is_cut_after_the_deadline() {
        let proxy = bind();
        let addresses: Vec<_> = proxy.addresses().collect();
        let scope = Scope::new("test");
        let serving = scope.clone();
        scope.spawn("proxy", async move { drop(proxy.run(serving).await) });
        for (protocol, address) in addresses {
            let begin = Instant::now();
            let mut stream = TcpStream::connect(address).await.expect("the port");
            let first = match protocol {
                Protocol::Socks5 => &b"\x05"[..],
                Protocol::HttpConnect => b"CONNECT ",
            };
            stream.write_all(first).await.expect("written");
            let mut nothing = Vec::new();
            let ended = timeout(HANDSHAKE * 2, stream.read_to_end(&mut nothing)).await;
            ended.expect("cut").expect("an end");
            assert!(nothing.is_empty() && begin.elapsed() >= HANDSHAKE);
        }
    }

    #[tokio::test]
    async fn certificates_are_kept_for_recent_targets() {
        let shared = bind().shared;
        let target = |port: usize| format!("db:{port}").parse().expect("a target");
        let first = shared.route(&target(1));
        for port in 2..=MAX_ROUTES {
            shared.route(&target(port));
        }
        let same = |route| std::sync::Arc::ptr_eq(&first, &route);
        assert!(same(shared.route(&target(1))), "used last again");
        for port in MAX_ROUTES..2 * MAX_ROUTES {
            shared.route(&target(port));
        }
        assert!(!same(shared.route(&target(1))), "kept too many");
    }
}

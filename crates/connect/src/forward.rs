//! A local port whose connections all lead to the target.
//!
//! An error ends the connection it happened on, with one line in the log, and nothing else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::ending::Ending;
use super::error::Error;
use super::route::{Remote, Route};
use super::{Settings, Target};
use crate::log_throttle::LogThrottle;
use crate::net::accept::{Accepted, Acceptor};
use crate::net::pooled_buf_reader::PooledBufReader;
use crate::net::{copy, listen, reset};
use crate::scope::Scope;
use infisical_runtime::error::{chain, kind};

/// Local connections at once; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 1024;
/// Limit for the check at the start: a platform or a relay that is silent must not delay it for
/// long.
const CHECK_DEADLINE: Duration = Duration::from_secs(10);
/// Time for connections to see the end of the program.
pub(super) const STOP_DEADLINE: Duration = Duration::from_secs(2);

/// A bound local port.
#[derive(Debug)]
pub struct Forwarder {
    listener: TcpListener,
    address: SocketAddr,
    route: Arc<Route>,
    log_throttle: Arc<LogThrottle>,
}

impl Forwarder {
    /// Listens on `address`; nothing is accepted and no one is asked for anything yet.
    ///
    /// # Errors
    /// The address cannot be used, or requests to the platform cannot be prepared.
    pub fn bind(settings: Settings, target: Target, address: SocketAddr) -> Result<Self, Error> {
        let platform = settings.platform()?;
        let route = Arc::new(Route::new(settings, target, platform));
        let listener = listen::bind(Some(address), address.port())?;
        let address = listener.local_addr().map_err(Error::Accept)?;
        Ok(Self {
            listener,
            address,
            route,
            log_throttle: Arc::new(LogThrottle::for_retries()),
        })
    }

    /// The address listened on, with the port that the kernel chose where 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks for a session and connects to the gateway, but not to the target. Gives up after
    /// [`CHECK_DEADLINE`], and when `scope` is cancelled.
    ///
    /// # Errors
    /// What a connection would fail with.
    pub async fn check(&self, scope: &Scope) -> Result<(), Error> {
        let checking = tokio::time::timeout(CHECK_DEADLINE, Box::pin(self.route.check()));
        match scope.run(checking).await {
            Some(Ok(checked)) => checked,
            Some(Err(_)) => Err(Error::NotChecked(CHECK_DEADLINE)),
            None => Ok(()),
        }
    }

    /// Forwards until `scope` is cancelled.
    ///
    /// # Errors
    /// The listener broke.
    pub async fn run(self, scope: Scope) -> Result<(), Error> {
        let connections = scope.child("connections");
        let mut acceptor = Acceptor::new(self.listener, MAX_CONNECTIONS);
        let result = loop {
            match scope.run(acceptor.accept()).await {
                Some(Ok(accepted)) => {
                    let (route, stop) = (Arc::clone(&self.route), connections.clone());
                    let throttle = Arc::clone(&self.log_throttle);
                    connections.spawn("connection", async move {
                        serve(&route, accepted, &throttle, &stop).await;
                    });
                }
                Some(Err(error)) => break Err(Error::Accept(error)),
                None => break Ok(()),
            }
        };
        connections.cancel();
        connections.finish(STOP_DEADLINE).await;
        result
    }
}

async fn serve(route: &Route, accepted: Accepted, throttle: &LogThrottle, stop: &Scope) {
    let Accepted {
        mut stream,
        peer,
        permit: _permit,
    } = accepted;
    tracing::debug!(%peer, "connection accepted");
    // From the first moment: a reset tells the local program what an orderly end would hide.
    reset::arm(&stream);
    let ended = forward(route, &mut stream, stop).await;
    conclude(&stream, peer, ended, throttle);
}

/// Ends `stream`, which is armed for a reset, as what became of its connection wants it.
pub(super) fn conclude(
    stream: &TcpStream,
    peer: SocketAddr,
    ended: Result<(), Error>,
    throttle: &LogThrottle,
) {
    match ended {
        Ok(()) => reset::disarm(stream),
        Err(Error::Local(error)) => {
            tracing::debug!(%peer, %error, "the local program broke off");
        }
        Err(Error::Stopped) => tracing::debug!(%peer, "connection cut"),
        Err(error) => report(peer, &error, throttle),
    }
}

/// Logs a connection that failed. A local program may try again at once, without end.
pub(super) fn report(peer: SocketAddr, error: &Error, throttle: &LogThrottle) {
    const FAILED: &str = "connection failed";
    let (part, reason) = (error.part().as_str(), chain(error));
    if let Some(permission) = throttle.should_log(FAILED, &kind(error)) {
        tracing::warn!(
            %peer,
            part,
            class = error.refusal(),
            error = %reason,
            suppressed = permission.suppressed(),
            "{FAILED}"
        );
    } else {
        tracing::debug!(%peer, part, error = %reason, "{FAILED}");
    }
}

async fn forward(route: &Route, local: &mut TcpStream, stop: &Scope) -> Result<(), Error> {
    // Boxed, so that an open connection does not carry the size of its handshakes.
    let opened = stop.run(Box::pin(route.open())).await;
    copy_between(route, opened.ok_or(Error::Stopped)??, local, stop).await
}

/// Copies between a local program and its target until both have ended or `stop` is cancelled.
pub(super) async fn copy_between(
    route: &Route,
    mut remote: Remote,
    local: &mut TcpStream,
    stop: &Scope,
) -> Result<(), Error> {
    let (copied, stopped) = {
        let local = &mut PooledBufReader::new(&mut *local);
        let remote = &mut PooledBufReader::new(&mut remote.stream);
        copy::copy_both_until(local, remote, stop.cancelled()).await
    };
    tracing::debug!(
        sent = copied.a_to_b.bytes,
        received = copied.b_to_a.bytes,
        "connection copied"
    );
    let ending = Ending::of(copied, stopped.is_some());
    if !ending.is_orderly() {
        tokio::join!(remote.stream.abort(), reset::delivered(local));
    }
    ending.judge(route, &remote)
}

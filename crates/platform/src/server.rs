//! Serves HTTP/1.1: accepts within limits, plain or with TLS, and closes in order.
//!
//! Idle connections and incomplete requests cost places that others need: each source has a share
//! of them, and within it they give way to newcomers. A complete request is always answered.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use super::routes::Source;
use crate::error::chain;
use crate::host::notify;
use crate::net::accept::{Accepted, Acceptor};
use crate::net::handshake_progress::{Counted, Progress};
use crate::net::handshakes::{Handshake, Handshakes};
use crate::net::limits::{self, Counters};
use crate::scope::Scope;
use crate::trusted_proxies::TrustedProxies;

/// Connections at once. One source gets seven eighths of those that are free.
pub(super) const MAX_CONNECTIONS: usize = 1024;
/// Limit for a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Limit for the first request on a connection to be complete, after the TLS handshake.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// Limit for the head of a further request, and for the time between requests.
const HEAD: Duration = Duration::from_secs(30);
/// Largest head of a request.
const MAX_HEAD: usize = 16 * 1024;
/// Headers of a request.
const MAX_HEADERS: usize = 64;
/// How long requests may take to end once the platform stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Log line when a source has too many connections that are all busy.
const REFUSED: &str = "too many connections from this address; a new one was closed";

/// Is cancelled when the platform stops; among the extensions of each request.
#[derive(Debug, Clone)]
pub(super) struct Stopping(pub(super) Scope);

/// What answers, and for whom a request counts.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) router: Router,
    pub(super) trusted_proxies: Arc<TrustedProxies>,
}

/// Accepts until `scope` is cancelled, then lets the running requests end.
///
/// # Errors
/// The listener broke.
pub(super) async fn serve(
    mut acceptor: Acceptor,
    tls: Option<TlsAcceptor>,
    service: Service,
    scope: &Scope,
) -> io::Result<()> {
    let connections = scope.child("connections");
    let limits = Limits::new();
    let result = loop {
        // Cancel-safe: a connection is either accepted or still in the queue.
        match scope.run(acceptor.accept()).await {
            None => break Ok(()),
            Some(Err(error)) => break Err(error),
            Some(Ok(accepted)) => {
                let Some(unfinished) = limits.admit(accepted.peer) else {
                    acceptor.refuse(accepted);
                    continue;
                };
                let (tls, service) = (tls.clone(), service.clone());
                let stop = connections.clone();
                connections.spawn("connection", async move {
                    let serving = connection(accepted, &unfinished, tls, service, &stop);
                    if unfinished.run(serving).await.is_none() {
                        tracing::debug!("an idle connection gave way to another of its source");
                    }
                });
            }
        }
    };
    drop(acceptor);
    notify::stopping();
    connections.cancel();
    if !connections.finish(DRAIN).await {
        tracing::warn!("requests did not end in time; closing them");
    }
    result
}

/// Which connections there may be.
struct Limits {
    connections: Handshakes,
    sources: Counters<limits::Source>,
}

impl Limits {
    fn new() -> Self {
        Self {
            connections: Handshakes::new(MAX_CONNECTIONS),
            sources: Counters::new(MAX_CONNECTIONS),
        }
    }

    /// A place for a connection from `peer`: a free one, or that of an idle one of the same source.
    fn admit(&self, peer: SocketAddr) -> Option<Handshake> {
        let source = limits::Source::from(peer.ip());
        let admitted = self.connections.begin(&self.sources, source).ok();
        if admitted.is_none()
            && let Some(permission) =
                self.connections
                    .log
                    .should_log_peer(REFUSED, "", source.address())
        {
            tracing::warn!(%peer, suppressed = permission.suppressed(), "{REFUSED}");
        }
        admitted
    }
}

async fn connection(
    accepted: Accepted,
    unfinished: &Handshake,
    tls: Option<TlsAcceptor>,
    service: Service,
    stop: &Scope,
) {
    let Accepted {
        stream,
        peer,
        permit,
    } = accepted;
    let progress = unfinished.progress();
    let stream = Counted::new(stream, progress.clone());
    match tls {
        None => requests(stream, peer, progress, service, stop).await,
        Some(tls) => match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
            Ok(Ok(stream)) => requests(stream, peer, progress, service, stop).await,
            Ok(Err(error)) => {
                tracing::debug!(%peer, error = %chain(&error), "TLS handshake failed");
            }
            Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
        },
    }
    drop(permit);
}

async fn requests<S>(
    stream: S,
    peer: SocketAddr,
    progress: Progress,
    service: Service,
    stop: &Scope,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Service {
        router,
        trusted_proxies,
    } = service;
    let router = TowerToHyperService::new(router);
    let first = progress.clone();
    let stopping = Stopping(stop.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        let source = trusted_proxies.source(peer, request.headers());
        request.extensions_mut().insert(Source(source));
        request.extensions_mut().insert(progress.clone());
        request.extensions_mut().insert(stopping.clone());
        router.call(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let no_request = async {
        tokio::time::sleep(FIRST_REQUEST).await;
        if first.has_been_answered() {
            std::future::pending::<()>().await;
        }
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = no_request => {
            tracing::debug!(%peer, "no complete request came in time");
            return;
        }
        () = stop.cancelled() => {
            // The request that is being answered is answered; no further one is taken.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, error = %chain(&error), "connection ended");
    }
}

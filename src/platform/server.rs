//! Serves HTTP/1.1: accepts within limits, plain or with TLS, and closes in order.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use super::routes::Source;
use crate::error::chain;
use crate::host::notify;
use crate::net::accept::{Accepted, Acceptor};
use crate::pki;
use crate::scope::Scope;
use crate::secret::Secret;

/// Connections at once; further ones wait in the kernel's queue.
pub(super) const MAX_CONNECTIONS: usize = 1024;
/// Limit for a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Limit for the head of a request, and for the next request on an idle connection.
const HEAD: Duration = Duration::from_secs(30);
/// Largest head of a request.
const MAX_HEAD: usize = 16 * 1024;
/// Headers of a request.
const MAX_HEADERS: usize = 64;
/// How long requests may take to end once the platform stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What is in it is not what it should be.
    #[error(transparent)]
    Content(#[from] pki::Error),
    /// Certificate and key do not make a server.
    #[error("the certificate and the key cannot be used together")]
    Unusable(#[source] rustls::Error),
}

/// Files of the platform's own HTTPS certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM, the certificate first, its chain behind.
    pub certificate: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

impl TlsFiles {
    /// Reads both. Blocks.
    pub(super) fn load(&self) -> Result<TlsAcceptor, TlsError> {
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).map_err(|source| TlsError::File {
                path: path.clone(),
                source,
            })
        };
        let certificate = read(&self.certificate)?;
        let key = Secret::new(read(&self.key)?);
        let chain = pki::parse_certificates("--tls-cert", &certificate)?;
        let key = pki::parse_private_key("--tls-key", &key)?;
        let mut config = ServerConfig::builder_with_provider(pki::tls::provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(TlsError::Unusable)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// Accepts until `scope` is cancelled, then lets the running requests end.
///
/// # Errors
/// The listener broke.
pub(super) async fn serve(
    mut acceptor: Acceptor,
    tls: Option<TlsAcceptor>,
    router: Router,
    scope: &Scope,
) -> io::Result<()> {
    let connections = scope.child("connections");
    let result = loop {
        // Cancel-safe: a connection is either accepted or still in the queue.
        match scope.run(acceptor.accept()).await {
            None => break Ok(()),
            Some(Err(error)) => break Err(error),
            Some(Ok(accepted)) => {
                let (tls, router) = (tls.clone(), router.clone());
                let stop = connections.clone();
                connections.spawn("connection", async move {
                    connection(accepted, tls, router, &stop).await;
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

async fn connection(accepted: Accepted, tls: Option<TlsAcceptor>, router: Router, stop: &Scope) {
    let Accepted {
        stream,
        peer,
        permit,
    } = accepted;
    match tls {
        None => requests(stream, peer, router, stop).await,
        Some(tls) => match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
            Ok(Ok(stream)) => requests(stream, peer, router, stop).await,
            Ok(Err(error)) => {
                tracing::debug!(%peer, error = %chain(&error), "TLS handshake failed");
            }
            Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
        },
    }
    drop(permit);
}

async fn requests<S>(stream: S, peer: SocketAddr, router: Router, stop: &Scope)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Source(peer));
        router.call(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
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

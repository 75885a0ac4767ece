//! Serves metrics (`/metrics`), and whether the process is alive (`/healthz`) and the role serves
//! (`/readyz`). Requests change nothing.
//!
//! One task serves all peers: at most [`PEERS`] at a time, each with one request and a deadline.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::{Sources, text};
use crate::config::metrics::MetricsListen;
use crate::error::chain;
use crate::net::own_sockets::Listed;
use crate::net::{listen, unix_socket};

/// Peers that are served at a time; further ones wait in the kernel's queue.
const PEERS: usize = 16;
/// How long a peer may take for its request and the answer.
const LIMIT: Duration = Duration::from_secs(10);
/// The most bytes of a request's head; hyper takes no less than 8 KiB.
const MAX_HEAD: usize = 16 << 10;
/// The most headers of a request.
const MAX_HEADERS: usize = 64;
/// Pause after a failed accept, when descriptors are short for instance.
const PAUSE: Duration = Duration::from_millis(500);
/// Pause before the next attempt to listen where another program does.
const LISTEN_AGAIN: Duration = Duration::from_secs(10);
/// The owner and the group of the service may connect.
const SOCKET_MODE: u32 = 0o660;

const OPENMETRICS: &str = "application/openmetrics-text";
const OPENMETRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN_METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT_TYPE: &str = "text/plain; charset=utf-8";

/// Serves `sources` at the place that the newest of `settings` has, if it has one. Where it cannot
/// listen it tries again: the role works without.
pub(crate) async fn follow<S>(
    mut settings: watch::Receiver<S>,
    place: fn(&S) -> Option<MetricsListen>,
    sources: Sources,
) {
    let mut was_refused = false;
    loop {
        let listen = place(&settings.borrow_and_update());
        let has_moved = async {
            // Without a sender there are no newer settings.
            while settings.changed().await.is_ok() {
                if place(&settings.borrow_and_update()) != listen {
                    return;
                }
            }
            std::future::pending::<()>().await;
        };
        let serving = async {
            let Some(listen) = &listen else {
                return std::future::pending().await;
            };
            match Listener::bind(listen) {
                Ok(listener) => {
                    was_refused = false;
                    tracing::info!(address = listener.address(), "metrics are served");
                    listener.serve(&sources).await;
                }
                Err(error) if !was_refused => {
                    was_refused = true;
                    tracing::warn!(
                        error = %chain(error.as_ref()),
                        "metrics are not served; trying again every {} s",
                        LISTEN_AGAIN.as_secs()
                    );
                }
                Err(_) => {}
            }
            sleep(LISTEN_AGAIN).await;
        };
        tokio::select! {
            () = has_moved => was_refused = false,
            () = serving => {}
        }
    }
}

/// A connection of either kind.
trait Peer: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Peer for S {}

/// A listening socket. The file of a unix socket goes when this is dropped.
#[derive(Debug)]
enum Listener {
    Tcp {
        listener: TcpListener,
        /// No session may reach it.
        _listed: Option<Listed>,
    },
    Unix(UnixListener, PathBuf),
}

/// A unix socket that cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {}", .path.display())]
struct SocketError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Listener {
    fn bind(at: &MetricsListen) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        match at {
            MetricsListen::Tcp(address) => {
                let listener = listen::bind(Some(*address), 0)?;
                let _listed = Listed::new(&listener);
                Ok(Self::Tcp { listener, _listed })
            }
            MetricsListen::Unix(path) => {
                let path = path.clone();
                match unix_socket::listen(&path, SOCKET_MODE) {
                    Ok(listener) => Ok(Self::Unix(listener, path)),
                    Err(source) => Err(SocketError { path, source }.into()),
                }
            }
        }
    }

    fn address(&self) -> String {
        match self {
            Self::Tcp { listener, .. } => listener.local_addr().map_or_else(
                |_| String::new(),
                |address| format!("http://{address}/metrics"),
            ),
            Self::Unix(_, path) => format!("unix:{}", path.display()),
        }
    }

    async fn accept(&self) -> io::Result<Box<dyn Peer>> {
        Ok(match self {
            Self::Tcp { listener, .. } => Box::new(listener.accept().await?.0),
            Self::Unix(listener, _) => Box::new(listener.accept().await?.0),
        })
    }

    /// Never ends.
    async fn serve(&self, sources: &Sources) {
        let mut peers = FuturesUnordered::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.accept(), if peers.len() < PEERS => accepted,
                Some(()) = peers.next(), if !peers.is_empty() => continue,
            };
            match accepted {
                Ok(peer) => peers.push(serve_peer(peer, sources)),
                Err(_) => sleep(PAUSE).await,
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // If it is gone already, so much the better.
            let _ = fs::remove_file(path);
        }
    }
}

async fn serve_peer(peer: Box<dyn Peer>, sources: &Sources) {
    let answering = service_fn(|request| async move {
        let answer = answer(&request, sources).await;
        Ok::<_, Infallible>(answer)
    });
    let connection = Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(LIMIT)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        // A scrape is rare: a connection that waits for the next one would only take a place.
        .keep_alive(false)
        .serve_connection(TokioIo::new(peer), answering);
    // How it ends concerns this peer only.
    let _ = timeout(LIMIT, connection).await;
}

async fn answer(request: &Request<Incoming>, sources: &Sources) -> Response<String> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut answer = text_answer(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        let allowed = HeaderValue::from_static("GET, HEAD");
        answer.headers_mut().insert(ALLOW, allowed);
        return answer;
    }
    match request.uri().path() {
        "/metrics" => metrics(request, sources).await,
        "/healthz" if sources.is_alive().await => text_answer(StatusCode::OK, "ok\n"),
        "/healthz" => text_answer(
            StatusCode::SERVICE_UNAVAILABLE,
            "the supervisor does not answer\n",
        ),
        "/readyz" => match sources.readiness() {
            Ok(line) => text_answer(StatusCode::OK, line),
            Err(line) => text_answer(StatusCode::SERVICE_UNAVAILABLE, line),
        },
        _ => text_answer(StatusCode::NOT_FOUND, "/metrics, /healthz or /readyz\n"),
    }
}

async fn metrics(request: &Request<Incoming>, sources: &Sources) -> Response<String> {
    let Ok(collected) = sources.collect().await else {
        let wrong = "the metrics cannot be encoded\n";
        return text_answer(StatusCode::INTERNAL_SERVER_ERROR, wrong);
    };
    let accepted = request.headers().get(ACCEPT);
    let is_open = accepted
        .and_then(|accepted| accepted.to_str().ok())
        .is_some_and(|accepted| accepted.contains(OPENMETRICS));
    if is_open {
        typed_answer(StatusCode::OK, OPENMETRICS_TYPE, collected)
    } else {
        typed_answer(StatusCode::OK, PLAIN_METRICS_TYPE, text::plain(&collected))
    }
}

fn text_answer(status: StatusCode, text: impl Into<String>) -> Response<String> {
    typed_answer(status, TEXT_TYPE, text.into())
}

fn typed_answer(status: StatusCode, kind: &'static str, text: String) -> Response<String> {
    let mut answer = Response::new(text);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

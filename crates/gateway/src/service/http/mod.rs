//! The service `infisical-http-proxy` (protocol.md §5): a configuration line, then HTTP/1.1
//! requests that are forwarded to the target of the client's certificate until the connection ends.
//!
//! [`config_line`] reads the line, [`forward`] passes requests on and answers for a target that
//! cannot, [`target`] connects, [`trust`] judges a target's certificate, [`body`] streams,
//! [`flush`] sees to it that a client has what came before an answer broke off, [`headers`] knows
//! what belongs to one connection only, and [`kubernetes`] lends a request the identity of the
//! gateway's pod where the platform asks for it.
//!
//! Invariants: memory per client connection is bounded, whatever the sizes of bodies and the speed
//! of either side; every wait for a peer has an end; nothing of one client's connection outlives
//! it. Upgrades (WebSocket) are not offered to the target.

mod body;
pub mod config_line;
mod flush;
mod forward;
mod headers;
mod kubernetes;
mod target;
mod trust;

#[cfg(test)]
mod tests;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};

use crate::audit::Outcome;
use crate::pki::extensions::{Actor, Route};
use crate::scope::Scope;
use crate::targets::{NotAllowed, TargetAccess};
use config_line::ConfigLine;
use flush::Flushing;
use forward::Forwarder;
pub use kubernetes::{ACTION_HEADER, Cluster};
use target::{Origin, Target};
pub use trust::Roots;
use trust::Trust;

/// Largest head of a request or an answer in bytes, and the size of each buffer.
const MAX_HEAD: usize = 64 * 1024;
/// Most header lines of a request or an answer.
const MAX_HEADERS: usize = 256;
/// Bytes read at once while the configuration line is due; later reads bypass this buffer.
const LINE_BUFFER: usize = 8 * 1024;

/// What the client's certificate says about a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    /// The target.
    pub(crate) route: &'a Route,
    /// On whose behalf; only the platform may ask for actions.
    pub(crate) actor: Option<&'a Actor>,
    /// What it may reach, and where it is recorded.
    pub(crate) access: &'a TargetAccess<'a>,
}

/// How long to wait for whom. A parameter for the tests only.
#[derive(Debug, Clone)]
struct Deadlines {
    /// The client's configuration line.
    line: Duration,
    /// The client's next request, from the end of the last one to the end of its head.
    head: Duration,
    /// A connection to the target, name resolution and TLS included.
    connect: Duration,
    /// The target's answer, from the last sign of its taking the request to the end of the answer's
    /// head.
    answer: Duration,
    /// The next bytes of an answer's body.
    silence: Duration,
    /// The kept connection to the target after an answer's end.
    reuse: Duration,
    /// What is left of a body that no one wants.
    discard: Duration,
    /// The request in progress when the gateway stops.
    drain: Duration,
}

impl Deadlines {
    /// Deployed gateways end each exchange after 30 s as a whole; large bodies need longer.
    const DEFAULT: Self = Self {
        line: Duration::from_secs(10),
        head: Duration::from_secs(120),
        connect: Duration::from_secs(10),
        answer: Duration::from_secs(30),
        silence: Duration::from_secs(300),
        reuse: Duration::from_secs(1),
        discard: Duration::from_secs(2),
        drain: Duration::from_secs(10),
    };
}

/// Why a connection ended that should not have.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum Error {
    #[error(transparent)]
    ConfigLine(#[from] config_line::Error),
    /// A newer policy refuses what it has a connection to.
    #[error(transparent)]
    NotAllowed(NotAllowed),
    #[error("no request within {} s", .0.as_secs())]
    Idle(Duration),
    /// The client's HTTP is not valid, its connection failed, or an answer broke off.
    #[error("the HTTP connection failed")]
    Http(#[source] hyper::Error),
    /// The gateway stopped, and the request in progress was not done in time.
    #[error("the gateway stopped")]
    Stopped,
}

impl Error {
    /// What it is in the record of the session.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Stopped => Outcome::Draining,
            Self::ConfigLine(_) | Self::NotAllowed(_) | Self::Idle(_) => Outcome::Refused,
            Self::Http(error) if error.is_parse() => Outcome::Refused,
            Self::Http(_) => Outcome::Cut,
        }
    }
}

/// Serves one client connection until it ends, or until the scope is cancelled and the request in
/// progress is done (bounded). Connections to the target run in `scope`, and end with this one.
/// After an error the caller must end the stream abnormally: the client may have had half an
/// answer.
///
/// # Errors
/// See [`Error`]; a target's failure is none of them, except where an answer had already begun.
pub(crate) async fn serve<S>(
    stream: S,
    request: Request<'_>,
    cluster: &Cluster,
    scope: &Scope,
) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    serve_within(stream, request, cluster, scope, &Deadlines::DEFAULT).await
}

async fn serve_within<S>(
    stream: S,
    request: Request<'_>,
    cluster: &Cluster,
    scope: &Scope,
    deadlines: &Deadlines,
) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stream = BufReader::with_capacity(LINE_BUFFER, stream);
    let reading = config_line::read(&mut stream, deadlines.line);
    let Some(line) = scope.run(reading).await else {
        // It has not asked for anything yet.
        let _ = tokio::time::timeout(deadlines.drain, stream.shutdown()).await;
        return Ok(());
    };
    let ConfigLine { roots, verify } = line?;
    let trust = match roots {
        _ if !verify => Trust::Anything,
        Some(roots) => Trust::Roots(roots),
        None => Trust::System,
    };
    let Route {
        target_host,
        target_port,
        ..
    } = request.route;
    let target = Origin::parse(target_host, *target_port).map(|origin| Target::new(origin, trust));
    let privileged = request.actor.is_some_and(Actor::is_platform);
    let flushed = Arc::default();
    let access = request.access;
    let forwarder = Forwarder::new(
        target, privileged, cluster, deadlines, scope, &flushed, access,
    );

    let mut connection = pin!(
        Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(deadlines.head)
            // A client may end its side after its last request and still wait for the answer.
            .half_close(true)
            .preserve_header_case(true)
            .auto_date_header(false)
            .max_headers(MAX_HEADERS)
            .max_header_size(MAX_HEAD)
            .max_buf_size(MAX_HEAD)
            .serve_connection(
                TokioIo::new(Flushing::new(
                    stream,
                    Arc::clone(&flushed),
                    access.session().traffic()
                )),
                service_fn(|request| forwarder.answer(request)),
            )
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        refused = access.revoked() => return Err(Error::NotAllowed(refused)),
        () = scope.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(deadlines.drain, connection).await {
                Ok(ended) => ended,
                Err(_) => return Err(Error::Stopped),
            }
        }
    };
    match ended {
        // A client that keeps its connection and has nothing more to ask.
        Err(error) if error.is_timeout() && forwarder.has_served() => Ok(()),
        Err(error) if error.is_timeout() => Err(Error::Idle(deadlines.head)),
        ended => ended.map_err(Error::Http),
    }
}

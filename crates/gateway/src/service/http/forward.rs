//! One request after the other to the target, and its answers back.
//!
//! Method, path, query, headers and body pass byte for byte, except what RFC 9110 §7.6 makes a
//! connection's own; no redirect is followed, nothing is decoded, no proxy of the environment is
//! used. The connection to the target is kept for the next request. A target that fails costs its
//! own request only: the client is answered 500 and may go on. What cannot be passed on is refused
//! with 501: `CONNECT`, and transfer codings other than chunked. Upgrades are not offered to the
//! target.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::{Either, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::body::{Download, Progress, Upload};
use super::flush::Flushed;
use super::kubernetes::{self, ACTION_HEADER, Action, Cluster};
use super::target::{Connection, Error as TargetError, InvalidTarget, Origin, Refusal, Target};
use super::trust::Trust;
use super::{Deadlines, headers};
use crate::audit::{Outcome, Session};
use crate::error::chain;
use crate::scope::Scope;
use crate::targets::{NotAllowed, TargetAccess};

/// What a client gets: an answer of the target, or our own.
pub(super) type Answer = Response<Either<Download, Full<Bytes>>>;

/// Bytes of a body that are read for nothing, so that a client whose request failed can send the
/// next.
const MAX_DISCARDED: u64 = 1024 * 1024;

/// Forwards the requests of one client connection.
#[derive(Debug)]
pub(super) struct Forwarder<'a> {
    /// An impossible target fails the requests that are for it, and not those for the cluster.
    target: Result<Target, InvalidTarget>,
    /// Whether the client may ask for actions.
    privileged: bool,
    cluster: &'a Cluster,
    deadlines: &'a Deadlines,
    scope: &'a Scope,
    /// Of the client's connection.
    flushed: &'a Arc<Flushed>,
    /// What they may reach.
    access: &'a TargetAccess<'a>,
    /// Where they are recorded.
    session: &'a Session,
    /// Whether a request has come.
    served: AtomicBool,
    /// The connection to the target between two requests.
    idle: Mutex<Option<Connection>>,
    /// Every connection to a target ends with this value.
    connections: CancellationToken,
    _cut: DropGuard,
}

/// Why a request has no answer from its target.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("CONNECT is not supported")]
    Connect,
    #[error("transfer codings other than chunked are not supported")]
    TransferCoding,
    #[error("the request names no path")]
    NoPath,
    #[error("failed to create proxy request")]
    Target(#[source] InvalidTarget),
    #[error(transparent)]
    Cluster(#[from] kubernetes::Error),
    #[error(transparent)]
    NotAllowed(NotAllowed),
    #[error("failed to reach target due to networking error")]
    Unreachable(#[source] TargetError),
}

impl Failure {
    fn status(&self) -> StatusCode {
        match self {
            Self::Connect | Self::TransferCoding => StatusCode::NOT_IMPLEMENTED,
            Self::NoPath => StatusCode::BAD_REQUEST,
            Self::Target(_) | Self::Cluster(_) | Self::NotAllowed(_) | Self::Unreachable(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }

    /// What it is in the record of the session.
    fn outcome(&self) -> Outcome {
        match self {
            Self::Connect
            | Self::TransferCoding
            | Self::NoPath
            | Self::Target(_)
            | Self::NotAllowed(_) => Outcome::Refused,
            Self::Cluster(_) | Self::Unreachable(_) => Outcome::Unreachable,
        }
    }

    /// The sentence for the client; only networking errors are explained to it, as deployed.
    fn message(&self) -> String {
        match self {
            Self::Unreachable(_) => format!("gateway: {}", chain(self)),
            Self::Connect
            | Self::TransferCoding
            | Self::NoPath
            | Self::Target(_)
            | Self::Cluster(_)
            | Self::NotAllowed(_) => {
                format!("gateway: {self}")
            }
        }
    }
}

/// Where a request goes.
enum Destination<'a> {
    Target(&'a Target),
    Cluster(Box<Target>),
}

impl Destination<'_> {
    fn target(&self) -> &Target {
        match self {
            Self::Target(target) => target,
            Self::Cluster(target) => target,
        }
    }
}

impl<'a> Forwarder<'a> {
    pub(super) fn new(
        target: Result<Target, InvalidTarget>,
        privileged: bool,
        cluster: &'a Cluster,
        deadlines: &'a Deadlines,
        scope: &'a Scope,
        flushed: &'a Arc<Flushed>,
        access: &'a TargetAccess<'a>,
    ) -> Self {
        let connections = CancellationToken::new();
        Self {
            target,
            privileged,
            cluster,
            deadlines,
            scope,
            flushed,
            access,
            session: access.session(),
            served: AtomicBool::new(false),
            idle: Mutex::new(None),
            _cut: connections.clone().drop_guard(),
            connections,
        }
    }

    /// Answers a request: always, whatever the target does.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Result<Answer, Infallible> {
        self.served.store(true, Ordering::Relaxed);
        let (mut head, body) = request.into_parts();
        let awaits_continue = headers::take_expect_continue(&mut head.headers);
        let body = Upload::new(body);
        let answer = match self.prepare(&mut head, &body).await {
            Ok((destination, connection)) => {
                self.exchange(&destination, connection, head, body).await
            }
            Err(failure) => {
                // Reading would ask a client that waits for 100 Continue to send what no one wants.
                if !awaits_continue {
                    body.discard(MAX_DISCARDED, self.deadlines.discard).await;
                }
                Err(failure)
            }
        };
        Ok(answer.unwrap_or_else(|failure| {
            let error = chain(&failure).to_string();
            tracing::debug!(%error, "HTTP request failed");
            self.session.request_failed(failure.outcome(), error);
            own_answer(&failure)
        }))
    }

    /// True once a request has come.
    pub(super) fn has_served(&self) -> bool {
        self.served.load(Ordering::Relaxed)
    }

    /// Makes the head that the target shall see, and a connection to send it on.
    async fn prepare(
        &self,
        head: &mut Parts,
        body: &Upload,
    ) -> Result<(Destination<'_>, Connection), Failure> {
        if head.method == Method::CONNECT {
            return Err(Failure::Connect);
        }
        if !headers::is_plain_or_chunked(&head.headers) {
            return Err(Failure::TransferCoding);
        }
        let action = head.headers.remove(ACTION_HEADER);
        headers::strip_hop_by_hop(&mut head.headers);
        let action = action.filter(|_| self.privileged);
        let destination = match action.as_ref().and_then(Action::parse) {
            None => self.own_target()?,
            Some(Action::InjectToken) => {
                let authorization = self.cluster.authorization().await?;
                head.headers.insert(AUTHORIZATION, authorization);
                self.own_target()?
            }
            Some(Action::UseServiceAccount) => {
                let roots = self.cluster.roots().await?;
                let authorization = self.cluster.authorization().await?;
                head.headers.insert(AUTHORIZATION, authorization);
                let (host, port) = self.cluster.api.as_ref().map_or(("", 0), |(h, p)| (h, *p));
                let origin =
                    Origin::parse(&format!("https://{host}"), port).map_err(Failure::Target)?;
                Destination::Cluster(Box::new(Target::new(origin, Trust::Roots(roots))))
            }
        };
        head.headers
            .insert(HOST, destination.target().origin.authority.clone());
        if body.size_hint().exact().is_none() {
            // Said aloud, because the library drops a GET's body of unknown length otherwise.
            head.headers
                .insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        head.version = Version::HTTP_11;
        // The origin form (RFC 9112 §3.2.1), also of a request that came in absolute form.
        let path = head.uri.path_and_query().cloned();
        head.uri = path.map(Uri::from).ok_or(Failure::NoPath)?;
        let connection = match self.reuse(&destination).await {
            Some(connection) => connection,
            None => self.connect(&destination).await?,
        };
        Ok((destination, connection))
    }

    fn own_target(&self) -> Result<Destination<'_>, Failure> {
        match &self.target {
            Ok(target) => Ok(Destination::Target(target)),
            Err(error) => Err(Failure::Target(error.clone())),
        }
    }

    /// The kept connection, if it still can take a request.
    async fn reuse(&self, destination: &Destination<'_>) -> Option<Connection> {
        // The cluster's credentials may differ at each request: never reused.
        let Destination::Target(_) = destination else {
            return None;
        };
        let mut connection = self.idle().take()?;
        // The last answer is through, so this takes one turn of the connection's task at most.
        if let Ok(true) = tokio::time::timeout(self.deadlines.reuse, connection.is_ready()).await {
            Some(connection)
        } else {
            connection.cut();
            None
        }
    }

    async fn connect(&self, destination: &Destination<'_>) -> Result<Connection, Failure> {
        let cut = self.connections.child_token();
        let connecting =
            destination
                .target()
                .connect(self.access, self.scope, cut, self.deadlines.connect);
        let begin = Instant::now();
        let connection = connecting.await.map_err(|error| match error {
            TargetError::NotAllowed(error) => Failure::NotAllowed(error),
            error => {
                self.session.metrics().target_failed(error.reason());
                Failure::Unreachable(error)
            }
        })?;
        self.session.metrics().target_reached(begin.elapsed());
        self.session.reached(connection.address());
        Ok(connection)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Option<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the request and waits for the head of its answer.
    async fn exchange(
        &self,
        destination: &Destination<'_>,
        mut connection: Connection,
        head: Parts,
        body: Upload,
    ) -> Result<Answer, Failure> {
        // A target may close a kept connection at the very moment that it is used again (RFC 9112
        // §9.3.1). What then never left, or has no body and is idempotent, is sent once more.
        let kept = connection.is_kept();
        let copy = (kept && body.is_empty() && head.method.is_idempotent()).then(|| head.clone());
        let mut sent = self.send(&mut connection, head, body).await;
        if kept && let Err(refusal) = sent {
            connection.cut();
            let (head, body) = match (refusal, copy) {
                (Refusal::Unsent(request, _), _) => request.into_parts(),
                (Refusal::Broken(error), Some(head)) if !error.is_parse() => {
                    (head, Upload::empty())
                }
                (refusal, _) => return Err(Failure::Unreachable(refusal.into())),
            };
            connection = match self.connect(destination).await {
                Ok(connection) => connection,
                Err(failure) => {
                    body.discard(MAX_DISCARDED, self.deadlines.discard).await;
                    return Err(failure);
                }
            };
            sent = self.send(&mut connection, head, body).await;
        }
        match sent {
            Ok((response, upload)) => self.accept(destination, connection, response, upload),
            Err(refusal) => {
                connection.cut();
                Err(Failure::Unreachable(refusal.into()))
            }
        }
    }

    /// Sends on this connection. The deadline runs while nothing happens: not while the target is
    /// taking the body.
    async fn send(
        &self,
        connection: &mut Connection,
        head: Parts,
        body: Upload,
    ) -> Result<(Response<Incoming>, Arc<Progress>), Refusal> {
        let upload = body.progress();
        let mut sending = pin!(connection.send(Request::from_parts(head, body)));
        let mut frames = upload.frames();
        loop {
            match tokio::time::timeout(self.deadlines.answer, sending.as_mut()).await {
                Ok(answered) => return answered.map(|response| (response, upload)),
                Err(_) if upload.frames() != frames => frames = upload.frames(),
                Err(_) => return Err(Refusal::NoAnswer(self.deadlines.answer)),
            }
        }
    }

    /// Makes the client's answer of the target's, and keeps the connection.
    fn accept(
        &self,
        destination: &Destination<'_>,
        connection: Connection,
        response: Response<Incoming>,
        upload: Arc<Progress>,
    ) -> Result<Answer, Failure> {
        let (mut head, body) = response.into_parts();
        let refused = if head.status == StatusCode::SWITCHING_PROTOCOLS {
            Some(TargetError::SwitchedProtocols)
        } else if !headers::is_plain_or_chunked(&head.headers) {
            Some(TargetError::TransferCoding)
        } else {
            None
        };
        if let Some(error) = refused {
            connection.cut();
            return Err(Failure::Unreachable(error));
        }
        self.session.served();
        headers::strip_hop_by_hop(&mut head.headers);
        head.version = Version::HTTP_11;
        let body = Download::new(
            body,
            self.deadlines.silence,
            upload,
            connection.cutter(),
            Arc::clone(self.flushed),
        );
        if let Destination::Target(_) = destination {
            *self.idle() = Some(connection.kept());
        }
        Ok(Response::from_parts(head, Either::Left(body)))
    }
}

/// Our own answer: JSON, spelt as deployed.
fn own_answer(failure: &Failure) -> Answer {
    let message = serde_json::Value::String(failure.message());
    let body = format!("{{\"message\": {message}}}");
    let mut answer = Response::new(Either::Right(Full::from(body)));
    *answer.status_mut() = failure.status();
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

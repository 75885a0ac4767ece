//! The gateway: keeps a tunnel to a relay for ever and answers the sessions that arrive through it.
//!
//! Tasks, all within the scope that [`run`] is given:
//! - the link (this module's [`Gateway::drive`], in the caller's own task): acts as [`link::Link`] decides, which
//!   is to register, dial, serve, wait or give up;
//! - `renew`: replaces the credentials before they expire ([`renew`]);
//! - `heartbeat`: proves the whole path while the tunnel is up ([`heartbeat`]);
//! - one task for each session ([`session`], [`service`]).
//!
//! The gateway listens nowhere.

mod access;
mod enroll;
mod heartbeat;
pub mod identity;
pub mod issue;
mod link;
mod relay_choice;
mod renew;
pub mod service;
pub mod session;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::api::login::TokenSource;
use crate::api::{self, Client};
use crate::backoff::{self, Backoff};
use crate::config::file;
use crate::config::settings::{GatewayCredential, GatewaySettings};
use crate::error::{Class, Reason, chain};
use crate::events;
use crate::names::RelayHost;
use crate::scope::Scope;
use crate::secret::Secret;
use crate::ssh::client;
use access::Access;
use identity::Identity;
use issue::Issuer;
use link::{Action, Event, Link};
use service::http::Cluster;

/// Delays between attempts to spend an enrollment token while the platform is away.
const ENROLL_BASE: Duration = Duration::from_millis(500);
const ENROLL_CAP: Duration = Duration::from_secs(30);
/// How long the gateway's own tasks may take to end.
const STOP: Duration = Duration::from_secs(5);

/// Why a gateway gave up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Calls to the platform cannot be made.
    #[error(transparent)]
    Client(api::Error),
    /// The enrollment token was refused.
    #[error("the enrollment token cannot be used; create a new one and start again")]
    Enrollment(#[source] api::Error),
    /// The access token cannot be kept.
    #[error("the gateway's access token cannot be kept")]
    Store(#[source] file::Error),
    /// The platform refuses this gateway for good.
    #[error("the platform gives this gateway no credentials")]
    Credentials(#[source] issue::Error),
    /// The tunnel cannot be made with what the platform gave.
    #[error("the tunnel cannot be made")]
    Tunnel(#[source] session::Error),
    /// A part of the gateway ended that must not.
    #[error("the gateway's {0} task ended unexpectedly")]
    Casualty(&'static str),
}

impl Error {
    /// Whose fault it is; decides the exit code.
    #[must_use]
    pub fn reason(&self) -> Reason {
        let of = |error: &api::Error| match error.class() {
            Class::Fatal(reason) => reason,
            Class::Reauthenticate | Class::Reenroll => Reason::Permission,
            Class::Retry | Class::RetryAfter(_) => Reason::Unavailable,
        };
        match self {
            Self::Client(error) | Self::Enrollment(error) => of(error),
            Self::Store(_) => Reason::Unavailable,
            Self::Credentials(error) => error.reason(),
            Self::Tunnel(_) => Reason::Configuration,
            Self::Casualty(_) => Reason::Software,
        }
    }
}

/// How the gateway is, in one line for `systemctl status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Nothing was tried yet.
    Starting,
    /// The tunnel is up.
    Connected(RelayHost),
    /// The last attempt failed; the next one follows.
    Retrying {
        /// What failed.
        error: String,
        /// When the next attempt is due.
        after: Duration,
    },
    /// Sessions finish before the end.
    Draining,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Connected(host) => write!(f, "connected to {host}"),
            Self::Retrying { error, after } => {
                write!(
                    f,
                    "not connected, next attempt in {} ms: {error}",
                    after.as_millis()
                )
            }
            Self::Draining => f.write_str("stopping, sessions finish"),
        }
    }
}

/// Runs a gateway until `scope` is cancelled and everything is closed, or until a person must act.
/// `status` is kept current; nobody need listen.
///
/// # Errors
/// See [`Error`]; everything that time may cure is retried instead.
pub async fn run(
    settings: GatewaySettings,
    cluster: Cluster,
    status: watch::Sender<Status>,
    scope: Scope,
) -> Result<(), Error> {
    let client = Client::try_new(&settings.domain, &settings.headers).map_err(Error::Client)?;
    let Some(access) = open_access(&settings, &client, &status, &scope).await? else {
        return Ok(());
    };

    let tasks = scope.child("gateway");
    let issuer = Arc::new(Issuer::new(
        client.clone(),
        access.clone(),
        settings.name.clone(),
        settings.relay.clone(),
    ));
    let (current, _) = watch::channel(None);
    let (up, is_up) = watch::channel(false);
    // One place: a second piece of the same news says nothing new.
    let (proved, proofs) = mpsc::channel(1);
    {
        let stop = tasks.clone();
        let renewing = renew::run(Arc::clone(&issuer), current.clone());
        tasks.spawn_essential("renew", async move {
            stop.run(renewing).await;
        });
        let stop = tasks.clone();
        let beating = heartbeat::run(client, access, is_up, proved);
        tasks.spawn_essential("heartbeat", async move {
            stop.run(beating).await;
        });
    }
    let pinned = settings.relay.is_some();
    let mut gateway = Gateway {
        issuer,
        current,
        up,
        proofs,
        status,
        cluster: Arc::new(cluster),
        pinned,
    };
    let result = gateway.drive(&tasks).await;
    let casualty = tasks.casualty();
    tasks.cancel();
    tasks.finish(STOP).await;
    match casualty {
        Some(task) => Err(Error::Casualty(task)),
        None => result,
    }
}

/// The link and what it acts on.
struct Gateway {
    issuer: Arc<Issuer>,
    /// Shared with `renew`; sessions take their TLS configuration from it.
    current: watch::Sender<Option<Arc<Identity>>>,
    /// Heard by `heartbeat`.
    up: watch::Sender<bool>,
    /// Said by `heartbeat`.
    proofs: mpsc::Receiver<()>,
    status: watch::Sender<Status>,
    cluster: Arc<Cluster>,
    pinned: bool,
}

impl Gateway {
    /// Does what the link says until `scope` is cancelled or the link gives up.
    async fn drive(&mut self, scope: &Scope) -> Result<(), Error> {
        let mut link = Link::new(self.pinned);
        let mut action = Action::Register;
        let mut tunnel: Option<(client::Session, Arc<Identity>)> = None;
        let mut failure: Option<Error> = None;
        let mut started = false;
        loop {
            let event = match action {
                Action::Register => match scope.run(self.issuer.issue()).await {
                    None => return Ok(()),
                    Some(Ok(identity)) => {
                        tracing::info!(
                            message_id = events::GATEWAY_REGISTERED.id,
                            gateway.id = %identity.gateway_id,
                            relay.host = %identity.relay_host,
                            "{}",
                            events::GATEWAY_REGISTERED
                        );
                        self.current.send_replace(Some(Arc::new(identity)));
                        Event::Registered
                    }
                    Some(Err((error, class))) => {
                        failure = Some(Error::Credentials(error));
                        Event::RegistrationFailed {
                            class,
                            usable: self.usable(),
                        }
                    }
                },
                Action::Connect => {
                    let Some(identity) = self.current.borrow().clone() else {
                        action = Action::Register;
                        continue;
                    };
                    match scope.run(session::connect(&identity)).await {
                        None => return Ok(()),
                        Some(Ok(session)) => {
                            tunnel = Some((session, identity));
                            Event::Connected
                        }
                        Some(Err(error)) => {
                            let class = error.class();
                            failure = Some(Error::Tunnel(error));
                            Event::ConnectionFailed(class)
                        }
                    }
                }
                Action::Serve => {
                    let Some((session, identity)) = tunnel.take() else {
                        action = Action::Register;
                        continue;
                    };
                    let host = identity.relay_host.clone();
                    if started {
                        tracing::info!(
                            message_id = events::TUNNEL_UP_AGAIN.id,
                            relay.host = %host,
                            "{}",
                            events::TUNNEL_UP_AGAIN
                        );
                    } else {
                        tracing::info!(
                            message_id = events::GATEWAY_STARTED.id,
                            relay.host = %host,
                            "{}",
                            events::GATEWAY_STARTED
                        );
                        started = true;
                    }
                    self.status.send_replace(Status::Connected(host));
                    match self.serve(session, &identity, &mut link, scope).await {
                        None => return Ok(()),
                        Some(error) => {
                            let class = error.class();
                            failure = Some(Error::Tunnel(error));
                            Event::Lost(class)
                        }
                    }
                }
                Action::Wait(delay) => {
                    self.report_wait(failure.as_ref(), delay, link.attempts());
                    if scope.run(tokio::time::sleep(delay)).await.is_none() {
                        return Ok(());
                    }
                    Event::Elapsed {
                        usable: self.usable(),
                    }
                }
                Action::Stop(_) => return failure.map_or(Ok(()), Err),
                // Only ever the answer to `Proved`, which `serve` handles itself.
                Action::Continue => Event::Elapsed {
                    usable: self.usable(),
                },
            };
            action = link.handle(event, backoff::random());
        }
    }

    /// Serves one tunnel to its end, and tells the link when it has proved useful.
    async fn serve(
        &mut self,
        session: client::Session,
        identity: &Identity,
        link: &mut Link,
        scope: &Scope,
    ) -> Option<session::Error> {
        // What is left of the tunnel before proves nothing about this one.
        while self.proofs.try_recv().is_ok() {}
        self.up.send_replace(true);
        let current = self.current.subscribe();
        let serving = session::serve(session, identity, &current, &self.cluster, scope);
        tokio::pin!(serving);
        let useful_at = Instant::now() + link::USEFUL_AFTER;
        let mut lived = false;
        let mut draining = false;
        let ended = loop {
            tokio::select! {
                ended = &mut serving => break ended,
                Some(()) = self.proofs.recv() => {
                    link.handle(Event::Proved, 0);
                }
                () = tokio::time::sleep_until(useful_at), if !lived => {
                    lived = true;
                    link.handle(Event::Proved, 0);
                }
                () = scope.cancelled(), if !draining => {
                    draining = true;
                    self.status.send_replace(Status::Draining);
                }
            }
        };
        self.up.send_replace(false);
        ended
    }

    fn usable(&self) -> bool {
        self.current
            .borrow()
            .as_ref()
            .is_some_and(|identity| identity.is_usable())
    }

    fn report_wait(&self, failure: Option<&Error>, delay: Duration, attempt: u32) {
        let error = failure.map_or_else(String::new, |error| chain(error).to_string());
        tracing::warn!(
            message_id = events::NOT_CONNECTED.id,
            error,
            attempt,
            delay_ms = delay.as_millis(),
            "{}",
            events::NOT_CONNECTED
        );
        self.status.send_replace(Status::Retrying {
            error,
            after: delay,
        });
    }
}

/// Prepares the credential; spends an enrollment token if that is what there is. `None` if `scope` was
/// cancelled before.
async fn open_access(
    settings: &GatewaySettings,
    client: &Client,
    status: &watch::Sender<Status>,
    scope: &Scope,
) -> Result<Option<Access>, Error> {
    match &settings.credential {
        GatewayCredential::Identity(credential) => {
            let source = TokenSource::new(client.clone(), credential.clone());
            Ok(Some(Access::Identity(source)))
        }
        GatewayCredential::AccessToken(token) => Ok(Some(Access::Gateway(token.clone()))),
        GatewayCredential::Enroll { token } => {
            enroll::prepare(&settings.store, &settings.domain).map_err(Error::Store)?;
            let token = spend(token, settings, client, status, scope).await?;
            Ok(token.map(Access::Gateway))
        }
    }
}

/// Buys the access token. Only the waits heed `scope`: an answer under way may hold the only copy of what a
/// one-time token bought. The call itself is bounded by its own deadline.
async fn spend(
    token: &Secret,
    settings: &GatewaySettings,
    client: &Client,
    status: &watch::Sender<Status>,
    scope: &Scope,
) -> Result<Option<Secret>, Error> {
    let mut backoff = Backoff::new(ENROLL_BASE, ENROLL_CAP);
    while !scope.is_cancelled() {
        let error = match client.enroll_gateway(token).await {
            Ok(login) => {
                enroll::save(&settings.store, token, &login).map_err(Error::Store)?;
                tracing::info!(
                    message_id = events::ENROLLED.id,
                    gateway.id = %login.gateway_id,
                    store = %settings.store.display(),
                    "{}",
                    events::ENROLLED
                );
                return Ok(Some(login.access_token));
            }
            Err(error) => error,
        };
        let at_least = match error.class() {
            Class::Retry => Duration::ZERO,
            Class::RetryAfter(wait) => wait,
            Class::Reauthenticate | Class::Reenroll | Class::Fatal(_) => {
                return Err(Error::Enrollment(error));
            }
        };
        let delay = at_least.saturating_add(backoff.next_delay(backoff::random()));
        let text = chain(&error).to_string();
        tracing::warn!(
            message_id = events::NOT_ENROLLED.id,
            error = text,
            delay_ms = delay.as_millis(),
            "{}",
            events::NOT_ENROLLED
        );
        status.send_replace(Status::Retrying {
            error: text,
            after: delay,
        });
        scope.run(tokio::time::sleep(delay)).await;
    }
    Ok(None)
}

//! The gateway: keeps a tunnel to a relay for ever and answers the sessions that arrive through it.
//!
//! Tasks, all within the scope that [`run`] is given:
//! - the link (this module's [`Gateway::drive`], in the caller's own task): acts as [`link::Link`] decides, which
//!   is to register, dial, stay with a tunnel, wait or give up;
//! - `renew`: replaces the credentials before they expire ([`renew`]);
//! - `heartbeat`: proves the whole path while the tunnel is up ([`heartbeat`]);
//! - `reload`: follows changes of the settings ([`reload`]);
//! - one task for each tunnel ([`tunnel`], [`session`]), and one for each of its sessions ([`service`]).
//!
//! The first four are supervised: one that panics is started again, the tunnels go on meanwhile. The link answers for
//! all of them when the watchdog asks ([`health`](crate::health)). The gateway listens nowhere.

mod access;
mod enroll;
mod heartbeat;
pub mod identity;
pub mod issue;
mod link;
pub mod monitor;
mod relay_choice;
mod reload;
mod renew;
pub mod service;
pub mod session;
mod tunnel;

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
use crate::health::Heart;
use crate::scope::Scope;
use crate::secret::Secret;
use access::Access;
use identity::Identity;
use issue::Issuer;
use link::{Action, Event, Link};
use monitor::{Phase, Reporter};
use service::http::Cluster;
use session::Shared;
use tunnel::{Tunnel, Tunnels};

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

/// Runs a gateway as the newest of `settings` says until `scope` is cancelled and everything is closed, or until a
/// person must act. `heart` answers for it; `reporter` is told how it is.
///
/// # Errors
/// See [`Error`]; everything that time may cure is retried instead.
pub async fn run(
    settings: watch::Receiver<GatewaySettings>,
    cluster: Cluster,
    reporter: Reporter,
    mut heart: Heart,
    scope: Scope,
) -> Result<(), Error> {
    let first = settings.borrow().clone();
    let opening = reload::issuer(&first, &reporter, &scope);
    let Some(issuer) = heart.during(|| reporter.check(), opening).await? else {
        return Ok(());
    };

    let tasks = scope.child("gateway");
    let (issuers, issuer) = watch::channel(Arc::new(issuer));
    let (current, newest) = watch::channel(None);
    let (up, is_up) = watch::channel(false);
    // One place: a second piece of the same news says nothing new.
    let (proved, proofs) = mpsc::channel(1);
    {
        let (stop, issuer, reporter) = (tasks.clone(), issuer.clone(), reporter.clone());
        let current = current.clone();
        tasks.spawn_supervised("renew", move || {
            let renewing = renew::run(issuer.clone(), current.clone(), reporter.clone());
            let stop = stop.clone();
            async move {
                stop.run(renewing).await;
            }
        });
    }
    {
        let (stop, issuer, reporter) = (tasks.clone(), issuer.clone(), reporter.clone());
        tasks.spawn_supervised("heartbeat", move || {
            let (issuer, is_up) = (issuer.clone(), is_up.clone());
            let beating = heartbeat::run(issuer, is_up, proved.clone(), reporter.clone());
            let stop = stop.clone();
            async move {
                stop.run(beating).await;
            }
        });
    }
    {
        let (stop, reporter) = (tasks.clone(), reporter.clone());
        tasks.spawn_supervised("reload", move || {
            let (settings, issuers) = (settings.clone(), issuers.clone());
            // Not cut by the scope: it may be spending a token.
            reload::run(settings, issuers, reporter.clone(), stop.clone())
        });
    }
    let shared = Shared {
        current: newest,
        cluster: Arc::new(cluster),
        reporter: reporter.clone(),
    };
    let mut gateway = Gateway {
        issuer,
        current,
        up,
        proofs,
        reporter: reporter.clone(),
        tunnels: Tunnels::new(&scope, shared),
        heart,
        started: false,
    };
    let driven = tasks
        .supervise("link", async || Box::pin(gateway.drive(&tasks)).await)
        .await;
    tasks.cancel();
    gateway.drain().await;
    tasks.finish(STOP).await;
    match (tasks.casualty(), driven) {
        (Some(task), _) => Err(Error::Casualty(task)),
        (None, Some(result)) => result,
        (None, None) => Ok(()),
    }
}

/// The link and what it acts on.
struct Gateway {
    /// The newest; the other end is `reload`.
    issuer: watch::Receiver<Arc<Issuer>>,
    /// Shared with `renew`; tunnels take their TLS configuration from it.
    current: watch::Sender<Option<Arc<Identity>>>,
    /// Heard by `heartbeat`.
    up: watch::Sender<bool>,
    /// Said by `heartbeat`.
    proofs: mpsc::Receiver<()>,
    reporter: Reporter,
    tunnels: Tunnels,
    /// Given a turn wherever the link waits.
    heart: Heart,
    /// There was a tunnel already.
    started: bool,
}

/// How the use of a tunnel ended.
enum Served {
    /// The gateway stops; the tunnel drains.
    Stopped,
    /// The tunnel ended.
    Lost(session::Error),
    /// The newest credentials are for another tunnel; this one has retired.
    Moved,
}

impl Gateway {
    /// Does what the link says until `scope` is cancelled or the link gives up.
    async fn drive(&mut self, scope: &Scope) -> Result<(), Error> {
        let mut link = Link::new(self.issuer.borrow().is_pinned(), self.started);
        let mut action = Action::Register;
        let mut tunnel: Option<Tunnel> = None;
        let mut failure: Option<Error> = None;
        loop {
            let event = match action {
                Action::Register => match scope.run(self.register(&mut link)).await {
                    None => return Ok(()),
                    Some(Ok(())) => Event::Registered,
                    Some(Err((error, class))) => {
                        failure = Some(Error::Credentials(error));
                        let usable = self.usable();
                        Event::RegistrationFailed { class, usable }
                    }
                },
                Action::Connect => match scope.run(self.connect()).await {
                    None => return Ok(()),
                    Some(Ok(connected)) => {
                        tunnel = connected;
                        // Without credentials there was nothing to connect with; the link asks for them.
                        match tunnel {
                            Some(_) => Event::Connected,
                            None => Event::ConnectionFailed(Class::Retry),
                        }
                    }
                    Some(Err(error)) => {
                        let class = error.class();
                        failure = Some(Error::Tunnel(error));
                        Event::ConnectionFailed(class)
                    }
                },
                Action::Serve => match tunnel.take() {
                    // Only ever after a connection that succeeded.
                    None => return Err(Error::Casualty("link")),
                    Some(tunnel) => match self.serve(tunnel, &mut link, scope).await {
                        Served::Stopped => return Ok(()),
                        Served::Moved => Event::Moved,
                        Served::Lost(error) => {
                            let class = error.class();
                            failure = Some(Error::Tunnel(error));
                            Event::Lost(class)
                        }
                    },
                },
                Action::Wait(delay) => {
                    self.report_wait(failure.as_ref(), delay, link.attempts());
                    match scope.run(self.wait(delay, &mut link)).await {
                        None => return Ok(()),
                        Some(event) => event,
                    }
                }
                Action::Stop(_) => return failure.map_or(Ok(()), Err),
                // Only ever the answer to `Proved`, which `serve` gives itself.
                Action::Continue => return Err(Error::Casualty("link")),
            };
            action = link.handle(event, backoff::random());
        }
    }

    /// Asks for credentials as the newest settings say; settings that come meanwhile begin it anew.
    async fn register(&mut self, link: &mut Link) -> Result<(), (issue::Error, Class)> {
        let identity = loop {
            let issuer = Arc::clone(&self.issuer.borrow_and_update());
            link.set_pinned(issuer.is_pinned());
            let reporter = &self.reporter;
            let changes = &mut self.issuer;
            let asking = async {
                tokio::select! {
                    issued = issuer.issue() => Some(issued),
                    Ok(()) = changes.changed() => None,
                }
            };
            if let Some(issued) = self.heart.during(|| reporter.check(), asking).await {
                break issued?;
            }
        };
        tracing::info!(
            message_id = events::GATEWAY_REGISTERED.id,
            gateway.id = %identity.gateway_id,
            relay.host = %identity.relay_host,
            "{}",
            events::GATEWAY_REGISTERED
        );
        self.reporter.renew_at(identity.renew_at);
        self.current.send_replace(Some(Arc::new(identity)));
        Ok(())
    }

    /// Dials with the newest credentials; `None` if there are none.
    async fn connect(&mut self) -> Result<Option<Tunnel>, session::Error> {
        let Some(identity) = self.current.borrow().clone() else {
            return Ok(None);
        };
        let connecting = session::connect(&identity);
        let session = self
            .heart
            .during(|| self.reporter.check(), connecting)
            .await?;
        Ok(Some(self.tunnels.serve(session, identity)))
    }

    /// Waits before the next attempt. New settings, or just the wish for them, end the wait.
    async fn wait(&mut self, delay: Duration, link: &mut Link) -> Event {
        let reporter = &self.reporter;
        let changes = &mut self.issuer;
        let waiting = async {
            tokio::select! {
                () = tokio::time::sleep(delay) => false,
                Ok(()) = changes.changed() => true,
            }
        };
        let nudged = self.heart.during(|| reporter.check(), waiting).await;
        link.set_pinned(self.issuer.borrow().is_pinned());
        Event::Elapsed {
            usable: !nudged && self.usable(),
        }
    }

    /// Stays with one tunnel until its end or its retirement, and tells the link when it has proved useful.
    async fn serve(&mut self, mut tunnel: Tunnel, link: &mut Link, scope: &Scope) -> Served {
        let relay = tunnel.identity.relay_name.clone();
        let event = if self.started {
            events::TUNNEL_UP_AGAIN
        } else {
            events::GATEWAY_STARTED
        };
        tracing::info!(
            message_id = event.id,
            relay.name = %relay,
            relay.host = %tunnel.identity.relay_host,
            "{event}"
        );
        self.started = true;
        self.reporter.phase(Phase::Connected(relay));
        // What is left of the tunnel before proves nothing about this one.
        while self.proofs.try_recv().is_ok() {}
        self.up.send_replace(true);
        let reporter = &self.reporter;
        let staying = Self::stay(
            &mut tunnel,
            &mut self.proofs,
            &mut self.issuer,
            &self.current,
            &self.tunnels,
            link,
            scope,
        );
        let served = self.heart.during(|| reporter.check(), staying).await;
        self.up.send_replace(false);
        if let Served::Moved = served {
            tracing::info!(
                relay.host = %tunnel.identity.relay_host,
                "moving to another tunnel; the sessions of this one go on"
            );
            tunnel.retire();
        }
        served
    }

    async fn stay(
        tunnel: &mut Tunnel,
        proofs: &mut mpsc::Receiver<()>,
        issuer: &mut watch::Receiver<Arc<Issuer>>,
        current: &watch::Sender<Option<Arc<Identity>>>,
        tunnels: &Tunnels,
        link: &mut Link,
        scope: &Scope,
    ) -> Served {
        let mut newest = current.subscribe();
        newest.mark_changed();
        let useful_at = Instant::now() + link::USEFUL_AFTER;
        let mut lived = false;
        loop {
            tokio::select! {
                // A tunnel that ends because the gateway stops is not lost.
                biased;
                () = scope.cancelled() => return Served::Stopped,
                error = tunnel.ended() => return Served::Lost(error),
                Ok(()) = newest.changed() => {
                    let moved = newest
                        .borrow_and_update()
                        .as_ref()
                        .is_some_and(|newest| !newest.shares_tunnel_with(&tunnel.identity));
                    if moved && tunnels.has_room() {
                        return Served::Moved;
                    } else if moved {
                        tracing::warn!(
                            "too many older tunnels still carry sessions; not moving to another one"
                        );
                    }
                }
                Ok(()) = issuer.changed() => {
                    link.set_pinned(issuer.borrow_and_update().is_pinned());
                }
                Some(()) = proofs.recv() => {
                    link.handle(Event::Proved, 0);
                }
                () = tokio::time::sleep_until(useful_at), if !lived => {
                    lived = true;
                    link.handle(Event::Proved, 0);
                }
            }
        }
    }

    /// Lets every tunnel drain; its sessions have a limit of their own.
    async fn drain(&mut self) {
        self.reporter.phase(Phase::Draining);
        self.tunnels.cancel();
        let draining = self.tunnels.finish(session::DRAIN * 2 + STOP);
        let reporter = &self.reporter;
        self.heart.during(|| reporter.check(), draining).await;
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
        self.reporter.phase(Phase::Retrying {
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
    reporter: &Reporter,
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
            let token = spend(token, settings, client, reporter, scope).await?;
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
    reporter: &Reporter,
    scope: &Scope,
) -> Result<Option<Secret>, Error> {
    let mut backoff = Backoff::new(ENROLL_BASE, ENROLL_CAP);
    while !scope.is_cancelled() {
        let error = match client.enroll_gateway(token).await {
            Ok(login) => {
                enroll::save(&settings.store, token, &login).map_err(Error::Store)?;
                tracing::info!(
                    gateway.id = %login.gateway_id,
                    store = %settings.store.display(),
                    "enrolled; the access token is saved"
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
            error = text,
            delay_ms = delay.as_millis(),
            "not enrolled; trying again"
        );
        reporter.phase(Phase::Retrying {
            error: text,
            after: delay,
        });
        scope.run(tokio::time::sleep(delay)).await;
    }
    Ok(None)
}

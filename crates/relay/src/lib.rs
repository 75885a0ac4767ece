//! The relay: gateways connect to it over SSH, clients over TLS 1, and it joins each client with a
//! channel of the gateway that the client's certificate names (protocol.md §3 and §4).
//!
//! Tasks, and what ends them:
//! - accepting gateways ([`gateways`]) and clients ([`clients`]): the scope of [`run`]; none of
//!   them may end before;
//! - `renew`, `reload`, `status` and `heartbeat`: the same, but one that panics is started again;
//! - one task for each gateway: its session's end, or the stop of the relay, after that gateway's
//!   clients;
//! - one task for each client: its bridge's end, or the stop of the relay, after a grace period.
//!
//! The relay never sees the plaintext of TLS 2, and believes nothing about a peer that the peer's
//! certificate does not say: a gateway is its certificate's first principal, a client's gateway is
//! its certificate's common name.

use infisical_agent as agent;
use infisical_api as api;
use infisical_config as config;
use infisical_host as host;
use infisical_pki as pki;
use infisical_runtime::{
    backoff, clock, error, event, events, health, log_throttle, names, net, scope, secret, trust,
};
use infisical_ssh as ssh;

mod bridge;
mod clients;
mod gateways;
mod heartbeat;
mod hub;
pub mod identity;
pub mod metrics;
mod platform_auth;
pub mod register;
mod registry;
mod status;
mod tunnel;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

use crate::agent::last_known_good::LastKnownGood;
use crate::agent::renew;
use crate::agent::status::Reporter;
use crate::api::Client;
use crate::config::settings::RelaySettings;
use crate::error::Reason;
use crate::health::LivenessResponder;
use crate::names::{SSH_PORT, TLS_PORT};
use crate::net::listen;
use crate::scope::Scope;
use hub::{Deadlines, Hub};
use identity::Identity;
use metrics::Metrics;

/// How long the relay's own tasks may take to end: longer than one call to the platform.
const LAST_CALL: Duration = Duration::from_secs(35);
/// How long what was cut may take to end, clients first and then gateways.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// Why a relay gave up.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum Error {
    #[error(transparent)]
    Listen(#[from] listen::Error),
    #[error(transparent)]
    Client(#[from] api::Error),
    /// A credential of an organization's relay for one of the instance, or the reverse.
    #[error(
        "an instance relay proves itself with the relay auth secret, an organization's with an identity or an enrollment"
    )]
    Contradiction,
    #[error(transparent)]
    Register(#[from] register::Error),
    #[error("the relay's {0} task ended unexpectedly")]
    FailedTask(&'static str),
}

impl Error {
    /// Whose fault it is; decides the exit code.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Listen(_) => Reason::Unavailable,
            Self::Client(_) | Self::Contradiction => Reason::Configuration,
            Self::Register(error) => error.reason(),
            Self::FailedTask(_) => Reason::Software,
        }
    }
}

/// Runs a relay as the newest of `settings` says until `scope` is cancelled and everything is
/// closed, or until a person must act. `responder` answers for it; `reporter` receives its status;
/// what worked before is `last_known_good`, and `metrics` shows what it does.
///
/// # Errors
/// See [`Error`]; everything that time may cure is retried instead.
pub async fn run(
    settings: watch::Receiver<RelaySettings>,
    last_known_good: &LastKnownGood,
    reporter: Reporter,
    metrics: Metrics,
    mut responder: LivenessResponder,
    scope: Scope,
) -> Result<(), Error> {
    let first = settings.borrow().clone();
    if !platform_auth::is_consistent(&first) {
        return Err(Error::Contradiction);
    }
    // First of all: with a port in use there is no point in spending an enrollment token.
    let ssh = listen::bind(first.ssh_listen, SSH_PORT)?;
    let tls = listen::bind(first.tls_listen, TLS_PORT)?;
    let client = client(&first)?;
    let beginning = Box::pin(register::begin(
        &client,
        &first,
        last_known_good,
        &reporter,
        &scope,
    ));
    let Some((auth, identity)) = responder.during(|| (), beginning).await? else {
        return Ok(());
    };

    last_known_good.note(&auth.fingerprint());
    identity.report(&reporter);
    let host = identity.host.clone();
    let event = auth.issued();
    event!(event, relay.name = %first.name, relay.host = %host);

    let tasks = scope.child("relay");
    let renew = Arc::new(Notify::new());
    let (auths, auth) = watch::channel(Arc::new(auth));
    let (current, identity) = watch::channel(Arc::new(identity));
    let hub = Arc::new(Hub::new(identity, &first.limits, Deadlines::default()));
    metrics.follow(&hub);
    {
        let (auths, reporter, name) = (auth.clone(), reporter.clone(), first.name.clone());
        let now = Arc::clone(&renew);
        tasks.spawn_interruptible("renew", move || {
            let (reporter, name) = (reporter.clone(), name.clone());
            renew::run(
                auths.clone(),
                current.clone(),
                Arc::clone(&now),
                reporter.clone(),
                |identity: &Arc<Identity>| Some(identity.lifetime.clone()),
                move |auth| register::renew(auth, reporter.clone()),
                move |_| {
                    let event = events::CREDENTIALS_RENEWED;
                    event!(event, relay.name = %name);
                },
            )
        });
    }
    {
        let (reporter, stop) = (reporter.clone(), tasks.clone());
        tasks.spawn_supervised("reload", move || {
            let (settings, auths) = (settings.clone(), auths.clone());
            // Not cut by the scope: it may be spending a token.
            register::reload(settings, auths, reporter.clone(), stop.clone())
        });
    }
    log_listening(&ssh, &tls);
    let sockets = Sockets { ssh, tls };
    let serving = serve(sockets, Arc::clone(&hub), &reporter, tasks.clone());
    event!(events::RELAY_STARTED, relay.name = %first.name, relay.host = %host);
    status::publish(&hub, &reporter);
    reporter.up(None, None);
    {
        let (hub, reporter) = (Arc::clone(&hub), reporter.clone());
        let publishing = move || status::run(Arc::clone(&hub), reporter.clone());
        tasks.spawn_interruptible("status", publishing);
    }
    {
        let reporter = reporter.clone();
        let beating = move || heartbeat::run(auth.clone(), reporter.clone(), Arc::clone(&renew));
        tasks.spawn_interruptible("heartbeat", beating);
    }

    let check = || drop(hub.registry());
    responder.during(check, serving).await;
    // All end at once, unless `reload` is spending a token, whose answer may hold the only copy of
    // what it obtains. The watchdog's patience is shorter.
    responder.during(|| (), tasks.finish(LAST_CALL)).await;
    match tasks.failed_task() {
        Some(task) => Err(Error::FailedTask(task)),
        None => Ok(()),
    }
}

/// The client of the platform that `settings` say.
fn client(settings: &RelaySettings) -> Result<Client, api::Error> {
    agent::access::client(&settings.common)
}

/// The two listening sockets.
#[derive(Debug)]
struct Sockets {
    ssh: TcpListener,
    tls: TcpListener,
}

/// Logs where the relay listens, in the words of the deployed one where it has the same port.
fn log_listening(ssh: &TcpListener, tls: &TcpListener) {
    for (listener, port, event) in [
        (ssh, SSH_PORT, events::RELAY_SSH_LISTENING),
        (tls, TLS_PORT, events::RELAY_TLS_LISTENING),
    ] {
        match listener.local_addr() {
            Ok(address) if address.port() == port => {
                event!(event, %address);
            }
            Ok(address) => tracing::info!(%address, "listening on another port"),
            Err(_) => {}
        }
    }
}

/// Serves gateways and clients until `stop` is cancelled; then sees to an orderly end. Both ports
/// are closed and handshakes cut at once. Live bridges have [`hub::GRACE`]; each gateway receives a
/// disconnect message after the last of its own, so that it can dial another relay while others are
/// still served. Both acceptors run as soon as this is polled.
async fn serve(sockets: Sockets, hub: Arc<Hub>, reporter: &Reporter, stop: Scope) {
    // Not children of `stop`: they outlive it, each by its own time.
    let bridges = Scope::new("clients");
    let sessions = Scope::new("gateways");
    let gateways = gateways::serve(
        sockets.ssh,
        Arc::clone(&hub),
        stop.clone(),
        sessions.clone(),
    );
    let clients = clients::serve(sockets.tls, Arc::clone(&hub), stop.clone(), bridges.clone());
    stop.spawn_essential("gateway acceptor", gateways);
    stop.spawn_essential("client acceptor", clients);

    stop.cancelled().await;
    reporter.draining();
    let (live, connected) = (bridges.tasks(), hub.registry().len());
    if live > 0 {
        tracing::info!(live, "stopping; live connections may finish");
    }
    let grace = hub.deadlines.grace;
    let (all_clients, _) = tokio::join!(bridges.finish(grace), sessions.finish(grace));
    if !all_clients {
        tracing::warn!(live = bridges.tasks(), "connections are cut");
        bridges.cancel();
        bridges.finish(CLOSE_WAIT).await;
    }
    // Those whose last bridge has just ended are disconnected in their own time, not all at once.
    sessions.finish(CLOSE_WAIT).await;
    sessions.cancel();
    sessions.finish(CLOSE_WAIT).await;
    tracing::info!(gateways = connected, "stopped");
}

#[cfg(test)]
mod register_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

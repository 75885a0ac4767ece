//! The gateway: keeps a tunnel to a relay forever and answers the sessions that arrive through it.
//!
//! Tasks, all within the scope that [`run`] is given:
//! - the connection ([`connection`], in the caller's own task): does what its state machine
//!   decides, which is to register, connect, serve a tunnel, wait or give up;
//! - `renew`: replaces the credentials before they expire ([`agent::renew`]);
//! - `heartbeat`: proves the whole path while the tunnel is up ([`heartbeat`]);
//! - `reload`: follows changes of the settings ([`reload`]);
//! - `audit`: logs long sessions and counts ([`audit`]);
//! - `session_reports`: tells an embedded platform which sessions are open ([`session_reports`]);
//! - one task for each tunnel ([`connection::tunnel`], [`session`]), and one for each of its
//!   sessions ([`service`]).
//!
//! The first six are supervised: one that panics is started again, the tunnels go on meanwhile.
//! The connection answers for all of them when the watchdog asks (`health`). The gateway
//! listens nowhere.

use infisical_agent as agent;
use infisical_api as api;
use infisical_config as config;
use infisical_host as host;
use infisical_pki as pki;
use infisical_runtime::{
    backoff, clock, error, event, events, health, log_throttle, names, net, scope, secret, trust,
};
use infisical_ssh as ssh;

mod accepted_capabilities;
pub mod audit;
pub mod connection;
pub mod credential_client;
pub mod enroll;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod fuzzing;
mod heartbeat;
pub mod identity;
pub mod metrics;
mod platform_auth;
mod reload;
pub mod service;
mod session_reports;
pub mod targets;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};

use crate::agent::last_known_good::LastKnownGood;
use crate::agent::renew::{self, NotIssued};
use crate::agent::status::Reporter;
use crate::agent::status::condition::NO_TUNNEL;
use crate::api::Client;
use crate::api::login::TokenSource;
use crate::config::credential::Credential;
use crate::config::settings::GatewaySettings;
use crate::error::{Class, Reason, kind};
use crate::health::LivenessResponder;
use crate::log_throttle::LogThrottle;
use crate::names::GatewayId;
use crate::scope::Scope;
use audit::Audit;
use connection::cached_relay::{self, CachedRelay};
use connection::handover::{PredecessorLink, Successions};
use connection::reconnect_trigger::{self, ReconnectTriggers};
use connection::relay_reselection;
use connection::run::Driver;
use connection::session::{self, Shared};
use connection::tunnel::Tunnels;
use credential_client::CredentialClient;
use identity::Identity;
use platform_auth::PlatformAuth;
use reload::Made;
use service::http::Cluster;
use targets::Targets;

/// How long the gateway's own tasks may take to end: longer than one call to the platform.
const LAST_CALL: Duration = Duration::from_secs(35);
/// How long a tunnel may take to end after its sessions.
const STOP: Duration = Duration::from_secs(5);

/// Why a gateway gave up.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum Error {
    #[error(transparent)]
    Client(api::Error),
    #[error(transparent)]
    Enroll(#[from] agent::enroll::Error),
    /// There are no credentials, and only a person can change that. The source says whose refusal
    /// it is: a login that this machine cannot prepare is not the platform's.
    #[error(transparent)]
    Credentials(credential_client::Error),
    #[error("the tunnel cannot be made")]
    Tunnel(#[source] session::Error),
    #[error("the gateway's {0} task ended unexpectedly")]
    FailedTask(&'static str),
}

impl Error {
    /// What it is, without what changes from one time to the next: for keeping the log quiet.
    #[must_use]
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Client(error) => error.kind(),
            Self::Enroll(error) => error.kind(),
            Self::Credentials(error) => error.kind(),
            Self::Tunnel(error) => kind(error),
            Self::FailedTask(_) => kind(self),
        }
    }

    /// Whose fault it is; decides the exit code.
    #[must_use]
    pub fn reason(&self) -> Reason {
        let of = |error: &api::Error| match error.class() {
            Class::Fatal(reason) => reason,
            Class::Reauthenticate | Class::Reenroll => Reason::Permission,
            Class::Retry | Class::RetryAfter(_) => Reason::Unavailable,
        };
        match self {
            Self::Client(error) => of(error),
            Self::Enroll(error) => error.reason(),
            Self::Credentials(error) => error.reason(),
            Self::Tunnel(_) => Reason::Configuration,
            Self::FailedTask(_) => Reason::Software,
        }
    }
}

/// What a gateway uses beside its settings.
#[derive(Debug)]
pub struct Setup {
    /// The Kubernetes cluster that it is in, if any.
    pub cluster: Cluster,
    /// Receives its sessions.
    pub audit: Audit,
    /// Reasons to act at once.
    pub triggers: ReconnectTriggers,
    /// What worked before.
    pub last_known_good: LastKnownGood,
    /// What becomes of the process that takes over from this one.
    pub successions: Successions,
    /// Leads to the process that this one takes over from, if it does.
    pub predecessor: Option<PredecessorLink>,
}

/// Runs a gateway as the newest of `settings` says until `scope` is cancelled and everything is
/// closed, until a successor serves and the sessions of this process are over, or until a person
/// must act. `responder` answers for it; `reporter` receives its status.
///
/// # Errors
/// See [`Error`]; everything that time may cure is retried instead.
pub async fn run(
    mut settings: watch::Receiver<GatewaySettings>,
    setup: Setup,
    reporter: Reporter,
    mut responder: LivenessResponder,
    scope: Scope,
) -> Result<(), Error> {
    let Setup {
        cluster,
        audit,
        triggers,
        last_known_good,
        successions,
        predecessor,
    } = setup;
    event!(events::GATEWAY_STARTING, gateway.name = %settings.borrow().name);
    let (credential_client, used) = loop {
        let retrying = |error, after| reporter.retrying(&NO_TUNNEL, error, after);
        let making = reload::make(&mut settings, retrying, &scope);
        match responder.during(|| reporter.check(), making).await? {
            Made::CredentialClient(made) => break *made,
            Made::Newer => {}
            Made::Stopped => return Ok(()),
        }
    };

    let cached_relay = CachedRelay::new(
        last_known_good.sibling(cached_relay::FILE),
        &used.common.store,
    );
    let credential_client = credential_client.with_cached_relay(cached_relay);
    reporter.token(credential_client.auth().source().expiry());
    let tasks = scope.child("gateway");
    let (credential_clients, credential_client) = watch::channel(Arc::new(credential_client));
    let (current, newest) = watch::channel(None);
    report_rules(&reporter, &used);
    let (policy, targets) = watch::channel(Arc::clone(&used.targets));
    let (tunnel_up, is_up) = watch::channel(false);
    // More than one only while the connection does something else.
    let (beat, heartbeat_rx) = mpsc::channel(2);
    let (renew, reselect) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let session_ok = Arc::new(Notify::new());
    {
        let (credential_clients, reporter) = (credential_client.clone(), reporter.clone());
        let (current, now) = (current.clone(), Arc::clone(&renew));
        tasks.spawn_interruptible("renew", move || {
            let reporter = reporter.clone();
            renew::run(
                credential_clients.clone(),
                current.clone(),
                Arc::clone(&now),
                reporter.clone(),
                |identity: &Option<Arc<Identity>>| Some(identity.as_ref()?.lifetime.clone()),
                move |credential_client| renewed(credential_client, reporter.clone()),
                log_renewed,
            )
        });
    }
    {
        let (credential_client, newest) = (credential_client.clone(), newest.clone());
        let is_up = is_up.clone();
        let (now, better) = (Arc::clone(&reselect), Arc::clone(&renew));
        tasks.spawn_interruptible("relay_reselection", move || {
            let (credential_client, newest, is_up) =
                (credential_client.clone(), newest.clone(), is_up.clone());
            let (now, better) = (Arc::clone(&now), Arc::clone(&better));
            relay_reselection::run(credential_client, newest, is_up, now, better)
        });
    }
    {
        let (credential_client, is_up) = (credential_client.clone(), is_up.clone());
        let audit = audit.clone();
        tasks.spawn_interruptible("session_reports", move || {
            session_reports::run(credential_client.clone(), is_up.clone(), audit.clone())
        });
    }
    {
        let (credential_client, reporter) = (credential_client.clone(), reporter.clone());
        let renew = Arc::clone(&renew);
        tasks.spawn_interruptible("heartbeat", move || {
            let (credential_client, is_up) = (credential_client.clone(), is_up.clone());
            let (reporter, renew) = (reporter.clone(), Arc::clone(&renew));
            heartbeat::run(credential_client, is_up, beat.clone(), reporter, renew)
        });
    }
    {
        let sender = triggers.sender();
        tasks.spawn_interruptible("reconnect_trigger", move || {
            reconnect_trigger::run(sender.clone())
        });
    }
    {
        let (stop, reporter) = (tasks.clone(), reporter.clone());
        tasks.spawn_supervised("reload", move || {
            let (settings, used) = (settings.clone(), used.clone());
            // Not cut by the scope: it may be spending a token.
            reload::run(
                settings,
                used,
                (credential_clients.clone(), policy.clone()),
                reporter.clone(),
                stop.clone(),
            )
        });
    }
    {
        let audit = audit.clone();
        tasks.spawn_interruptible("audit", move || audit.clone().run());
    }
    let shared = Shared {
        current: newest,
        cluster: Arc::new(cluster),
        targets: Targets::new(targets),
        reporter: reporter.clone(),
        session_ok: Arc::clone(&session_ok),
        log_throttle: Arc::new(LogThrottle::for_retries()),
        audit: audit.clone(),
    };
    let metrics = Arc::clone(audit.metrics());
    let mut driver = Driver {
        credential_client,
        current,
        tunnel_up,
        heartbeat_rx,
        trigger_rx: triggers.receiver,
        session_ok,
        renew,
        reselect,
        reporter: reporter.clone(),
        metrics,
        tunnels: Tunnels::new(&scope, shared),
        retired: Vec::new(),
        last_known_good,
        log_throttle: LogThrottle::for_retries(),
        is_reselection_failing: false,
        started: false,
        relay_answered_first: 0,
        user_request: false,
        successions,
        predecessor,
    };
    let check = || reporter.check();
    let given_up = tasks
        .supervise("connection", async || {
            let running = tasks.run(Box::pin(driver.run()));
            responder.during(check, running).await
        })
        .await;
    tasks.cancel();
    if driver.is_handed_over() {
        let lingering = scope.run(driver.linger());
        responder.during(check, lingering).await;
    }
    responder.during(check, driver.drain()).await;
    audit.finish();
    // All end at once, unless `reload` is spending a token, whose answer may hold the only copy of
    // what it obtains.
    tasks.finish(LAST_CALL).await;
    match (tasks.failed_task(), given_up.flatten().flatten()) {
        (Some(task), _) => Err(Error::FailedTask(task)),
        (None, Some(error)) => Err(error),
        (None, None) => Ok(()),
    }
}

/// Reports how many rules for targets there are.
fn report_rules(reporter: &Reporter, settings: &GatewaySettings) {
    let policy = &settings.targets;
    reporter.target_rules(policy.allow.len(), policy.deny.len());
}

/// New credentials of `credential_client`, which `reporter` receives.
async fn renewed(
    credential_client: Arc<CredentialClient>,
    reporter: Reporter,
) -> Result<Option<Arc<Identity>>, NotIssued> {
    match credential_client.renew().await {
        Ok(identity) => {
            identity.report(&reporter);
            Ok(Some(Arc::new(identity)))
        }
        Err((error, class)) => Err(NotIssued {
            kind: error.kind(),
            error: error.into(),
            class,
        }),
    }
}

fn log_renewed(identity: &Option<Arc<Identity>>) {
    let event = events::CREDENTIALS_RENEWED;
    let id = identity.as_ref().map(|identity| &identity.gateway_id);
    event!(event, gateway.id = id.map(GatewayId::as_str));
}

/// The client of the platform that `settings` say.
fn client(settings: &GatewaySettings) -> Result<Client, Error> {
    agent::access::client(&settings.common).map_err(Error::Client)
}

/// Prepares the credential; spends an enrollment token if that is what there is, and `retrying`
/// hears of each failed attempt. `None` if `scope` was cancelled before.
async fn open_auth(
    settings: &GatewaySettings,
    client: &Client,
    retrying: impl FnMut(String, Duration),
    scope: &Scope,
) -> Result<Option<PlatformAuth>, Error> {
    match &settings.credential {
        Credential::Identity(credential) => {
            let source = TokenSource::new(client.clone(), credential.clone());
            Ok(Some(PlatformAuth::Identity(source)))
        }
        Credential::AccessToken(token) => Ok(Some(PlatformAuth::enrolled(token.clone()))),
        Credential::Machine(enrollment) => {
            let (enrollment, store) = (enrollment.clone(), &settings.common.store);
            let source =
                TokenSource::machine(client.clone(), enrollment, &settings.common.domain, store);
            Ok(Some(PlatformAuth::Gateway(source)))
        }
        Credential::Enroll { token } => {
            let login = enroll::spend(token, settings, client, retrying, scope).await?;
            Ok(login.map(|login| PlatformAuth::enrolled(login.access_token)))
        }
    }
}

//! The embedded platform: a self-contained control plane for one organization. It registers
//! gateways and relays, issues their certificates, proves by dialling back that they can be
//! reached, and opens sessions for clients.
//!
//! [`build`] prepares everything and binds; [`Platform::run`] serves until its scope is cancelled.
//! State is one directory: the store, the administrators' token and the relay auth secret, each
//! readable by its owner only. Credentials cross the network, so beyond loopback it serves HTTPS or
//! not at all.

use infisical_api as api;
use infisical_config as config;
use infisical_host as host;
use infisical_pki as pki;
use infisical_runtime::{
    backoff, clock, error, event, events, humanize, log_throttle, names, net, scope, secret,
};
use infisical_ssh as ssh;

mod access;
pub mod authority;
pub mod backup;
mod files;
mod limit;
mod live_sessions;
pub mod metrics;
mod observations;
mod oidc;
mod probe;
mod prober;
mod public_url;
mod rotation;
mod routes;
mod server;
pub mod store;
#[cfg(test)]
mod tests;
mod tls;
mod token;
mod trusted_proxies;
mod web;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use authority::{Authority, KeyAlgorithm, Organization};
use axum::Router;
pub use files::{Error as FileError, prove_replaceable, replace as write_private};
use ipnet::IpNet;
use metrics::Metrics;
pub use oidc::Settings as OidcSettings;
pub use public_url::{InvalidPublicUrl, PublicUrl};
use store::Store;
use tls::Tls;
pub use tls::{TlsError, TlsFiles};
use trusted_proxies::TrustedProxies;

use crate::error::Reason;
use crate::host::signals::Hangups;
use crate::host::{notify, ready_file};
use crate::net::accept::Acceptor;
use crate::net::listen;
use crate::scope::Scope;
use crate::secret::Secret;

/// Log line that scripts wait for.
const STARTED: &str = "Platform started successfully";
/// File of the state directory with the administrators' token.
const ADMIN_TOKEN_FILE: &str = "admin-token";
/// File of the state directory with the secret that the instance's relays share with the platform.
const RELAY_AUTH_SECRET_FILE: &str = "relay-auth-secret";
/// Longest name of an organization, in characters: in certificates it stands before a UUID in a
/// field of 64 (RFC 5280 §A.1, ub-organization-name).
const MAX_ORGANIZATION: usize = 27;

/// Time between two entries that sum up the logins without entries of their own.
const LOGIN_COUNTS: Duration = Duration::from_secs(3600);
/// How long a look at files may take to end at a stop: disks are slow at times.
const LAST_LOOK: Duration = Duration::from_secs(5);

/// For how many days an entry of the record is kept where no one says otherwise.
pub const DEFAULT_AUDIT_RETENTION: u16 = 90;
/// For how many days it may be kept.
pub const AUDIT_RETENTIONS: RangeInclusive<u16> = 1..=3650;

/// Hours of a person's session where no one says otherwise: a day of work.
pub const DEFAULT_SESSION_HOURS: u8 = 8;
/// Hours that it may last.
pub const SESSION_HOURS: RangeInclusive<u8> = 1..=72;

/// What the platform needs to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where to serve; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where everything is kept.
    pub state_dir: PathBuf,
    /// Keys of a new platform, Ed25519 by default; of an existing one, what they must be.
    pub key_algorithm: Option<KeyAlgorithm>,
    /// The organization's new name.
    pub organization: Option<String>,
    /// Serve HTTPS with these.
    pub tls: Option<TlsFiles>,
    /// Proxies that say for whom they ask, in `X-Forwarded-For`.
    pub trusted_proxies: Vec<IpNet>,
    /// Where the URL is written once it is served.
    pub ready_file: Option<PathBuf>,
    /// By which browsers and gateways reach the platform, where that is not the address it serves at.
    pub public_url: Option<PublicUrl>,
    /// For how many days an entry of the record is kept, one of [`AUDIT_RETENTIONS`].
    pub audit_retention: u16,
    /// Where people log in; nowhere without it.
    pub oidc: Option<OidcSettings>,
    /// How long a person's session lasts.
    pub session_lifetime: Duration,
    /// For tests: a gateway's certificates end sooner.
    pub gateway_lifetime: Option<Duration>,
}

/// Why the platform cannot start, or stopped.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum Error {
    #[error(
        "plain HTTP is served on loopback only, because tokens and private keys cross the \
         connection; give --tls-cert and --tls-key to listen on {0}"
    )]
    NeedsTls(SocketAddr),
    #[error("an organization's name has 1 to {MAX_ORGANIZATION} printable characters")]
    OrganizationName,
    #[error("HTTPS cannot be served")]
    Tls(#[source] TlsError),
    #[error(
        "the state directory {} cannot be used; name another one with --state-dir", .0.display()
    )]
    File(PathBuf, #[source] FileError),
    #[error("the state cannot be used")]
    Store(#[source] store::Error),
    #[error("the certification authorities cannot be used")]
    Authority(#[source] authority::Error),
    #[error(transparent)]
    Listen(#[from] listen::Error),
    #[error(transparent)]
    ReadyFile(#[from] ready_file::Error),
    #[error("cannot accept connections any longer")]
    Accept(#[source] io::Error),
    #[error("the start was interrupted")]
    Interrupted,
}

impl Error {
    /// What a person has to look at.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::File(_, error) => error.reason(),
            Self::NeedsTls(_)
            | Self::OrganizationName
            | Self::Tls(_)
            | Self::Store(
                store::Error::File(_)
                | store::Error::Newer { .. }
                | store::Error::OtherAlgorithm { .. },
            ) => Reason::Configuration,
            Self::Store(_)
            | Self::Authority(_)
            | Self::Listen(_)
            | Self::ReadyFile(_)
            | Self::Accept(_) => Reason::Unavailable,
            Self::Interrupted => Reason::Software,
        }
    }
}

/// A platform that is bound and has its state, and does not serve yet.
#[derive(Debug)]
pub struct Platform {
    acceptor: Acceptor,
    tls: Option<Tls>,
    /// Each asks to read the files again.
    hangups: Option<Hangups>,
    router: Router,
    trusted_proxies: TrustedProxies,
    app: routes::App,
    url: String,
    ready_file: Option<PathBuf>,
    metrics: Metrics,
}

/// Builds and runs; what it does is counted in `metrics`. After each of `hangups` it reads its files
/// again.
///
/// # Errors
/// See [`Error`].
pub async fn run(
    settings: Settings,
    metrics: Metrics,
    hangups: Hangups,
    scope: Scope,
) -> Result<(), Error> {
    let mut platform = build(settings, metrics).await?;
    platform.hangups = Some(hangups);
    platform.run(scope).await
}

/// Opens or creates the state, and binds.
///
/// # Errors
/// See [`Error`].
pub(crate) async fn build(settings: Settings, metrics: Metrics) -> Result<Platform, Error> {
    if settings.tls.is_none() && !settings.listen.ip().to_canonical().is_loopback() {
        return Err(Error::NeedsTls(settings.listen));
    }
    if let Some(name) = &settings.organization
        && (!(1..=MAX_ORGANIZATION).contains(&name.chars().count())
            || name.chars().any(char::is_control))
    {
        return Err(Error::OrganizationName);
    }
    let now = SystemTime::now();
    let prepared = settings.clone();
    let opened = tokio::task::spawn_blocking(move || open(&prepared)).await;
    let Opened {
        store,
        tls,
        admin,
        relay_auth,
    } = opened.map_err(|_| Error::Interrupted)??;
    store.forget_old_entries(now).await.map_err(Error::Store)?;
    let create = async |algorithm, organization: &Organization| {
        tracing::info!(key.algorithm = %algorithm, "creating the certification authorities");
        let organization = organization.clone();
        // RSA keys: some seconds.
        let generate = move || Authority::generate(algorithm, &organization, now);
        let generated = tokio::task::spawn_blocking(generate).await;
        let generated = generated.map_err(|_| store::Error::Interrupted)?;
        generated.map_err(store::Error::Authority)
    };
    let algorithm = settings.key_algorithm;
    let name = settings.organization.as_deref();
    let foundation = store::foundation(&*store, algorithm, name, create, now).await;
    let foundation = foundation.map_err(Error::Store)?;
    let generations = store.generations().await.map_err(Error::Store)?;
    let (algorithm, organization) = (foundation.algorithm, foundation.organization);
    let authority = rotation::load(algorithm, organization, &generations);
    let mut authority = authority.map_err(Error::Authority)?;
    if let Some(lifetime) = settings.gateway_lifetime {
        authority = authority.with_gateway_lifetime(lifetime);
    }
    let web = web::Web::new(settings.public_url, tls.is_some());
    let people = (
        settings.oidc.map(oidc::Oidc::new),
        settings.session_lifetime,
    );
    let metered = metrics.clone();
    let app = routes::App::new(store, authority, &admin, relay_auth, metered, web, people);
    let listener = listen::bind(Some(settings.listen), settings.listen.port())?;
    let acceptor = Acceptor::new(listener, server::MAX_CONNECTIONS);
    let address = acceptor.local_addr().map_err(Error::Accept)?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    Ok(Platform {
        acceptor,
        tls,
        hangups: None,
        router: routes::router(app.clone()),
        app,
        url: format!("{scheme}://{}", reachable(address)),
        trusted_proxies: TrustedProxies(settings.trusted_proxies),
        ready_file: settings.ready_file,
        metrics,
    })
}

impl Platform {
    /// Serves until `scope` is cancelled; requests that run then are answered, for a bounded time.
    ///
    /// # Errors
    /// The ready file cannot be written, or the listener broke.
    pub(crate) async fn run(self, scope: Scope) -> Result<(), Error> {
        if let Some(path) = &self.ready_file {
            // The socket listens already: anyone who reads the file may connect.
            ready_file::write(path, &self.url)?;
        }
        tracing::info!(url = self.url, "{STARTED}");
        notify::ready();
        self.metrics.serving(true);
        let acceptor = self.tls.as_ref().map(Tls::acceptor);
        let service = server::Service {
            router: self.router,
            trusted_proxies: self.trusted_proxies.into(),
        };
        let app = self.app;
        let probed = app.clone();
        scope.spawn_interruptible("prober", move || prober::run(probed.clone()));
        let following = scope.child("files");
        if let Some(tls) = self.tls {
            let follow = tls.follow(self.hangups, self.metrics.clone());
            let stop = following.clone();
            following.spawn("tls_files", async move {
                stop.run(follow).await;
            });
        }
        let (stop, store) = (following.clone(), app.store().clone());
        following.spawn("login_counts", async move {
            while stop.run(tokio::time::sleep(LOGIN_COUNTS)).await.is_some() {
                record_login_counts(&store).await;
            }
        });
        let (stop, store) = (following.clone(), app.store().clone());
        following.spawn("rotation", async move {
            stop.run(routes::follow_rotation(app)).await;
        });
        let served = server::serve(self.acceptor, acceptor, service, &scope).await;
        self.metrics.serving(false);
        following.cancel();
        following.finish(LAST_LOOK).await;
        record_login_counts(&store).await;
        served.map_err(Error::Accept)
    }
}

/// What is in the state directory, and the files of TLS.
struct Opened {
    store: Store,
    tls: Option<Tls>,
    admin: Secret,
    relay_auth: Secret,
}

/// Opens or creates the files.
fn open(settings: &Settings) -> Result<Opened, Error> {
    let tls = settings.tls.as_ref().map(Tls::load).transpose();
    let tls = tls.map_err(Error::Tls)?;
    let unusable = |error| Error::File(settings.state_dir.clone(), error);
    let store = store::open(&settings.state_dir, days(settings.audit_retention));
    let store = store.map_err(|error| match error {
        store::Error::File(error) => unusable(error),
        other => Error::Store(other),
    })?;
    backup::remove_all(&settings.state_dir);
    let admin_file = settings.state_dir.join(ADMIN_TOKEN_FILE);
    let (admin, created) = files::secret(&admin_file).map_err(unusable)?;
    if created {
        tracing::info!(path = %admin_file.display(), "administrator token created");
    }
    let relay_auth = files::secret(&settings.state_dir.join(RELAY_AUTH_SECRET_FILE));
    let (relay_auth, _) = relay_auth.map_err(unusable)?;
    Ok(Opened {
        store,
        tls,
        admin,
        relay_auth,
    })
}

/// What cannot be written now is written with the next one.
async fn record_login_counts(store: &Store) {
    if let Err(error) = store.record_login_counts(SystemTime::now()).await {
        let error = error::chain(&error);
        tracing::warn!(%error, "cannot record how many logins have no entries of their own");
    }
}

const fn days(count: u16) -> Duration {
    Duration::from_secs(count as u64 * 24 * 3600)
}

/// An address that a client on this machine can dial: the unspecified ones mean every address.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(ip, address.port())
}

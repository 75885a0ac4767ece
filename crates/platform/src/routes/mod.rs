//! The HTTP API: every endpoint of protocol.md §1 that gateways and relays call, and the platform's
//! own for administrators.
//!
//! Each file here is one subject. A handler authenticates by the type of an argument ([`auth`]),
//! takes its body with [`body::Json`], asks the store and the authority, and answers; [`layer`]
//! adds what all answers have in common.

pub(crate) mod access;
pub(crate) mod admin;
pub(crate) mod audit;
pub(crate) mod auth;
mod backup;
pub(crate) mod body;
mod cas;
mod error;
pub(crate) mod gateways;
mod layer;
pub(crate) mod live_sessions;
mod login;
mod people;
mod reach;
pub(crate) mod relays;
mod services;
mod sessions;
mod signing;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, SystemTime};

pub(super) use auth::Source;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{delete, get, post};
pub(crate) use error::ApiError;
pub(crate) use signing::Signer;
use signing::Signing;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::authority::Authority;
use super::limit::{LOGINS, Limiter};
use super::live_sessions::LiveSessions;
use super::metrics::Metrics;
use super::observations::Observations;
use super::oidc::Oidc;
use super::prober::Watch;
use super::store::Store;
use super::token::TokenHash;
use super::web::{self, Web};
use crate::secret::Secret;

/// Longest body of a request, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// What the handlers share.
#[derive(Debug, Clone)]
pub(crate) struct App(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Store,
    authority: RwLock<Arc<Authority>>,
    /// Held while a rotation takes a step.
    rotating: tokio::sync::Mutex<()>,
    admin: TokenHash,
    relay_auth_secret: Secret,
    /// Attempts at logins and enrollments, by source.
    logins: Mutex<Limiter<IpAddr>>,
    signing: Signing,
    refusals: audit::Refusals,
    metrics: Metrics,
    live_sessions: LiveSessions,
    web: Web,
    observations: Observations,
    watch: Watch,
    /// Not there if people cannot log in.
    oidc: Option<Oidc>,
    /// How long a person's session lasts.
    session_lifetime: Duration,
}

impl App {
    /// `admin` is the administrators' token; what the handlers do is counted in `metrics`.
    pub(super) fn new(
        store: Store,
        authority: Authority,
        admin: &Secret,
        relay_auth_secret: Secret,
        metrics: Metrics,
        web: Web,
        (oidc, session_lifetime): (Option<Oidc>, Duration),
    ) -> Self {
        Self(Arc::new(Shared {
            store,
            signing: Signing::new(authority.algorithm()),
            authority: RwLock::new(Arc::new(authority)),
            rotating: tokio::sync::Mutex::default(),
            admin: TokenHash::of(admin),
            relay_auth_secret,
            logins: Mutex::new(Limiter::new(LOGINS)),
            refusals: audit::Refusals::new(),
            metrics,
            live_sessions: LiveSessions::default(),
            web,
            observations: Observations::default(),
            watch: Watch::default(),
            oidc,
            session_lifetime,
        }))
    }

    fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    /// What probes have shown.
    pub(crate) fn observations(&self) -> &Observations {
        &self.0.observations
    }

    /// Who watches pages.
    pub(crate) fn watch(&self) -> &Watch {
        &self.0.watch
    }

    pub(crate) fn web(&self) -> &Web {
        &self.0.web
    }

    /// Whether it is the administrators' token.
    pub(crate) fn is_admin(&self, token: TokenHash) -> bool {
        self.0.admin.matches(token.as_bytes())
    }
}

/// How often a rotation looks whether its next step is due by the time alone.
const ROTATION_CHECK: Duration = Duration::from_secs(60);

/// Takes the steps of a rotation as they become due. Never ends.
pub(super) async fn follow_rotation(app: App) {
    loop {
        if let Err(error) = app.advance_cas().await {
            tracing::warn!(
                error = error.reason(),
                "cannot take the next step of the rotation of the CAs; retrying"
            );
        }
        tokio::time::sleep(ROTATION_CHECK).await;
    }
}

/// All routes.
pub(super) fn router(app: App) -> Router {
    let api = Router::new()
        .route("/v2/gateways", post(gateways::register).get(gateways::list))
        .route("/v2/gateways/heartbeat", post(gateways::heartbeat))
        .route("/v3/gateways/connect", post(gateways::connect))
        .route("/v3/gateways/token-auth/enroll", post(gateways::enroll))
        .route("/v3/gateways/login", post(login::unsupported))
        .route("/v1/relays", get(relays::list))
        .route("/v1/relays/register-org-relay", post(relays::register_org))
        .route(
            "/v1/relays/register-instance-relay",
            post(relays::register_instance),
        )
        .route(
            "/v1/relays/heartbeat-org-relay",
            post(relays::heartbeat_org),
        )
        .route(
            "/v1/relays/heartbeat-instance-relay",
            post(relays::heartbeat_instance),
        )
        .route("/v2/relays/login", post(relays::enroll))
        .route("/v2/relays/connect", post(relays::connect))
        .route("/v2/relays/heartbeat", post(relays::heartbeat))
        .route("/v1/auth/universal-auth/login", post(login::universal_auth))
        .route("/v1/auth/token/renew", post(login::renew))
        .route("/v1/auth/{method}/login", post(login::unsupported))
        .nest("/v1/embedded", embedded());
    Router::new()
        .nest("/api", api)
        .merge(web::router(&app))
        .fallback(async || ApiError::not_found("there is no such path"))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .layer(axum::middleware::from_fn_with_state(
            app.clone(),
            layer::answer,
        ))
        // Around the layer above, which reads the body.
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(app)
}

/// The routes that only the embedded platform has.
fn embedded() -> Router<App> {
    Router::new()
        .route(
            "/identities",
            post(admin::create_identity).get(admin::identities),
        )
        .route("/identities/{id}", delete(admin::delete_identity))
        .route(
            "/enrollment-tokens",
            post(admin::create_enrollment_token).get(admin::enrollment_tokens),
        )
        .route(
            "/enrollment-tokens/{kind}/{name}",
            delete(admin::revoke_enrollment_tokens),
        )
        .route("/gateways", get(admin::list_gateways))
        .route("/gateways/{name}", delete(admin::delete_gateway))
        .route("/gateways/{name}/sessions", post(sessions::open))
        .route("/relays", get(admin::list_relays))
        .route("/relays/{name}", delete(admin::delete_relay))
        .route("/session-reports", post(live_sessions::report))
        .route("/sessions", get(live_sessions::list))
        .route("/identity-groups", post(access::set_groups))
        .route("/access-rules", post(access::allow).get(access::list))
        .route("/access-rules/check", post(access::check))
        .route("/access-rules/{number}", delete(access::remove))
        .route("/backup-snapshots", post(backup::make_snapshot))
        .route(
            "/login",
            post(people::begin)
                .get(people::who_am_i)
                .delete(people::log_out),
        )
        .route("/login/finish", post(people::finish))
        .route("/login/device", post(people::begin_device))
        .route("/login/device/poll", post(people::poll_device))
        .route("/services", post(services::add).get(services::list))
        .route("/services/reachable", get(services::reachable))
        .route("/services/{gateway}/{name}", delete(services::remove))
        .route("/certification-authorities", get(cas::status))
        .route("/certification-authorities/rotate", post(cas::rotate))
        .route("/certification-authorities/advance", post(cas::advance))
        .route("/relay-auth-secret", get(admin::relay_auth_secret))
        .route("/audit/{since}/{after}", get(audit::list))
        .route("/audit-chain/{number}", get(audit::verify))
}

/// A time as the API writes it.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    // The library's own conversion panics for times that it cannot hold.
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    let since = time::Duration::try_from(since.unwrap_or_default()).ok();
    let time = since.and_then(|since| OffsetDateTime::UNIX_EPOCH.checked_add(since));
    time.and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_default()
}

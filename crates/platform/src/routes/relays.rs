//! Endpoints that relays call, and the list of relays that gateways choose from.

use std::time::SystemTime;

use axum::extract::State;
use serde::Serialize;

use super::audit::Attempt;
use super::auth::{EnrolledRelay, InstanceRelay, RelayIdentity, RelayLister, Unauthenticated};
use super::body::Json;
use super::error::ApiError;
use super::reach::{ProgramVersion, reach};
use super::signing::{Purpose, Signer};
use super::{App, rfc3339};
use crate::api::types::{
    ClientPki, HeartbeatAnswer, Reach, RegisterRelay, Relay as RelayRow, RelayCredentials,
    RelayHeartbeat, RelayLoggedIn, RelayLogin,
};
use crate::config::settings::RelayKind;
use crate::metrics::IssuedTo;
use crate::probe;
use crate::store::{Owner, Relay};
use crate::token::{self, TokenHash};

/// Answer to an enrollment.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LoggedIn {
    #[serde(flatten)]
    login: RelayLoggedIn,
    relay_id: String,
    token_type: &'static str,
}

/// `POST /v1/relays/register-org-relay`
pub(super) async fn register_org(
    State(app): State<App>,
    RelayIdentity(identity): RelayIdentity,
    Json(request): Json<RegisterRelay>,
) -> Result<axum::Json<RelayCredentials>, ApiError> {
    let owner = Owner::Identity(identity.clone());
    register(&app, Signer::Identity(identity), owner, request).await
}

/// `POST /v1/relays/register-instance-relay`
pub(super) async fn register_instance(
    State(app): State<App>,
    _: InstanceRelay,
    Json(request): Json<RegisterRelay>,
) -> Result<axum::Json<RelayCredentials>, ApiError> {
    register(&app, Signer::Instance, Owner::Instance, request).await
}

async fn register(
    app: &App,
    signer: Signer,
    owner: Owner,
    RegisterRelay { host, name }: RegisterRelay,
) -> Result<axum::Json<RelayCredentials>, ApiError> {
    let relay = app
        .store()
        .register_relay(owner, name, host, SystemTime::now())
        .await?;
    credentials(app, signer, relay, "relay registered").await
}

/// `POST /v2/relays/connect`
pub(super) async fn connect(
    State(app): State<App>,
    EnrolledRelay(id): EnrolledRelay,
) -> Result<axum::Json<RelayCredentials>, ApiError> {
    let relay = app
        .store()
        .enrolled_relay(id.clone(), SystemTime::now())
        .await?;
    credentials(&app, Signer::Relay(id), relay, "relay connected").await
}

async fn credentials(
    app: &App,
    signer: Signer,
    relay: Relay,
    done: &'static str,
) -> Result<axum::Json<RelayCredentials>, ApiError> {
    tracing::info!(relay.name = %relay.name, relay.host = %relay.host, "{done}");
    let now = SystemTime::now();
    let id = relay.id.clone();
    let (signed, generation, anchors) = app
        .sign(signer, Purpose::MachineIdentity, move |authority| {
            let signed = authority.relay(relay.subject(), now)?;
            Ok((
                signed,
                authority.generation(),
                authority.newest_generation(),
            ))
        })
        .await?;
    app.note_credentials("relay", id, anchors, generation)
        .await?;
    app.metrics().issued(IssuedTo::Relay);
    Ok(axum::Json(signed))
}

/// `POST /v2/relays/login`
pub(super) async fn enroll(
    State(app): State<App>,
    Unauthenticated { requester }: Unauthenticated,
    Json(request): Json<RelayLogin>,
) -> Result<axum::Json<LoggedIn>, ApiError> {
    if request.method != "token" {
        return Err(ApiError::bad_request(
            "the embedded platform enrolls relays with method \"token\" only",
        ));
    }
    let access_token = token::generate()?;
    let enrolled = app
        .store()
        .enroll_relay(
            requester.clone(),
            TokenHash::of(&request.token),
            TokenHash::of(&access_token),
            SystemTime::now(),
        )
        .await
        .map_err(ApiError::from);
    if let Err(error) = &enrolled {
        let attempt = Attempt::enrollment(requester, "relay");
        app.record(attempt, Some(error)).await?;
    }
    let relay = enrolled?;
    Ok(axum::Json(LoggedIn {
        login: RelayLoggedIn {
            access_token,
            name: Some(relay.name),
        },
        relay_id: relay.id,
        token_type: "Bearer",
    }))
}

/// `POST /v1/relays/heartbeat-org-relay`
pub(super) async fn heartbeat_org(
    State(app): State<App>,
    RelayIdentity(identity): RelayIdentity,
    version: ProgramVersion,
    Json(request): Json<RelayHeartbeat>,
) -> Result<axum::Json<HeartbeatAnswer>, ApiError> {
    let owner = Owner::Identity(identity.clone());
    let relay = app
        .store()
        .relay_of(owner, request.name, SystemTime::now())
        .await?;
    probe_relay(&app, Signer::Identity(identity), relay, version).await
}

/// `POST /v1/relays/heartbeat-instance-relay`
pub(super) async fn heartbeat_instance(
    State(app): State<App>,
    _: InstanceRelay,
    version: ProgramVersion,
    Json(request): Json<RelayHeartbeat>,
) -> Result<axum::Json<HeartbeatAnswer>, ApiError> {
    let relay = app
        .store()
        .relay_of(Owner::Instance, request.name, SystemTime::now())
        .await?;
    // One that fails and repeats it must not use up what the others need.
    probe_relay(&app, Signer::Relay(relay.id.clone()), relay, version).await
}

/// `POST /v2/relays/heartbeat`
pub(super) async fn heartbeat(
    State(app): State<App>,
    EnrolledRelay(id): EnrolledRelay,
    version: ProgramVersion,
) -> Result<axum::Json<HeartbeatAnswer>, ApiError> {
    let relay = app
        .store()
        .enrolled_relay(id.clone(), SystemTime::now())
        .await?;
    probe_relay(&app, Signer::Relay(id), relay, version).await
}

/// With which a relay is probed.
pub(crate) async fn probe_credentials(
    app: &App,
    signer: Signer,
    relay: &Relay,
) -> Result<ClientPki, ApiError> {
    let relay = relay.clone();
    let held = app.held_by(None, &relay.id).await?;
    let now = SystemTime::now();
    app.sign(signer, Purpose::MachineIdentity, move |authority| {
        authority.relay_probe(relay.subject(), held, now)
    })
    .await
}

/// While the caller waits, the relay is reached from here.
async fn probe_relay(
    app: &App,
    signer: Signer,
    relay: Relay,
    ProgramVersion(program_version): ProgramVersion,
) -> Result<axum::Json<HeartbeatAnswer>, ApiError> {
    let pki = probe_credentials(app, signer, &relay).await?;
    let Relay { id, host, .. } = relay;
    let (relay_id, said_version) = (id.clone(), program_version.clone());
    let probed = probe::relay(&host, &pki).await;
    if !matches!(probed, Err(probe::Error::Local(_))) {
        let now = SystemTime::now();
        let observed = probed.as_ref().map(|ends| *ends).map_err(|_| ());
        app.observations().note(&id, observed, now);
        app.store()
            .relay_probed(id, probed.is_ok(), program_version, now)
            .await?;
    }
    probed?;
    let answer = app.heartbeat_answer(said_version.as_deref(), ("relay", &relay_id), None);
    answer.await.map(axum::Json)
}

/// `GET /v1/relays`
pub(super) async fn list(
    State(app): State<App>,
    caller: RelayLister,
) -> Result<axum::Json<Vec<RelayRow>>, ApiError> {
    if let RelayLister::Enrolled(id) = caller {
        // Only so that a deleted gateway hears of it here too.
        app.store().enrolled_gateway(id).await?;
    }
    rows(&app).await
}

/// A row of the administrators' list of relays.
#[derive(Debug, Serialize)]
pub(crate) struct Listed {
    #[serde(flatten)]
    pub(crate) row: RelayRow,
    #[serde(flatten)]
    pub(crate) reach: Reach,
    /// For the web page.
    #[serde(skip)]
    pub(crate) heartbeat_at: Option<SystemTime>,
    #[serde(skip)]
    pub(crate) certificate_ends: Option<SystemTime>,
}

/// All relays as the API lists them.
async fn rows(app: &App) -> Result<axum::Json<Vec<RelayRow>>, ApiError> {
    let relays = app.store().relays().await?.into_iter();
    Ok(axum::Json(relays.map(|relay| row(app, relay)).collect()))
}

/// All relays as administrators see them.
pub(super) async fn all(app: &App) -> Result<axum::Json<Vec<Listed>>, ApiError> {
    let relays = app.store().relays().await?.into_iter();
    let now = SystemTime::now();
    let listed = |relay: Relay| Listed {
        heartbeat_at: relay.heartbeats.succeeded_at,
        certificate_ends: app
            .observations()
            .of(&relay.id)
            .and_then(|seen| seen.certificate_ends),
        reach: reach(
            app.observations().relay(&relay, now),
            &relay.heartbeats,
            now,
        ),
        row: row(app, relay),
    };
    Ok(axum::Json(relays.map(listed).collect()))
}

fn row(app: &App, relay: Relay) -> RelayRow {
    RelayRow {
        id: relay.id,
        created_at: rfc3339(relay.created_at),
        updated_at: rfc3339(relay.updated_at),
        org_id: match relay.kind {
            RelayKind::Org => Some(app.authority().organization().id.clone()),
            RelayKind::Instance => None,
        },
        identity_id: relay.identity_id,
        name: relay.name,
        host: relay.host,
        heartbeat: relay.heartbeats.succeeded_at.map(rfc3339),
    }
}

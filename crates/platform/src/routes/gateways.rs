//! Endpoints that gateways call.

use std::time::SystemTime;

use axum::extract::State;
use serde::Serialize;
use serde_json::Value;

use super::audit::Attempt;
use super::auth::{AnyGateway, By, Enrolled, GatewayIdentity, GatewayListers, Unauthenticated};
use super::body::Json;
use super::error::ApiError;
use super::reach::{ProgramVersion, reach};
use super::signing::{Purpose, Signer};
use super::{App, rfc3339};
use crate::api::types::{
    ConnectGateway, EnrollGateway, Gateway as GatewayRow, GatewayCredentials, GatewayHeartbeat,
    GatewayLogin, HeartbeatAnswer, Reach, RegisterGateway, SessionCredentials, TARGET_ADDRESSES,
};
use crate::authority::{Actor, Target};
use crate::metrics::IssuedTo;
use crate::probe;
use crate::store::{Gateway, Relay};
use crate::token::{self, TokenHash};

/// A row of a list of gateways: what the deployed platform says, and what helps a person.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Listed {
    #[serde(flatten)]
    pub(crate) row: GatewayRow,
    pub(crate) relay_name: Option<String>,
    #[serde(rename = "heartbeatTTL")]
    heartbeat_ttl: Option<u64>,
    #[serde(flatten)]
    pub(crate) reach: Reach,
    /// For the web page.
    #[serde(skip)]
    pub(crate) heartbeat_at: Option<SystemTime>,
    #[serde(skip)]
    pub(crate) certificate_ends: Option<SystemTime>,
}

impl Listed {
    pub(super) fn new(app: &App, gateway: Gateway, now: SystemTime) -> Self {
        let observations = app.observations();
        let seen = observations.of(gateway.id.as_str());
        Self {
            certificate_ends: seen.and_then(|seen| seen.certificate_ends),
            reach: reach(
                observations.gateway(&gateway, now),
                &gateway.heartbeats,
                now,
            ),
            heartbeat_at: gateway.heartbeats.succeeded_at,
            relay_name: gateway.relay.map(|relay| relay.name.to_string()),
            heartbeat_ttl: gateway.heartbeat_ttl.map(|ttl| ttl.as_secs()),
            row: GatewayRow {
                id: gateway.id,
                identity_id: gateway.identity_id,
                name: gateway.name,
                created_at: rfc3339(gateway.created_at),
                updated_at: rfc3339(gateway.updated_at),
                heartbeat: gateway.heartbeats.succeeded_at.map(rfc3339),
            },
        }
    }
}

/// `POST /v2/gateways`
pub(super) async fn register(
    State(app): State<App>,
    GatewayIdentity(identity): GatewayIdentity,
    version: ProgramVersion,
    Json(request): Json<RegisterGateway>,
) -> Result<axum::Json<GatewayCredentials>, ApiError> {
    let RegisterGateway { relay_name, name } = request;
    let now = SystemTime::now();
    let (gateway, relay) = app
        .store()
        .register_gateway(identity.clone(), name, relay_name, now)
        .await?;
    let signer = Signer::Identity(identity);
    app.store()
        .gateway_started(gateway.id.clone(), version.0)
        .await?;
    credentials(&app, signer, gateway, relay, "gateway registered").await
}

/// `POST /v3/gateways/connect`
pub(super) async fn connect(
    State(app): State<App>,
    Enrolled(id): Enrolled,
    version: ProgramVersion,
    Json(request): Json<ConnectGateway>,
) -> Result<axum::Json<GatewayCredentials>, ApiError> {
    let (gateway, relay) = app
        .store()
        .connect_gateway(id.clone(), request.relay_name, SystemTime::now())
        .await?;
    app.store().gateway_started(id.clone(), version.0).await?;
    credentials(
        &app,
        Signer::Gateway(id),
        gateway,
        relay,
        "gateway connected",
    )
    .await
}

async fn credentials(
    app: &App,
    signer: Signer,
    gateway: Gateway,
    relay: Relay,
    done: &'static str,
) -> Result<axum::Json<GatewayCredentials>, ApiError> {
    tracing::info!(
        gateway.id = %gateway.id, gateway.name = %gateway.name, relay.name = %relay.name, "{done}"
    );
    let now = SystemTime::now();
    let id = gateway.id.to_string();
    let relay_generation = app.relay_generation(&relay.id).await?;
    let (signed, generation, anchors) = app
        .sign(signer, Purpose::MachineIdentity, move |authority| {
            let signed =
                authority.gateway(gateway.subject(), relay.subject(), relay_generation, now)?;
            let generation = authority.ssh_generation(relay_generation);
            Ok((signed, generation, authority.newest_generation()))
        })
        .await?;
    app.note_credentials("gateway", id, anchors, generation)
        .await?;
    app.metrics().issued(IssuedTo::Gateway);
    Ok(axum::Json(signed))
}

/// `POST /v3/gateways/token-auth/enroll`
pub(super) async fn enroll(
    State(app): State<App>,
    Unauthenticated { requester }: Unauthenticated,
    Json(request): Json<EnrollGateway>,
) -> Result<axum::Json<GatewayLogin>, ApiError> {
    let access_token = token::generate()?;
    let enrolled = app
        .store()
        .enroll_gateway(
            requester.clone(),
            TokenHash::of(&request.token),
            TokenHash::of(&access_token),
            SystemTime::now(),
        )
        .await
        .map_err(ApiError::from);
    if let Err(error) = &enrolled {
        let attempt = Attempt::enrollment(requester, "gateway");
        app.record(attempt, Some(error)).await?;
    }
    let (gateway_id, name) = enrolled?;
    Ok(axum::Json(GatewayLogin {
        access_token,
        gateway_id: Some(gateway_id),
        name: Some(name),
    }))
}

/// `POST /v2/gateways/heartbeat`: while the caller waits, its gateway is reached through its relay.
pub(super) async fn heartbeat(
    State(app): State<App>,
    caller: AnyGateway,
    ProgramVersion(program_version): ProgramVersion,
    Json(request): Json<GatewayHeartbeat>,
) -> Result<axum::Json<HeartbeatAnswer>, ApiError> {
    let (signer, gateway) = match caller {
        AnyGateway::Identity(identity) => (
            Signer::Identity(identity.clone()),
            app.store().gateway_of_identity(identity).await?,
        ),
        AnyGateway::Enrolled(id) => (
            Signer::Gateway(id.clone()),
            app.store().enrolled_gateway(id).await?,
        ),
    };
    let judges_addresses = request.capabilities.get(TARGET_ADDRESSES) == Some(&Value::Bool(true));
    let Some(relay) = gateway.relay.clone() else {
        return Err(ApiError::bad_request(
            "the gateway has no relay: its relay was removed, or it never connected",
        ));
    };
    let session = probe_credentials(&app, signer, &gateway, &relay).await?;
    let id = gateway.id;
    let (gateway_id, relay_id) = (id.to_string(), relay.id);
    let said_version = program_version.clone();
    let probed = probe::gateway(&session).await;
    if !matches!(probed, Err(probe::Error::Local(_))) {
        let now = SystemTime::now();
        let observed = probed.as_ref().map(|reached| reached.certificate_ends);
        app.observations()
            .note(id.as_str(), observed.map_err(|_| ()), now);
        let ttl = probed.as_ref().ok().map(|reached| reached.heartbeat_ttl);
        app.store()
            .gateway_probed(id, ttl, program_version, judges_addresses, now)
            .await?;
    }
    probed?;
    let version = said_version.as_deref();
    let answer = app.heartbeat_answer(version, ("gateway", &gateway_id), Some(&relay_id));
    answer.await.map(axum::Json)
}

/// With which a gateway is probed.
pub(crate) async fn probe_credentials(
    app: &App,
    signer: Signer,
    gateway: &Gateway,
    relay: &Relay,
) -> Result<SessionCredentials, ApiError> {
    let (gateway, relay) = (gateway.clone(), relay.clone());
    let held = app.held_by(Some(&gateway.id), &relay.id).await?;
    let now = SystemTime::now();
    app.sign(signer, Purpose::MachineIdentity, move |authority| {
        // The health service has no target, but deployed gateways want one.
        let target = Target {
            host: "health-check",
            port: 443,
            addresses: &[],
        };
        let (gateway, relay) = (gateway.subject(), relay.subject());
        authority.session(gateway, relay, &Actor::Platform, target, held, now)
    })
    .await
}

/// `GET /v2/gateways`
pub(super) async fn list(
    State(app): State<App>,
    _: By<GatewayListers>,
) -> Result<axum::Json<Vec<Listed>>, ApiError> {
    all(&app).await
}

/// All gateways as the lists have them.
pub(super) async fn all(app: &App) -> Result<axum::Json<Vec<Listed>>, ApiError> {
    let gateways = app.store().gateways().await?.into_iter();
    let now = SystemTime::now();
    Ok(axum::Json(
        gateways
            .map(|gateway| Listed::new(app, gateway, now))
            .collect(),
    ))
}

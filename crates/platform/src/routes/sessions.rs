//! Sessions that clients ask for. What becomes of each request is on record before its answer.

use std::time::{Duration, SystemTime};

use axum::extract::{Path, State};

use super::admin::gateway_name;
use super::audit::Asked;
use super::auth::{Caller, Clients};
use super::body::Json;
use super::error::ApiError;
use super::signing::{Purpose, Signer};
use super::{App, rfc3339};
use crate::api::types::{OpenSession, SessionCredentials};
use crate::authority::{Actor, Target};
use crate::humanize::LastSeen;
use crate::metrics::IssuedTo;

/// Longest target host: a DNS name with `https://` before it.
const MAX_HOST: usize = 253 + 8;
/// When it makes sense to ask again for a session with a gateway that is not connected.
const NOT_CONNECTED_RETRY: Duration = Duration::from_secs(10);

/// `POST gateways/{name}/sessions`
pub(super) async fn open(
    State(app): State<App>,
    client: Caller<Clients>,
    Path(name): Path<String>,
    Json(request): Json<OpenSession>,
) -> Result<axum::Json<SessionCredentials>, ApiError> {
    let asked = Asked::new(client.signer.clone(), &name, &request);
    let issued = match client.permission {
        Ok(()) => issue(&app, client.signer, name, request).await,
        Err(refusal) => Err(refusal),
    };
    app.record(asked, issued.as_ref().err()).await?;
    issued.map(axum::Json)
}

async fn issue(
    app: &App,
    signer: Signer,
    name: String,
    request: OpenSession,
) -> Result<SessionCredentials, ApiError> {
    let OpenSession {
        target_host,
        target_port,
    } = request;
    if !(1..=MAX_HOST).contains(&target_host.len())
        || target_host
            .chars()
            .any(|c| c.is_control() || c.is_whitespace())
    {
        let rule = "it must be a host name or address, without white space";
        return Err(ApiError::invalid(&["targetHost"], rule));
    }
    let gateway = app.store().gateway_named(gateway_name(name)?).await?;
    let now = SystemTime::now();
    let heartbeat = gateway.heartbeats.succeeded_at;
    let Some(relay) = gateway.relay.clone() else {
        let last_seen = LastSeen { at: heartbeat, now };
        let message = format!(
            "gateway {} is not connected to any relay; {last_seen}",
            gateway.name
        );
        return Err(ApiError::unavailable(message, NOT_CONNECTED_RETRY));
    };
    // A person's, not the platform's own: a gateway lets the platform do more.
    let actor = actor(app, &signer).await?;
    let mut session = app
        .sign(signer, Purpose::Session, move |authority| {
            let target = Target {
                host: &target_host,
                port: target_port,
            };
            let (gateway, relay) = (gateway.subject(), relay.subject());
            authority.session(gateway, relay, &actor, target, now)
        })
        .await?;
    app.metrics().issued(IssuedTo::Session);
    session.gateway_heartbeat = heartbeat.map(rfc3339);
    Ok(session)
}

/// On whose behalf a session of `signer` is.
async fn actor(app: &App, signer: &Signer) -> Result<Actor, ApiError> {
    let (id, name) = match signer {
        Signer::Identity(id) => (
            Some(id.clone()),
            app.store().identity_name(id.clone()).await?,
        ),
        Signer::Administrator => (None, Some("administrator".to_owned())),
        // None of them may open sessions.
        Signer::Gateway(_) | Signer::Relay(_) | Signer::Instance => (None, None),
    };
    Ok(Actor::User { id, name })
}

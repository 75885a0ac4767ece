//! Sessions that clients ask for. What becomes of each request is on record before its answer.

use std::time::{Duration, SystemTime};

use axum::extract::{Path, State};

use super::admin::gateway_name;
use super::audit::Attempt;
use super::auth::{Caller, Clients};
use super::body::Json;
use super::error::ApiError;
use super::signing::{Purpose, Signer};
use super::{App, rfc3339};
use crate::access::{self, Verdict};
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
    let requester = client.signer.clone().requester(client.source);
    let attempt = Attempt::session(requester, &name, &request);
    let issued = match client.permission {
        Ok(()) => issue(&app, client.signer, name, request).await,
        Err(refusal) => Err(refusal),
    };
    app.record(attempt, issued.as_ref().err()).await?;
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
    // Before anything about the gateway shows, its existence included.
    let on_addresses = match verdict(app, &signer, &name, &target_host, target_port).await? {
        Verdict::Unrestricted | Verdict::Allowed(_) => Vec::new(),
        Verdict::OnAddresses(rules) => rules,
        denied @ (Verdict::NoRole | Verdict::TooMany | Verdict::Denied) => {
            return Err(ApiError::forbidden(denied.to_string()));
        }
    };
    let gateway = app.store().gateway_named(gateway_name(name)?).await?;
    if !on_addresses.is_empty() && !gateway.judges_addresses {
        return Err(ApiError::forbidden(access::cannot_judge(&gateway)));
    }
    let addresses = on_addresses.iter().map(|rule| rule.target.to_string());
    let addresses: Vec<String> = addresses.collect();
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
    let held = app.held_by(Some(&gateway.id), &relay.id).await?;
    // A person's, not the platform's own: a gateway lets the platform do more.
    let actor = actor(app, &signer).await?;
    let mut session = app
        .sign(signer, Purpose::Session, move |authority| {
            let target = Target {
                host: &target_host,
                port: target_port,
                addresses: &addresses,
            };
            let (gateway, relay) = (gateway.subject(), relay.subject());
            authority.session(gateway, relay, &actor, target, held, now)
        })
        .await?;
    app.metrics().issued(IssuedTo::Session);
    session.gateway_heartbeat = heartbeat.map(rfc3339);
    Ok(session)
}

/// Whether `signer` may reach the target through the gateway called `gateway`.
async fn verdict(
    app: &App,
    signer: &Signer,
    gateway: &str,
    host: &str,
    port: u16,
) -> Result<Verdict, ApiError> {
    match signer {
        Signer::Identity(id) => super::access::verdict(app, id.clone(), gateway, host, port).await,
        Signer::Administrator => Ok(Verdict::Unrestricted),
        // None of them may open sessions.
        Signer::Gateway(_) | Signer::Relay(_) | Signer::Instance => Ok(Verdict::NoRole),
    }
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

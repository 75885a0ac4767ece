//! Sessions that are open: reports of gateways, and the list of them.

use std::collections::HashSet;
use std::time::{Instant, SystemTime};

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;

use super::App;
use super::auth::{AnyGateway, Caller, Clients, Operators};
use super::body::Json;
use super::error::ApiError;
use super::signing::Signer;
use crate::api::session_reports::{GatewaySessions, OpenSessions, ReportedSession, SessionReport};
use crate::api::types::Message;
use crate::live_sessions::LiveSessions;
use crate::store::Reachability;

/// Whose sessions a caller sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Viewer {
    /// Those of everyone.
    All,
    /// Those of this identity.
    Own(String),
}

impl FromRequestParts<App> for Viewer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let operator = Caller::<Operators>::from_request_parts(parts, app).await?;
        let client = Caller::<Clients>::from_request_parts(parts, app).await?;
        Self::of(client.signer, operator.permission, client.permission)
    }
}

impl Viewer {
    /// What a caller sees with these permissions.
    pub(crate) fn of(
        caller: Signer,
        operator: Result<(), ApiError>,
        client: Result<(), ApiError>,
    ) -> Result<Self, ApiError> {
        if operator.is_ok() {
            return Ok(Self::All);
        }
        client?;
        match caller {
            Signer::Identity(id) => Ok(Self::Own(id)),
            Signer::Administrator | Signer::Gateway(_) | Signer::Relay(_) | Signer::Instance => {
                operator.map(|()| Self::All)
            }
        }
    }

    fn sees(&self, session: &ReportedSession) -> bool {
        match self {
            Self::All => true,
            Self::Own(id) => session.actor_id.as_ref() == Some(id),
        }
    }
}

impl App {
    /// What gateways have reported.
    pub(super) fn live_sessions(&self) -> &LiveSessions {
        &self.0.live_sessions
    }

    /// The sessions that are open and that `viewer` sees, by gateway. Of a gateway that cannot be
    /// reached nothing is known.
    pub(crate) async fn open_sessions(&self, viewer: &Viewer) -> Result<OpenSessions, ApiError> {
        let mut gateways = self.store().gateways().await?;
        gateways.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
        let known: HashSet<_> = gateways.iter().map(|gateway| &gateway.id).collect();
        let live = self.live_sessions();
        live.retain(|id| known.contains(id));
        let (time, now) = (SystemTime::now(), Instant::now());
        let row = |gateway: &crate::store::Gateway| {
            let is_reachable = match self.observations().gateway(gateway, time) {
                // The first heartbeat may follow the first session.
                Reachability::Reachable | Reachability::NeverSeen => true,
                Reachability::Unreachable { .. } => false,
            };
            let reported = live.of(&gateway.id, now).filter(|_| is_reachable);
            let age = reported
                .as_ref()
                .map(|reported| reported.age(now).as_secs());
            let seen = reported
                .iter()
                .flat_map(|reported| reported.sessions.iter());
            let seen = seen.filter(|session| viewer.sees(session));
            GatewaySessions {
                gateway_id: gateway.id.to_string(),
                gateway_name: gateway.name.to_string(),
                sessions: seen.cloned().collect(),
                open: reported
                    .as_ref()
                    .filter(|_| *viewer == Viewer::All)
                    .map(|reported| reported.open),
                reported_age_seconds: age,
            }
        };
        Ok(OpenSessions {
            gateways: gateways.iter().map(row).collect(),
        })
    }
}

/// `POST session-reports`: the sessions of the gateway that asks.
pub(super) async fn report(
    State(app): State<App>,
    caller: AnyGateway,
    Json(report): Json<SessionReport>,
) -> Result<axum::Json<Message>, ApiError> {
    let gateway = match caller {
        AnyGateway::Identity(identity) => app.store().gateway_of_identity(identity).await?,
        AnyGateway::Enrolled(id) => app.store().enrolled_gateway(id).await?,
    };
    let live = app.live_sessions();
    live.report(gateway.id, report, Instant::now());
    Ok(super::admin::done("the report was taken"))
}

/// `GET sessions`
pub(super) async fn list(
    State(app): State<App>,
    viewer: Viewer,
) -> Result<axum::Json<OpenSessions>, ApiError> {
    Ok(axum::Json(app.open_sessions(&viewer).await?))
}

//! Named services: operators define them, clients see those that they may reach. A service grants
//! nothing; a session to its target is judged like any other.

use axum::extract::{Path, State};

use super::App;
use super::access::verdict;
use super::admin::{done, gateway_name};
use super::auth::{By, Caller, Clients, Operators};
use super::body::Json;
use super::error::ApiError;
use super::signing::Signer;
use crate::access::{self, Verdict};
use crate::api::services::Service;
use crate::api::types::Message;
use crate::names::ServiceName;

/// Longest description, in characters.
const MAX_DESCRIPTION: usize = 200;

/// `POST services`
pub(super) async fn add(
    State(app): State<App>,
    by: By<Operators>,
    Json(service): Json<Service>,
) -> Result<axum::Json<Message>, ApiError> {
    let Service {
        target_host,
        target_port,
        local_port,
        description,
        ..
    } = &service;
    if target_host.contains("://") || access::host(target_host).is_err() {
        let rule = "it must be a host name or an address";
        return Err(ApiError::invalid(&["targetHost"], rule));
    }
    if *target_port == 0 || *local_port == Some(0) {
        let rule = "a port is a number from 1 to 65535";
        return Err(ApiError::invalid(&["targetPort", "localPort"], rule));
    }
    let is_line = |text: &String| {
        text.chars().count() <= MAX_DESCRIPTION && !text.chars().any(char::is_control)
    };
    if !description.as_ref().is_none_or(is_line) {
        let rule = format!("use at most {MAX_DESCRIPTION} printable characters");
        return Err(ApiError::invalid(&["description"], &rule));
    }
    let (name, gateway) = (service.name.clone(), service.gateway.clone());
    app.store().add_service(by.requester, service).await?;
    Ok(done(&format!(
        "service {name} was added behind gateway {gateway}; access rules say who reaches it"
    )))
}

/// `GET services`
pub(super) async fn list(
    State(app): State<App>,
    _: By<Operators>,
) -> Result<axum::Json<Vec<Service>>, ApiError> {
    Ok(axum::Json(app.store().services().await?))
}

/// `GET services/reachable`
pub(super) async fn reachable(
    State(app): State<App>,
    caller: Caller<Clients>,
) -> Result<axum::Json<Vec<Service>>, ApiError> {
    caller.permission?;
    let services = app.store().services().await?;
    let Signer::Identity(identity) = caller.signer else {
        return Ok(axum::Json(services));
    };
    let mut reachable = Vec::new();
    for service in services {
        let (gateway, host) = (service.gateway.as_str(), &service.target_host);
        let port = service.target_port;
        let is_reachable = match verdict(&app, identity.clone(), gateway, host, port).await? {
            Verdict::Unrestricted | Verdict::Allowed(_) => true,
            // The gateway decides, if it can.
            Verdict::OnAddresses(_) => app
                .store()
                .gateway_named(service.gateway.clone())
                .await
                .is_ok_and(|gateway| gateway.judges_addresses),
            Verdict::Denied | Verdict::TooMany | Verdict::NoRole => false,
        };
        if is_reachable {
            reachable.push(service);
        }
    }
    Ok(axum::Json(reachable))
}

/// `DELETE services/{gateway}/{name}`
pub(super) async fn remove(
    State(app): State<App>,
    by: By<Operators>,
    Path((gateway, name)): Path<(String, String)>,
) -> Result<axum::Json<Message>, ApiError> {
    let gateway = gateway_name(gateway)?;
    let name = ServiceName::try_new(name)
        .map_err(|error| ApiError::invalid(&["name"], &error.to_string()))?;
    app.store()
        .remove_service(by.requester, gateway, name)
        .await?;
    Ok(done(
        "the service was removed; sessions that are open go on",
    ))
}

//! Who is asking: one extractor per kind of caller, so that a handler's arguments say who may call it.
//!
//! 401 is for tokens that are wrong, 403 for tokens that are right but for something else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::PoisonError;
use std::time::{Instant, SystemTime};

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;

use super::App;
use super::error::ApiError;
use crate::names::GatewayId;
use crate::platform::store::{Principal, Role};
use crate::platform::token::TokenHash;
use crate::secret::Secret;

/// Where a request came from; the server puts it among the request's extensions.
#[derive(Debug, Clone, Copy)]
pub(in crate::platform) struct Source(pub(in crate::platform) SocketAddr);

/// A machine identity that may register and list; its id.
#[derive(Debug)]
pub(super) struct Member(pub(super) String);

/// An enrolled gateway; it may have been deleted.
#[derive(Debug)]
pub(super) struct Enrolled(pub(super) GatewayId);

/// An enrolled relay's id; it may have been deleted.
#[derive(Debug)]
pub(super) struct EnrolledRelay(pub(super) String);

/// Either kind of gateway.
#[derive(Debug)]
pub(super) enum AnyGateway {
    /// Registered by this identity.
    Member(String),
    /// Enrolled; it may have been deleted.
    Enrolled(GatewayId),
}

/// Whoever holds the relay auth secret.
#[derive(Debug)]
pub(super) struct InstanceRelay;

/// An administrator.
#[derive(Debug)]
pub(super) struct Admin;

/// Anybody, but not too often: for endpoints that take credentials in their body.
#[derive(Debug)]
pub(super) struct Anybody;

impl FromRequestParts<App> for Member {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        match principal(parts, app).await? {
            Principal::Identity(identity) => member(identity),
            Principal::Gateway(_) | Principal::Relay(_) => Err(ApiError::forbidden(
                "this needs the access token of a machine identity",
            )),
        }
    }
}

impl FromRequestParts<App> for Enrolled {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        match principal(parts, app).await? {
            Principal::Gateway(id) => Ok(Self(id)),
            Principal::Identity(_) | Principal::Relay(_) => Err(ApiError::forbidden(
                "this needs the access token of an enrolled gateway",
            )),
        }
    }
}

impl FromRequestParts<App> for EnrolledRelay {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        match principal(parts, app).await? {
            Principal::Relay(id) => Ok(Self(id)),
            Principal::Identity(_) | Principal::Gateway(_) => Err(ApiError::forbidden(
                "this needs the access token of an enrolled relay",
            )),
        }
    }
}

impl FromRequestParts<App> for AnyGateway {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        match principal(parts, app).await? {
            Principal::Identity(identity) => Ok(Self::Member(member(identity)?.0)),
            Principal::Gateway(id) => Ok(Self::Enrolled(id)),
            Principal::Relay(_) => Err(ApiError::forbidden("this is for gateways")),
        }
    }
}

impl FromRequestParts<App> for InstanceRelay {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        // Hashes are compared, so that not even the length of the secret shows.
        let secret = TokenHash::of(&app.0.relay_auth_secret);
        if secret.matches(TokenHash::of(&bearer(parts)?).as_bytes()) {
            Ok(Self)
        } else {
            Err(ApiError::unauthorized("the relay auth secret is wrong"))
        }
    }
}

impl FromRequestParts<App> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let token = TokenHash::of(&bearer(parts)?);
        if app.0.admin.matches(token.as_bytes()) {
            return Ok(Self);
        }
        match app.store().principal(token, SystemTime::now()).await? {
            Some(_) => Err(ApiError::forbidden("this is for administrators")),
            None => Err(ApiError::unauthorized("the administrator token is wrong")),
        }
    }
}

impl FromRequestParts<App> for Anybody {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let source = parts
            .extensions
            .get::<Source>()
            .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |source| source.0.ip());
        app.0
            .limiter
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .attempt(source, Instant::now())
            .map_err(ApiError::rate_limited)?;
        Ok(Self)
    }
}

fn member(identity: crate::platform::store::Identity) -> Result<Member, ApiError> {
    match identity.role {
        Role::Member => Ok(Member(identity.id)),
        Role::NoAccess => Err(ApiError::forbidden(
            "this identity may neither register nor list gateways and relays",
        )),
    }
}

async fn principal(parts: &Parts, app: &App) -> Result<Principal, ApiError> {
    let token = TokenHash::of(&bearer(parts)?);
    app.store()
        .principal(token, SystemTime::now())
        .await?
        .ok_or_else(|| crate::platform::store::Error::Token.into())
}

/// The token of `Authorization: Bearer …` (RFC 6750 §2.1).
fn bearer(parts: &Parts) -> Result<Secret, ApiError> {
    parts
        .headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| Secret::new(token.trim()))
        .ok_or_else(|| ApiError::unauthorized("an access token is needed"))
}

//! Who is asking and whether they may: one extractor for each kind of caller, so that a handler's
//! arguments say who may call it.
//!
//! 401 is for tokens that are wrong, 403 for tokens that are right but for something else.

use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::sync::PoisonError;
use std::time::{Instant, SystemTime};

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;

use super::App;
use super::error::ApiError;
use super::signing::Signer;
use crate::limit;
use crate::names::GatewayId;
use crate::secret::Secret;
use crate::store::{Principal, Requester, Role};
use crate::token::TokenHash;

/// Where a request came from, or for whom a trusted proxy sent it; the server puts it among the
/// request's extensions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source(pub(crate) SocketAddr);

/// The roles one of which a caller needs.
pub(crate) trait Allowed: Send + Sync + 'static {
    /// Those roles; the administrator's token stands for [`Role::Admin`].
    const ROLES: &'static [Role];
}

/// A kind of caller with the roles of the same rights.
macro_rules! allowed {
    ($($(#[$comment:meta])* $name:ident: $($role:ident),+;)+) => {$(
        $(#[$comment])*
        #[derive(Debug)]
        pub(crate) struct $name;
        impl Allowed for $name {
            const ROLES: &'static [Role] = &[$(Role::$role),+];
        }
    )+};
}

allowed! {
    /// May give others rights, and read the instance's secret.
    Administrators: Admin;
    /// May enroll and remove gateways and relays.
    Operators: Admin, Operator;
    /// May see which gateways there are.
    GatewayListers: Admin, Operator, Client;
    /// May open sessions.
    Clients: Admin, Client;
}

/// A caller with one of the roles that `A` names: an identity, or the administrator's token.
pub(crate) struct By<A: Allowed> {
    /// For the record of what it changes.
    pub(super) requester: Requester,
    allowed: PhantomData<A>,
}

impl<A: Allowed> fmt::Debug for By<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("By").field(&self.requester).finish()
    }
}

impl<A: Allowed> fmt::Debug for Caller<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Caller").field(&self.signer).finish()
    }
}

/// A caller whose token is valid, with or without one of the roles that `A` names: for what is
/// recorded when it is refused too.
pub(super) struct Caller<A: Allowed> {
    pub(super) signer: Signer,
    /// Where the request came from.
    pub(super) source: Option<IpAddr>,
    /// The refusal of a caller without such a role.
    pub(super) permission: Result<(), ApiError>,
    allowed: PhantomData<A>,
}

/// A machine identity that may register a gateway; its id.
#[derive(Debug)]
pub(super) struct GatewayIdentity(pub(super) String);

/// A machine identity that may register relays; its id.
#[derive(Debug)]
pub(super) struct RelayIdentity(pub(super) String);

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
    Identity(String),
    /// Enrolled; it may have been deleted.
    Enrolled(GatewayId),
}

/// Who may see the list of relays.
#[derive(Debug)]
pub(super) enum RelayLister {
    /// An enrolled gateway; it may have been deleted.
    Enrolled(GatewayId),
    /// An identity.
    Identity,
}

/// The holder of the relay auth secret.
#[derive(Debug)]
pub(super) struct InstanceRelay;

/// Any caller, within the rate of logins: for endpoints that take credentials in their body.
#[derive(Debug)]
pub(crate) struct Unauthenticated {
    /// For the record of what becomes of the attempt.
    pub(crate) requester: Requester,
}

impl<A: Allowed> By<A> {
    /// The caller with these roles, who is called so on record.
    pub(crate) fn permit(roles: &[Role], requester: Requester) -> Result<Self, ApiError> {
        check(roles, A::ROLES)?;
        Ok(Self {
            requester,
            allowed: PhantomData,
        })
    }
}

impl<A: Allowed> FromRequestParts<App> for By<A> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let caller = Caller::<A>::from_request_parts(parts, app).await?;
        caller.permission?;
        Ok(Self {
            requester: caller.signer.requester(caller.source),
            allowed: PhantomData,
        })
    }
}

impl<A: Allowed> FromRequestParts<App> for Caller<A> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let token = TokenHash::of(&bearer(parts)?);
        let (signer, permission) = if app.is_admin(token) {
            (Signer::Administrator, Ok(()))
        } else {
            match app.store().principal(token, SystemTime::now()).await? {
                Some(Principal::Identity(identity)) => {
                    let permission = check(&identity.roles, A::ROLES);
                    (Signer::Identity(identity.id), permission)
                }
                Some(Principal::Gateway(id)) => (Signer::Gateway(id), Err(needs(A::ROLES))),
                Some(Principal::Relay(id)) => (Signer::Relay(id), Err(needs(A::ROLES))),
                None => {
                    return Err(ApiError::unauthorized(
                        "the access token is invalid, expired or revoked",
                    ));
                }
            }
        };
        Ok(Self {
            signer,
            source: source(parts),
            permission,
            allowed: PhantomData,
        })
    }
}

impl FromRequestParts<App> for GatewayIdentity {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        Ok(Self(identity(parts, app, &[Role::Gateway]).await?))
    }
}

impl FromRequestParts<App> for RelayIdentity {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        Ok(Self(identity(parts, app, &[Role::Relay]).await?))
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
            Principal::Identity(identity) => {
                check(&identity.roles, &[Role::Gateway])?;
                Ok(Self::Identity(identity.id))
            }
            Principal::Gateway(id) => Ok(Self::Enrolled(id)),
            Principal::Relay(_) => Err(ApiError::forbidden("this is for gateways")),
        }
    }
}

impl FromRequestParts<App> for RelayLister {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        // All but clients, who need no relay's host; relays check by it that they are listed.
        const ROLES: [Role; 4] = [Role::Gateway, Role::Relay, Role::Operator, Role::Admin];
        match principal(parts, app).await? {
            Principal::Identity(identity) => {
                check(&identity.roles, &ROLES)?;
                Ok(Self::Identity)
            }
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

impl FromRequestParts<App> for Unauthenticated {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let source = source(parts);
        app.0
            .logins
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .attempt(limit::source(source), Instant::now())
            .map_err(ApiError::rate_limited)?;
        Ok(Self {
            requester: Requester {
                kind: "unauthenticated",
                id: None,
                name: None,
                source,
            },
        })
    }
}

/// The address from which the request came.
pub(crate) fn source(parts: &Parts) -> Option<IpAddr> {
    let source = parts.extensions.get::<Source>();
    source.map(|Source(peer)| peer.ip().to_canonical())
}

/// The id of the identity that asks, if it has one of `roles`.
async fn identity(parts: &Parts, app: &App, roles: &[Role]) -> Result<String, ApiError> {
    match principal(parts, app).await? {
        Principal::Identity(identity) => {
            check(&identity.roles, roles)?;
            Ok(identity.id)
        }
        Principal::Gateway(_) | Principal::Relay(_) => Err(needs(roles)),
    }
}

/// Refuses a caller with these roles where none of them is `allowed`.
pub(crate) fn check(roles: &[Role], allowed: &[Role]) -> Result<(), ApiError> {
    if roles.iter().any(|role| allowed.contains(role)) {
        Ok(())
    } else {
        Err(needs(allowed))
    }
}

fn needs(allowed: &[Role]) -> ApiError {
    let names: Vec<_> = allowed.iter().map(|role| role.as_str()).collect();
    ApiError::forbidden(format!(
        "this needs a machine identity with the role {}",
        names.join(" or ")
    ))
}

async fn principal(parts: &Parts, app: &App) -> Result<Principal, ApiError> {
    let token = TokenHash::of(&bearer(parts)?);
    app.store()
        .principal(token, SystemTime::now())
        .await?
        .ok_or_else(|| crate::store::Error::Token.into())
}

/// The token of `Authorization: Bearer …` (RFC 6750 §2.1).
pub(super) fn bearer(parts: &Parts) -> Result<Secret, ApiError> {
    parts
        .headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| Secret::new(token.trim()))
        .ok_or_else(|| ApiError::unauthorized("an access token is needed"))
}

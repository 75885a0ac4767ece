//! The embedded platform's own endpoints, for administrators.

use std::time::SystemTime;

use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::{Administrators, By, GatewayListers, Operators};
use super::body::Json;
use super::error::ApiError;
use super::{App, access, gateways, relays, rfc3339};
use crate::api::access::GROUP_PREFIX;
use crate::api::types::{Identity as IdentityRow, Message};
use crate::names::{GatewayName, RelayHost, RelayName};
use crate::oidc;
use crate::store::{Credential, Enrollment, EnrollmentKind, IdentitySummary, NewPerson, Role};
use crate::token::{self, TokenHash};

/// Longest name of an identity, in characters.
const MAX_NAME: usize = 64;
/// Longest address or subject of a person, with what stands before it.
const MAX_PERSON: usize = 300;

/// `POST identities`
#[derive(Debug, Deserialize)]
pub(crate) struct CreateIdentity {
    pub(crate) name: String,
    pub(crate) method: Method,
    #[serde(default = "usual_roles")]
    pub(crate) roles: Vec<String>,
    #[serde(default)]
    pub(crate) groups: Vec<String>,
    /// For the method oidc: an address, or `subject:` and a subject.
    #[serde(default)]
    pub(crate) person: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Method {
    Token,
    UniversalAuth,
    Oidc,
}

/// Registering a gateway is what most identities are for.
fn usual_roles() -> Vec<String> {
    vec![Role::Gateway.as_str().to_owned()]
}

fn roles(names: &[String]) -> Result<Vec<Role>, ApiError> {
    let parse = |name: &String| {
        Role::parse(name).ok_or_else(|| {
            let known: Vec<_> = Role::ALL.into_iter().map(Role::as_str).collect();
            ApiError::invalid(&["roles"], &format!("roles are {}", known.join(", ")))
        })
    };
    names.iter().map(parse).collect()
}

pub(crate) async fn create_identity(
    State(app): State<App>,
    by: By<Administrators>,
    Json(request): Json<CreateIdentity>,
) -> Result<axum::Json<Value>, ApiError> {
    let length = request.name.chars().count();
    if !(1..=MAX_NAME).contains(&length) || request.name.chars().any(char::is_control) {
        let rule = format!("use 1 to {MAX_NAME} printable characters");
        return Err(ApiError::invalid(&["name"], &rule));
    }
    if request.name.starts_with(GROUP_PREFIX) {
        let rule = format!("{GROUP_PREFIX} stands before the names of groups");
        return Err(ApiError::invalid(&["name"], &rule));
    }
    let groups = access::groups(&request.groups)?;
    let roles = roles(&request.roles)?;
    let secret = token::generate()?;
    let hash = TokenHash::of(&secret);
    let client_id = uuid::Uuid::new_v4().to_string();
    let credential = match request.method {
        Method::Token => Credential::Token(hash),
        Method::UniversalAuth => Credential::UniversalAuth {
            client_id: client_id.clone(),
            client_secret: hash,
        },
        Method::Oidc => Credential::Person(new_person(&app, request.person)?),
    };
    let id = app
        .store()
        .create_identity(
            by.requester,
            request.name,
            roles,
            groups,
            credential,
            SystemTime::now(),
        )
        .await?;
    let secret = secret.expose();
    Ok(axum::Json(match request.method {
        Method::Token => json!({"identityId": id, "accessToken": secret}),
        Method::UniversalAuth => {
            json!({"identityId": id, "clientId": client_id, "clientSecret": secret})
        }
        Method::Oidc => json!({"identityId": id}),
    }))
}

/// Whom an identity is for.
fn new_person(app: &App, person: Option<String>) -> Result<NewPerson, ApiError> {
    let person = person.unwrap_or_default();
    let wrong = |rule: &str| Err(ApiError::invalid(&["person"], rule));
    let issuer = app.oidc()?.issuer().to_owned();
    if person.is_empty() || person.len() > MAX_PERSON || person.chars().any(char::is_control) {
        return wrong("give an address, or subject: and the provider's subject");
    }
    match person.strip_prefix("subject:") {
        Some("") => wrong("there is no subject behind subject:"),
        Some(subject) => Ok(NewPerson::Subject {
            issuer,
            subject: subject.to_owned(),
        }),
        None if oidc::is_email(&person) => Ok(NewPerson::Email(person.to_lowercase())),
        None => wrong("it is neither an address nor subject: and the provider's subject"),
    }
}

/// `GET identities`
pub(crate) async fn identities(
    State(app): State<App>,
    _: By<Administrators>,
) -> Result<axum::Json<Vec<IdentityRow>>, ApiError> {
    let identities = app.store().identities().await?.into_iter();
    let row = |identity: IdentitySummary| IdentityRow {
        id: identity.id,
        name: identity.name,
        roles: identity
            .roles
            .iter()
            .map(|role| role.as_str().to_owned())
            .collect(),
        groups: identity.groups,
        client_id: identity.client_id,
        person: identity.person,
        created_at: rfc3339(identity.created_at),
    };
    Ok(axum::Json(identities.map(row).collect()))
}

/// `DELETE identities/{id}`
pub(crate) async fn delete_identity(
    State(app): State<App>,
    by: By<Administrators>,
    Path(id): Path<String>,
) -> Result<axum::Json<Message>, ApiError> {
    app.store().delete_identity(by.requester, id).await?;
    Ok(done(
        "the identity, its tokens, gateways and relays were deleted",
    ))
}

/// `POST enrollment-tokens`
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum CreateEnrollmentToken {
    Gateway { name: GatewayName },
    Relay { name: RelayName, host: RelayHost },
}

pub(crate) async fn create_enrollment_token(
    State(app): State<App>,
    by: By<Operators>,
    Json(request): Json<CreateEnrollmentToken>,
) -> Result<axum::Json<Value>, ApiError> {
    let token = token::generate()?;
    let hash = TokenHash::of(&token);
    let now = SystemTime::now();
    let store = app.store();
    match request {
        CreateEnrollmentToken::Gateway { name } => {
            store.allow_gateway(by.requester, hash, name, now).await?;
        }
        CreateEnrollmentToken::Relay { name, host } => {
            store
                .allow_relay(by.requester, hash, name, host, now)
                .await?;
        }
    }
    Ok(axum::Json(json!({"token": token.expose()})))
}

/// `GET enrollment-tokens`
pub(super) async fn enrollment_tokens(
    State(app): State<App>,
    _: By<Operators>,
) -> Result<axum::Json<Vec<Value>>, ApiError> {
    let enrollments = app
        .store()
        .enrollments(SystemTime::now())
        .await?
        .into_iter();
    let row = |enrollment: Enrollment| {
        json!({
            "kind": enrollment.kind,
            "name": enrollment.name,
            "host": enrollment.host,
            "expiresAt": rfc3339(enrollment.expires_at),
        })
    };
    Ok(axum::Json(enrollments.map(row).collect()))
}

/// `DELETE enrollment-tokens/{kind}/{name}`
pub(crate) async fn revoke_enrollment_tokens(
    State(app): State<App>,
    by: By<Operators>,
    Path((kind, name)): Path<(EnrollmentKind, String)>,
) -> Result<axum::Json<Message>, ApiError> {
    app.store()
        .revoke_enrollments(by.requester, kind, name, SystemTime::now())
        .await?;
    Ok(done("the enrollment tokens were revoked"))
}

/// `GET gateways`
pub(crate) async fn list_gateways(
    State(app): State<App>,
    _: By<GatewayListers>,
) -> Result<axum::Json<Vec<gateways::Listed>>, ApiError> {
    gateways::all(&app).await
}

/// `GET relays`
pub(crate) async fn list_relays(
    State(app): State<App>,
    _: By<Operators>,
) -> Result<axum::Json<Vec<relays::Listed>>, ApiError> {
    relays::all(&app).await
}

/// `DELETE gateways/{name}`
pub(crate) async fn delete_gateway(
    State(app): State<App>,
    by: By<Operators>,
    Path(name): Path<String>,
) -> Result<axum::Json<Message>, ApiError> {
    let name = gateway_name(name)?;
    app.store().delete_gateway(by.requester, name).await?;
    Ok(done("the gateway was deleted"))
}

/// `DELETE relays/{name}`
pub(crate) async fn delete_relay(
    State(app): State<App>,
    by: By<Operators>,
    Path(name): Path<String>,
) -> Result<axum::Json<Message>, ApiError> {
    let name = RelayName::try_new(name)
        .map_err(|error| ApiError::invalid(&["name"], &error.to_string()))?;
    app.store().delete_relay(by.requester, name).await?;
    Ok(done("the relay was deleted"))
}

/// `GET relay-auth-secret`
pub(super) async fn relay_auth_secret(
    State(app): State<App>,
    by: By<Administrators>,
) -> Result<axum::Json<Value>, ApiError> {
    app.store().read_relay_auth_secret(by.requester).await?;
    let secret = app.0.relay_auth_secret.expose();
    Ok(axum::Json(json!({"relayAuthSecret": secret})))
}

pub(super) fn gateway_name(text: String) -> Result<GatewayName, ApiError> {
    GatewayName::try_new(text).map_err(|error| ApiError::invalid(&["name"], &error.to_string()))
}

pub(super) fn done(message: &str) -> axum::Json<Message> {
    axum::Json(Message {
        message: message.to_owned(),
    })
}

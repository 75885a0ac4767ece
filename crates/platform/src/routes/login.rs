//! Logins of machine identities.

use std::time::SystemTime;

use axum::extract::State;

use super::App;
use super::audit::Attempt;
use super::auth::Unauthenticated;
use super::body::Json;
use super::error::ApiError;
use crate::api::types::{Login, RenewToken, UniversalAuthLogin};
use crate::secret::Secret;
use crate::store::Renewed;
use crate::token::{self, TokenHash};

/// `POST /v1/auth/universal-auth/login`
pub(super) async fn universal_auth(
    State(app): State<App>,
    Unauthenticated { requester }: Unauthenticated,
    Json(request): Json<UniversalAuthLogin>,
) -> Result<axum::Json<Login>, ApiError> {
    let access_token = token::generate()?;
    let lifetime = app
        .store()
        .login(
            requester.clone(),
            request.client_id.clone(),
            TokenHash::of(&request.client_secret),
            TokenHash::of(&access_token),
            SystemTime::now(),
        )
        .await;
    match lifetime {
        Ok(lifetime) => Ok(login(access_token, lifetime)),
        Err(error) => {
            let error = ApiError::from(error);
            let identity = app.store().identity_of_client(request.client_id).await?;
            let attempt = Attempt::login(requester, identity.as_deref());
            app.record(attempt, Some(&error)).await?;
            Err(error)
        }
    }
}

/// `POST /v1/auth/token/renew`
pub(super) async fn renew(
    State(app): State<App>,
    _: Unauthenticated,
    Json(request): Json<RenewToken>,
) -> Result<axum::Json<Login>, ApiError> {
    let token = TokenHash::of(&request.access_token);
    let lifetime = app.store().renew(token, SystemTime::now()).await?;
    Ok(login(request.access_token, lifetime))
}

fn login(access_token: Secret, lifetime: Renewed) -> axum::Json<Login> {
    axum::Json(Login {
        access_token,
        expires_in: lifetime.expires_in.as_secs(),
        access_token_max_ttl: lifetime.max_ttl.as_secs(),
        token_type: "Bearer".to_owned(),
    })
}

/// Logins that need someone else's cloud to verify them.
pub(super) async fn unsupported(_: Unauthenticated) -> ApiError {
    ApiError::bad_request(
        "the embedded platform offers universal auth, access tokens and enrollment tokens only",
    )
}

//! Request bodies: bounded JSON, and errors in the API's own form.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;

use super::error::ApiError;
use super::{App, MAX_BODY};

/// The whole body of a request.
pub(crate) async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ApiError> {
    Bytes::from_request(request, state).await.map_err(|error| {
        if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
            ApiError::too_large(MAX_BODY)
        } else {
            ApiError::bad_request("the request's body ended early")
        }
    })
}

/// A JSON body. No body at all is an empty object, as callers of endpoints without parameters send
/// none; the content type is not looked at.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let bytes = read(request, app).await?;
        let text = if bytes.trim_ascii().is_empty() {
            b"{}"
        } else {
            bytes.as_ref()
        };
        // Two steps, so that wrong values are distinguished from what is no JSON at all.
        let value: serde_json::Value = serde_json::from_slice(text)
            .map_err(|_| ApiError::bad_request("the request's body is not JSON"))?;
        serde_json::from_value(value)
            .map(Self)
            .map_err(|error| ApiError::invalid(&[], &error.to_string()))
    }
}

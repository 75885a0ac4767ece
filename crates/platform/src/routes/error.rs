//! Errors as the API writes them: `{message, statusCode, error, reqId}` (protocol.md §1).
//!
//! A handler returns an [`ApiError`]; it travels as an extension of an empty response to the
//! outermost layer, which alone knows the request's id, writes the body and logs it.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::error::chain;
use crate::{authority, probe, store, token};

/// The answer to every heartbeat whose probe failed.
const UNREACHED: &str = "the platform could not reach it at its relay's host; the platform's log has \
     the reason under the id of this request";

/// An error answer.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    /// A short name of its kind.
    pub(crate) kind: &'static str,
    /// A sentence, or an array of details for a request that is not valid.
    pub(crate) message: Value,
    /// When it makes sense to try again.
    pub(crate) retry_after: Option<Duration>,
    /// For the operator's log only.
    pub(crate) cause: Option<String>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            message: Value::String(message.into()),
            retry_after: None,
            cause: None,
        }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// A body that is not what the endpoint takes.
    pub(crate) fn invalid(path: &[&str], message: &str) -> Self {
        let mut error = Self::new(StatusCode::BAD_REQUEST, "ValidationFailure", "");
        error.message = json!([{"code": "invalid", "path": path, "message": message}]);
        error
    }

    pub(crate) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", message)
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "PermissionDenied", message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    pub(crate) fn method_not_allowed() -> Self {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self::new(status, "MethodNotAllowed", "this path takes another method")
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        let message = format!("the request's body is longer than {limit} bytes");
        Self::new(status, "PayloadTooLarge", message)
    }

    pub(crate) fn timed_out() -> Self {
        let status = StatusCode::REQUEST_TIMEOUT;
        Self::new(status, "RequestTimeout", "the request took too long")
    }

    pub(crate) fn rate_limited(retry_after: Duration) -> Self {
        let status = StatusCode::TOO_MANY_REQUESTS;
        let mut error = Self::new(status, "RateLimitExceeded", "too many attempts; wait");
        error.retry_after = Some(retry_after);
        error
    }

    /// A refusal that the framework made.
    pub(crate) fn other(status: StatusCode) -> Self {
        let reason = status.canonical_reason().unwrap_or("refused");
        Self::new(status, "BadRequest", reason)
    }

    pub(crate) fn unavailable(message: impl Into<String>, retry_after: Duration) -> Self {
        let mut error = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "ServiceUnavailable",
            message,
        );
        error.retry_after = Some(retry_after);
        error
    }

    /// A defect or a broken disk; the details are not the caller's.
    pub(crate) fn internal(cause: &(dyn std::error::Error + 'static)) -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        let message = "the platform failed; its log says why";
        let mut error = Self::new(status, "InternalServerError", message);
        error.cause = Some(chain(cause).to_string());
        error
    }

    /// What a page says: the sentence, or those of the details.
    pub(crate) fn sentence(&self) -> String {
        let details = self.message.as_array().into_iter().flatten();
        let details = details.filter_map(|detail| {
            let text = detail.get("message")?.as_str()?;
            let field = detail.get("path").and_then(|path| path.get(0));
            Some(match field.and_then(Value::as_str) {
                Some(field) => format!("{field}: {text}"),
                None => text.to_owned(),
            })
        });
        let details: Vec<_> = details.collect();
        match details.as_slice() {
            [] => self.reason().to_owned(),
            details => details.join("; "),
        }
    }

    /// Its sentence; its kind where the details may repeat what was in the request.
    pub(crate) fn reason(&self) -> &str {
        self.message.as_str().unwrap_or(self.kind)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<store::Error> for ApiError {
    fn from(error: store::Error) -> Self {
        use store::Error;
        let message = error.to_string();
        match &error {
            Error::NameTaken(_)
            | Error::HostTaken { .. }
            | Error::NameLooksLikeId(_)
            | Error::NotASlug(_)
            | Error::AmbiguousIdentity(_)
            | Error::TooManyRules(_)
            | Error::ServiceTaken { .. }
            | Error::TooManyServices(_)
            | Error::PersonTaken(_)
            | Error::NoSession
            | Error::RotationUnderWay
            | Error::NumericHost(_) => Self::bad_request(message),
            Error::UnknownRelay(_)
            | Error::UnknownGateway(_)
            | Error::GatewayDeleted
            | Error::RelayDeleted
            | Error::NoGateway
            | Error::UnknownIdentity(_)
            | Error::UnknownRule(_)
            | Error::UnknownService { .. }
            | Error::UnknownEnrollment { .. } => Self::not_found(message),
            Error::NotOwner(_) | Error::UnknownPerson(_) => Self::forbidden(message),
            Error::Enrollment | Error::Credentials | Error::Token => Self::unauthorized(message),
            // Not a refusal: it passes as soon as a relay has started.
            Error::NoRelay => Self::unavailable(message, Duration::from_secs(5)),
            Error::File(_)
            | Error::InUse(_)
            | Error::Newer { .. }
            | Error::OtherAlgorithm { .. }
            | Error::Database(_)
            | Error::Interrupted
            | Error::Authority(_) => Self::internal(&error),
        }
    }
}

impl From<authority::Error> for ApiError {
    fn from(error: authority::Error) -> Self {
        Self::internal(&error)
    }
}

impl From<token::Error> for ApiError {
    fn from(error: token::Error) -> Self {
        Self::internal(&error)
    }
}

impl From<probe::Error> for ApiError {
    fn from(error: probe::Error) -> Self {
        match &error {
            // One answer for all: a relay's host is chosen by who registers it, so whether a name
            // resolves, a port is open or what listens there is not the caller's to learn.
            probe::Error::Relay { .. }
            | probe::Error::NotConnected { .. }
            | probe::Error::NoAnswer { .. } => {
                let mut refused = Self::bad_request(UNREACHED);
                refused.cause = Some(chain(&error).to_string());
                refused
            }
            probe::Error::Local(_) => Self::internal(&error),
        }
    }
}

//! What all answers have in common: a deadline, an id, a line in the log, and the form of errors.

use std::net::IpAddr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::error::ApiError;
use super::{App, Source, body};
use crate::api::types::ErrorBody;
use crate::backoff;
use crate::log_throttle::LogThrottle;
use crate::net::handshake_progress::Progress;
use crate::web;

/// Limit for a request, its body and its answer included: a heartbeat's probe takes up to 10 s, the
/// longest that anything takes, and callers give up after 30 s.
const DEADLINE: Duration = Duration::from_secs(25);
/// The id of a request, on every answer.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// For lines about requests that did not succeed: a client may repeat one without end.
static LOG: LazyLock<LogThrottle> = LazyLock::new(LogThrottle::for_retries);

/// Runs the request and finishes its answer.
pub(super) async fn answer(State(app): State<App>, request: Request, next: Next) -> Response {
    let id = new_id();
    let method = request.method().clone();
    let is_safe = method.is_safe();
    let path = request.uri().path().to_owned();
    let source = request.extensions().get::<Source>();
    let source = source.map(|Source(peer)| peer.ip());
    let mut response = tokio::time::timeout(DEADLINE, run(request, next))
        .await
        .unwrap_or_else(|_| ApiError::timed_out().into_response());
    let status = response.status();
    let has_changed = response
        .extensions_mut()
        .remove::<web::Unchanged>()
        .is_none();
    if !is_safe && has_changed && (status.is_success() || status.is_redirection()) {
        app.watch().changed();
    }
    let error = response.extensions_mut().remove::<ApiError>().or_else(|| {
        // The framework's own refusals: a path that is no UTF-8, and the like.
        let refused = status.is_client_error() || status.is_server_error();
        refused.then(|| ApiError::other(status))
    });
    app.metrics().answered(&path, status.as_u16());
    let is_complete = response
        .extensions_mut()
        .remove::<web::Complete>()
        .is_some();
    match error {
        Some(error) => {
            app.metrics().failed(error.kind);
            let wait = error.retry_after.map(whole_seconds);
            log(&error, &id, source, (method.as_str(), &path));
            if is_api(&path) {
                response = finish(error, &id);
            } else if !is_complete {
                response = web::error_page(&error, &id);
            }
            if let Some(wait) = wait {
                response.headers_mut().insert(header::RETRY_AFTER, wait);
            }
        }
        None => {
            let status = status.as_u16();
            tracing::debug!(request.id = id, %method, path, status, "request answered");
        }
    }
    if let Ok(value) = HeaderValue::try_from(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    // Answers hold keys and tokens; the exception is what is the same for everyone.
    let no_store = HeaderValue::from_static("no-store");
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(no_store);
    web::secure(headers, &app);
    response
}

/// True for what programs ask for; all else is for browsers.
fn is_api(path: &str) -> bool {
    path.split('/').nth(1) == Some("api")
}

/// A time to wait, rounded up (RFC 9110 §10.2.3).
fn whole_seconds(wait: Duration) -> HeaderValue {
    HeaderValue::from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

/// Takes the request in completely, and then answers it: until then its connection may give way.
async fn run(request: Request, next: Next) -> Response {
    let progress = request.extensions().get::<Progress>().cloned();
    let (parts, body) = request.into_parts();
    let body = match body::read(Request::from_parts(parts.clone(), body), &()).await {
        Ok(body) => body,
        Err(error) => return error.into_response(),
    };
    let _answering = progress.as_ref().map(Progress::answer);
    next.run(Request::from_parts(parts, Body::from(body))).await
}

fn finish(error: ApiError, id: &str) -> Response {
    let body = ErrorBody {
        message: error.message,
        status_code: Some(error.status.as_u16()),
        error: Some(error.kind.to_owned()),
        req_id: Some(id.to_owned()),
    };
    let mut response = (error.status, axum::Json(body)).into_response();
    if error.status == StatusCode::UNAUTHORIZED {
        let value = HeaderValue::from_static("Bearer");
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, value);
    }
    response
}

fn log(error: &ApiError, id: &str, source: Option<IpAddr>, (method, path): (&str, &str)) {
    let status = error.status.as_u16();
    let reason = error.reason();
    let is_ours = error.status.is_server_error();
    let event = if is_ours {
        "request failed"
    } else {
        "request refused"
    };
    let cause = error.cause.as_deref();
    let class = format!(
        "{status} {} {method} {}",
        error.kind,
        cause.unwrap_or_default()
    );
    let permission = match source.filter(|_| !is_ours) {
        Some(source) => LOG.should_log_peer(event, &class, source),
        None => LOG.should_log(event, &class),
    };
    let Some(permission) = permission else {
        let error = cause.unwrap_or(reason);
        tracing::debug!(request.id = id, method, path, status, error, "{event}");
        return;
    };
    let suppressed = permission.suppressed();
    if is_ours {
        tracing::error!(
            request.id = id,
            method,
            path,
            status,
            error = cause.unwrap_or(reason),
            suppressed,
            "{event}"
        );
    } else {
        tracing::info!(
            request.id = id,
            method,
            path,
            status,
            error = cause.unwrap_or(reason),
            suppressed,
            "{event}"
        );
    }
}

/// An id that no other request of this or an earlier run has.
fn new_id() -> String {
    static REQUESTS: AtomicU64 = AtomicU64::new(0);
    let number = REQUESTS.fetch_add(1, Ordering::Relaxed);
    format!("req-{:016x}-{number:x}", backoff::random())
}

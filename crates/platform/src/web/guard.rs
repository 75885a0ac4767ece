//! What protects the pages from everyone: a request that changes something must come from a page of
//! this platform, and answers say what a browser may do with them.

use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::routes::{ApiError, App};

/// Everything is from here, nothing is inline, and no one shows a page within another.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; \
     img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
/// Two years, as the browsers' preload list asks for (RFC 6797 §6.1.1).
const STRICT_TRANSPORT_SECURITY: &str = "max-age=63072000";

/// Which kind of page has sent the request (Fetch Metadata).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses what other sites' pages have a browser send.
pub(super) async fn same_origin(State(app): State<App>, request: Request, next: Next) -> Response {
    if request.method().is_safe() || is_same_origin(&app, request.headers()) {
        return next.run(request).await;
    }
    ApiError::forbidden("this request did not come from a page of this platform").into_response()
}

/// Browsers name the site of the page in `Sec-Fetch-Site`; those that do not know it, its origin.
/// With neither, from a program or a text browser, the form's token decides, which every form has
/// ([`super::visitor::Submitted`]) and no other site knows.
fn is_same_origin(app: &App, headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get(SEC_FETCH_SITE) {
        return site == "same-origin";
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    origin.to_str().is_ok_and(|origin| {
        let own = app.web().own_origin(headers);
        let public = app.web().public_url().map(str::to_owned);
        [own, public]
            .into_iter()
            .flatten()
            .any(|known| known == origin)
    })
}

/// Adds what every answer to a browser says.
pub(crate) fn secure(headers: &mut HeaderMap, app: &App) {
    let mut set = |name, value| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    set(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    set(
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    );
    set(
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    );
    if app.web().serves_tls() {
        set(header::STRICT_TRANSPORT_SECURITY, STRICT_TRANSPORT_SECURITY);
    }
}

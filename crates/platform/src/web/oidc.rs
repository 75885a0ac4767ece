//! Login of people at the OpenID provider, in the browser that shows the pages.
//!
//! The browser goes to the provider and comes back with a code. A cookie ties the two ways together:
//! without it, someone could have another person's browser end a login that they began.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::html;

use super::layout::outside;
use super::login::{add_cookie, add_session, next, show};
use super::session::{self, Credential, Owner};
use super::visitor::{Fields, PageError};
use crate::error::printable;
use crate::routes::auth::Unauthenticated;
use crate::routes::{ApiError, App};
use crate::secret::Secret;
use crate::token::TokenHash;

/// Where a login begins.
pub(super) const BEGIN: &str = "/login/oidc";
/// Where the provider sends the browser afterwards: an allowed redirect URI of the client there.
pub(super) const CALLBACK: &str = "/login/oidc/callback";

/// Longest code of an error that the provider names, in characters.
const MAX_ERROR: usize = 100;

/// `GET /login/oidc`: a link and no form, because `form-action` of the pages' policy holds for the
/// redirects of a form too.
pub(super) async fn begin(
    State(app): State<App>,
    Unauthenticated { requester }: Unauthenticated,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    let query = Fields::of_query(&uri);
    let redirect_uri = format!("{}{CALLBACK}", app.web().domain(&headers));
    let begun = app.oidc()?.begin(redirect_uri, requester.source).await;
    let begun = begun.map_err(ApiError::from)?;
    let mut response = Redirect::to(&begun.authorization_url).into_response();
    let cookie = session::set_provider_login(&begun.secret, next(query.text("next")));
    add_cookie(&mut response, cookie);
    Ok(response)
}

/// `GET /login/oidc/callback`
pub(super) async fn finish(
    State(app): State<App>,
    Unauthenticated { requester }: Unauthenticated,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    let query = Fields::of_query(&uri);
    let (login_secret, path) = session::provider_login_cookie(&headers)
        .unwrap_or_else(|| (Secret::new(""), String::new()));
    let path = next(&path);
    let refused_there = query.text("error");
    let finished = if refused_there.is_empty() {
        let code = Secret::new(query.text("code"));
        let person = app
            .oidc()?
            .finish(&login_secret, query.text("state"), &code);
        app.log_in(requester, person.await).await
    } else {
        // Anyone can make a link to here: its words are the provider's only with this login's state.
        let abandoned = app.oidc()?.abandon(&login_secret, query.text("state"));
        Err(abandoned.map_or_else(ApiError::from, |()| {
            let error = printable(refused_there);
            let error: String = error.chars().take(MAX_ERROR).collect();
            ApiError::unauthorized(format!("the OpenID provider did not log you in: {error}"))
        }))
    };
    let mut response = match finished {
        Ok(logged_in) => {
            let credential = Credential::Token(TokenHash::of(&logged_in.access_token));
            let owner = Owner::Identity(logged_in.who.id.unwrap_or_default());
            let mut response = logged_in_page(path);
            add_session(&app, &headers, &mut response, owner, credential)?;
            response
        }
        Err(refusal) => show(&app, &headers, path, Some(&refusal))?,
    };
    add_cookie(&mut response, session::remove_provider_login());
    Ok(response)
}

/// Leads to `path`. A redirect would still belong to the provider's site, and the browser would
/// leave the cookie of the session out.
fn logged_in_page(path: &str) -> Response {
    let main = html! {
        div.alone.login {
            h1 { "You are logged in" }
            p { a href=(path) { "Continue" } }
        }
    };
    let mut response = outside(StatusCode::OK, "Logged in", &main, None);
    if let Ok(value) = HeaderValue::try_from(format!("0; url={path}")) {
        response.headers_mut().insert(header::REFRESH, value);
    }
    response
}

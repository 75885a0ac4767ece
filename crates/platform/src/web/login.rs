//! Login and logout.

use std::time::{Instant, SystemTime};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};
use url::form_urlencoded;

use super::layout::{HOME, outside};
use super::session::{self, Credential, Owner};
use super::visitor::{
    EXPIRED_FORM, FORM_TOKEN, Fields, PageError, Submitted, Visitor, is_own_path,
};
use super::{oidc, parts};
use crate::routes::audit::Attempt;
use crate::routes::auth::{Allowed as _, GatewayListers, Unauthenticated, check};
use crate::routes::{ApiError, App, Signer};
use crate::secret::Secret;
use crate::store::{Principal, Requester};
use crate::token::{self, TokenHash};

/// `GET /login`
pub(super) async fn form(
    State(app): State<App>,
    visitor: Result<Visitor, PageError>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    let query = Fields::of_query(&uri);
    let next = next(query.text("next"));
    match visitor {
        Ok(_) => return Ok(Redirect::to(next).into_response()),
        Err(PageError::LogIn(_)) => {}
        Err(refused @ PageError::Refused(_)) => return Err(refused),
    }
    show(&app, &headers, next, None)
}

/// `POST /login`
pub(super) async fn submit(
    State(app): State<App>,
    Unauthenticated { requester }: Unauthenticated,
    request: Request,
) -> Result<Response, PageError> {
    let headers = request.headers().clone();
    let fields = Fields::read(request).await?;
    let next = next(fields.text("next"));
    let is_ours = session::login_cookie(&headers)
        .is_some_and(|cookie| session::is_form_token(fields.text(FORM_TOKEN), &cookie));
    if !is_ours {
        let refusal = ApiError::forbidden(EXPIRED_FORM);
        return show(&app, &headers, next, Some(&refusal));
    }
    let token = TokenHash::of(&Secret::new(fields.text("token")));
    match authenticate(&app, requester, token).await? {
        Ok((owner, credential)) => {
            let mut response = Redirect::to(next).into_response();
            add_session(&app, &headers, &mut response, owner, credential)?;
            Ok(response)
        }
        Err(refusal) => show(&app, &headers, next, Some(&refusal)),
    }
}

/// `POST /logout`
pub(super) async fn log_out(
    State(app): State<App>,
    Submitted { visitor, .. }: Submitted,
) -> Result<Response, PageError> {
    app.web().sessions.close(&visitor.cookie);
    app.record(Attempt::web_log_out(visitor.requester()), None)
        .await?;
    let mut response = Redirect::to("/login").into_response();
    add_cookie(&mut response, session::remove_session());
    Ok(response)
}

/// Whose token it is. Both outcomes are on record before the answer.
async fn authenticate(
    app: &App,
    requester: Requester,
    token: TokenHash,
) -> Result<Result<(Owner, Credential), ApiError>, PageError> {
    let source = requester.source;
    if app.is_admin(token) {
        let attempt = Attempt::web_login(Signer::Administrator.requester(source), None);
        app.record(attempt, None).await?;
        return Ok(Ok((Owner::Administrator, Credential::Administrator)));
    }
    let principal = app.store().principal(token, SystemTime::now()).await?;
    let (attempt, owner) = match principal {
        Some(Principal::Identity(identity)) => {
            let requester = Signer::Identity(identity.id.clone()).requester(source);
            let attempt = Attempt::web_login(requester, Some(&identity.id));
            let permission = check(&identity.roles, GatewayListers::ROLES);
            (attempt, permission.map(|()| Owner::Identity(identity.id)))
        }
        Some(Principal::Gateway(_) | Principal::Relay(_)) => {
            let refusal = ApiError::forbidden("this is the token of a gateway or a relay");
            (Attempt::web_login(requester, None), Err(refusal))
        }
        None => {
            let refusal = ApiError::unauthorized("this token is wrong, expired or revoked");
            (Attempt::web_login(requester, None), Err(refusal))
        }
    };
    app.record(attempt, owner.as_ref().err()).await?;
    Ok(owner.map(|owner| (owner, Credential::Token(token))))
}

/// Opens a session with `response`, in place of the one that the browser had.
pub(super) fn add_session(
    app: &App,
    headers: &HeaderMap,
    response: &mut Response,
    owner: Owner,
    credential: Credential,
) -> Result<(), PageError> {
    let sessions = &app.web().sessions;
    if let Some(before) = session::session_cookie(headers) {
        sessions.close(&before);
    }
    let cookie = sessions.open(owner, credential, Instant::now())?;
    add_cookie(response, session::set_session(&cookie));
    Ok(())
}

pub(super) fn add_cookie(response: &mut Response, cookie: Option<HeaderValue>) {
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}

/// Where the login leads.
pub(super) fn next(asked: &str) -> &str {
    match is_own_path(asked) {
        true => asked,
        false => HOME,
    }
}

/// The page of the login.
pub(super) fn show(
    app: &App,
    headers: &HeaderMap,
    next: &str,
    refusal: Option<&ApiError>,
) -> Result<Response, PageError> {
    let (cookie, is_new) = match session::login_cookie(headers) {
        Some(cookie) => (cookie, false),
        None => (token::generate()?, true),
    };
    // 401 would need a challenge, which a form is not (RFC 9110 §15.5.2).
    let status = match refusal {
        Some(_) => StatusCode::FORBIDDEN,
        None => StatusCode::OK,
    };
    let has_provider = app.oidc().is_ok();
    let main = page(&session::form_token(&cookie), next, has_provider, refusal);
    let mut response = outside(status, "Log in", &main, refusal);
    if is_new {
        add_cookie(&mut response, session::set_login(&cookie));
    }
    Ok(response)
}

fn page(form_token: &str, next: &str, has_provider: bool, refusal: Option<&ApiError>) -> Markup {
    let query: String = form_urlencoded::byte_serialize(next.as_bytes()).collect();
    html! {
        div.alone.login {
            img src="/icon.svg" alt="" width="40" height="40";
            h1 { "Log in" }
            @if let Some(refusal) = refusal { (parts::refusal(&refusal.sentence())) }
            @if has_provider {
                p { a.button.primary href={ (oidc::BEGIN) "?next=" (query) } { "Log in with your organization's account" } }
                p.hint { "Or with an access token:" }
            }
            form method="post" action="/login" {
                input type="hidden" name=(FORM_TOKEN) value=(form_token);
                input type="hidden" name="next" value=(next);
                // For password managers, which keep a password with a name.
                input.unseen type="text" name="username" value="administrator" autocomplete="username"
                    tabindex="-1" aria-hidden="true" readonly;
                label for="token" { "Access token" }
                input #token type="password" name="token" required autofocus maxlength="512"
                    autocomplete="current-password" spellcheck="false" aria-describedby="token-hint";
                p.hint #token-hint {
                    "The administrator's token is in the file " code { "admin-token" }
                    " of the platform's state directory. The token of an identity shows what that identity may see."
                }
                button.primary { "Log in" }
            }
        }
    }
}

//! Logins of people: for the command line, which gets a session's token, and what all tokens have:
//! whose they are, and their end.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;

use super::admin::done;
use super::audit::Attempt;
use super::auth::{self, Unauthenticated};
use super::body::Json;
use super::error::ApiError;
use super::{App, access, rfc3339};
use crate::api::people::{
    BeginLogin, BegunDeviceLogin, BegunLogin, DeviceLogin, FinishLogin, LoggedIn, PollDeviceLogin,
    WhoAmI,
};
use crate::api::types::Message;
use crate::oidc::{self, Oidc, Person, Polled};
use crate::store::{NewSession, Requester, Role, SessionOwner};
use crate::token::{self, TokenHash};

/// `POST login`
pub(super) async fn begin(
    State(app): State<App>,
    Unauthenticated { requester }: Unauthenticated,
    Json(request): Json<BeginLogin>,
) -> Result<axum::Json<BegunLogin>, ApiError> {
    if !is_on_loopback(&request.redirect_uri) {
        let rule = "it must be http://127.0.0.1:PORT/callback or http://[::1]:PORT/callback";
        return Err(ApiError::invalid(&["redirectUri"], rule));
    }
    let begun = app.oidc()?.begin(request.redirect_uri, requester.source);
    let begun = begun.await?;
    Ok(axum::Json(BegunLogin {
        authorization_url: begun.authorization_url,
        state: begun.state.expose().to_owned(),
        login_secret: begun.secret,
    }))
}

/// `POST login/finish`
pub(super) async fn finish(
    State(app): State<App>,
    Unauthenticated { requester }: Unauthenticated,
    Json(request): Json<FinishLogin>,
) -> Result<axum::Json<LoggedIn>, ApiError> {
    let FinishLogin {
        login_secret,
        state,
        code,
    } = request;
    let person = app.oidc()?.finish(&login_secret, &state, &code).await;
    app.log_in(requester, person).await.map(axum::Json)
}

/// `POST login/device`
pub(super) async fn begin_device(
    State(app): State<App>,
    Unauthenticated { requester }: Unauthenticated,
) -> Result<axum::Json<BegunDeviceLogin>, ApiError> {
    let begun = app.oidc()?.begin_device(requester.source).await?;
    Ok(axum::Json(BegunDeviceLogin {
        login_secret: begun.secret,
        verification_uri: begun.verification_uri,
        verification_uri_complete: begun.verification_uri_complete,
        user_code: begun.user_code,
        interval: begun.interval.as_secs(),
        expires_in: begun.expires_in.as_secs(),
    }))
}

/// `POST login/device/poll`
pub(super) async fn poll_device(
    State(app): State<App>,
    Unauthenticated { requester }: Unauthenticated,
    Json(request): Json<PollDeviceLogin>,
) -> Result<axum::Json<DeviceLogin>, ApiError> {
    let person = match app.oidc()?.poll_device(&request.login_secret).await {
        Ok(Polled::Pending(wait)) => {
            // Rounded up, so that the next question is not too early.
            let wait = Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
            let session = None;
            return Ok(axum::Json(DeviceLogin { wait, session }));
        }
        Ok(Polled::Done(person)) => Ok(person),
        Err(error) => Err(error),
    };
    let session = app.log_in(requester, person).await?;
    Ok(axum::Json(DeviceLogin {
        wait: None,
        session: Some(session),
    }))
}

/// `GET login`
pub(super) async fn who_am_i(
    State(app): State<App>,
    token: AnyToken,
) -> Result<axum::Json<WhoAmI>, ApiError> {
    if app.0.admin.matches(token.hash.as_bytes()) {
        return Ok(axum::Json(WhoAmI {
            id: None,
            name: "administrator".to_owned(),
            roles: vec![Role::Admin.as_str().to_owned()],
            groups: Vec::new(),
            expires_at: None,
        }));
    }
    let owner = app.store().session_owner(token.hash, SystemTime::now());
    let owner = owner.await?.ok_or(crate::store::Error::Token)?;
    Ok(axum::Json(who(owner)))
}

/// `DELETE login`
pub(super) async fn log_out(
    State(app): State<App>,
    token: AnyToken,
) -> Result<axum::Json<Message>, ApiError> {
    let owner = app.store().session_owner(token.hash, SystemTime::now());
    let owner = owner.await?.ok_or(crate::store::Error::Token)?;
    let requester = Requester {
        kind: "identity",
        id: Some(owner.id),
        name: Some(owner.name),
        source: token.source,
    };
    app.store().log_out(requester, token.hash).await?;
    Ok(done("the session has ended"))
}

/// Any access token, valid or not.
#[derive(Debug)]
pub(super) struct AnyToken {
    hash: TokenHash,
    source: Option<IpAddr>,
}

impl FromRequestParts<App> for AnyToken {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        Ok(Self {
            hash: TokenHash::of(&auth::bearer(parts)?),
            source: auth::source(parts),
        })
    }
}

impl App {
    /// The client of the OpenID provider.
    pub(crate) fn oidc(&self) -> Result<&Oidc, ApiError> {
        let oidc = self.0.oidc.as_ref();
        Ok(oidc.ok_or(oidc::Error::NotConfigured)?)
    }

    /// A session for a person who has logged in at the provider, or was refused there. Either is on
    /// record before the answer.
    pub(crate) async fn log_in(
        &self,
        requester: Requester,
        person: Result<Person, oidc::Error>,
    ) -> Result<LoggedIn, ApiError> {
        let session = match person {
            Ok(person) => self.session_of(requester.clone(), person).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = &session {
            self.record(Attempt::login(requester, None), Some(error))
                .await?;
        }
        session
    }

    async fn session_of(
        &self,
        requester: Requester,
        mut person: Person,
    ) -> Result<LoggedIn, ApiError> {
        if let Some(groups) = &mut person.groups {
            access::leave_out_invalid(groups);
        }
        let access_token = token::generate()?;
        let new = NewSession {
            person,
            creates_identities: self.oidc()?.creates_identities(),
            token: TokenHash::of(&access_token),
            lifetime: self.0.session_lifetime,
        };
        let owner = self
            .store()
            .log_in_person(requester, new, SystemTime::now());
        let who = who(owner.await?);
        Ok(LoggedIn { access_token, who })
    }
}

fn who(owner: SessionOwner) -> WhoAmI {
    let roles = owner.roles.iter().map(|role| role.as_str().to_owned());
    WhoAmI {
        id: Some(owner.id),
        name: owner.name,
        roles: roles.collect(),
        groups: owner.groups,
        expires_at: owner.expires_at.map(rfc3339),
    }
}

/// Where only a program on the person's own machine listens (RFC 8252 §7.3).
fn is_on_loopback(uri: &str) -> bool {
    let ports = ["http://127.0.0.1:", "http://[::1]:"];
    let port = ports.iter().find_map(|start| uri.strip_prefix(start));
    let port = port.and_then(|rest| rest.strip_suffix("/callback"));
    port.is_some_and(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
    })
}

impl From<oidc::Error> for ApiError {
    fn from(error: oidc::Error) -> Self {
        use oidc::Error;
        let text = crate::error::chain(&error).to_string();
        match error {
            Error::NotConfigured => Self::not_found(text),
            Error::Provider(error) if error.is_refusal() => Self::unauthorized(text),
            // Its address is no secret, and without the reason no one could mend it.
            Error::Provider(_) => Self::unavailable(text, RETRY_PROVIDER),
            Error::IdToken(_) | Error::Unknown | Error::OtherLogin => Self::unauthorized(text),
            Error::TooMany(wait) => Self::rate_limited(wait),
            Error::Token(error) => Self::internal(&error),
        }
    }
}

/// When it makes sense to try again at a provider that does not answer.
const RETRY_PROVIDER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::is_on_loopback;

    #[test]
    fn redirect_stays_on_the_machine() {
        for uri in ["http://127.0.0.1:1/callback", "http://[::1]:65535/callback"] {
            assert!(is_on_loopback(uri), "{uri}");
        }
        for uri in [
            "https://127.0.0.1:1/callback",
            "http://localhost:1/callback",
            "http://127.0.0.1:1@evil.example/callback",
            "http://127.0.0.1:1.evil.example/callback",
            "http://127.0.0.1:65536/callback",
            "http://127.0.0.1:/callback",
            "http://127.0.0.1:+1/callback",
            "http://127.0.0.1/callback",
            "http://127.0.0.1:1/other",
        ] {
            assert!(!is_on_loopback(uri), "{uri}");
        }
    }
}

//! Who looks at a page, and what a form has sent.

use std::net::IpAddr;
use std::time::{Instant, SystemTime};

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderName, Method, Uri};
use axum::response::{IntoResponse, Redirect, Response};
use url::form_urlencoded;

use super::layout::{Place, Unchanged};
use super::session::{self, Credential, Notice, Owner};
use crate::routes::auth::{Allowed, By, Clients, Operators};
use crate::routes::live_sessions::Viewer;
use crate::routes::{ApiError, App, Signer, body};
use crate::secret::Secret;
use crate::store::{Principal, Requester, Role};

/// What the script of a page sends when it fetches the page to update it.
const LIVE_HEADER: HeaderName = HeaderName::from_static("x-live-update");
/// The field of every form that shows that a page of this platform made it.
pub(super) const FORM_TOKEN: &str = "form_token";
/// Longest path that a login leads back to.
const MAX_NEXT: usize = 512;

/// Someone who has logged in.
#[derive(Debug)]
pub(super) struct Visitor {
    pub(super) cookie: Secret,
    /// For the corner of each page.
    pub(super) name: String,
    signer: Signer,
    roles: Vec<Role>,
    source: Option<IpAddr>,
    /// True if the script updates the page: what is said once is left for a person.
    is_update: bool,
}

/// Why a page is not shown.
#[derive(Debug)]
pub(super) enum PageError {
    /// Only to those who have logged in; afterwards this path is shown.
    LogIn(String),
    /// As the API would refuse it.
    Refused(Box<ApiError>),
}

impl From<ApiError> for PageError {
    fn from(error: ApiError) -> Self {
        Self::Refused(Box::new(error))
    }
}

impl From<crate::store::Error> for PageError {
    fn from(error: crate::store::Error) -> Self {
        ApiError::from(error).into()
    }
}

impl From<crate::token::Error> for PageError {
    fn from(error: crate::token::Error) -> Self {
        ApiError::from(error).into()
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        match self {
            Self::LogIn(next) => {
                let mut response = Redirect::to(&login_path(&next)).into_response();
                response.extensions_mut().insert(Unchanged);
                response
            }
            Self::Refused(error) => error.into_response(),
        }
    }
}

impl Visitor {
    /// The visitor as a caller of what only `A` may do.
    pub(super) fn by<A: Allowed>(&self) -> Result<By<A>, ApiError> {
        By::permit(&self.roles, self.requester())
    }

    /// The visitor as the record names it.
    pub(super) fn requester(&self) -> Requester {
        self.signer.clone().requester(self.source)
    }

    /// Whom all sessions of the visitor belong to.
    pub(super) fn owner(&self) -> Owner {
        match &self.signer {
            Signer::Identity(id) => Owner::Identity(id.clone()),
            Signer::Administrator | Signer::Gateway(_) | Signer::Relay(_) | Signer::Instance => {
                Owner::Administrator
            }
        }
    }

    /// Whether that succeeds.
    pub(super) fn may<A: Allowed>(&self) -> bool {
        self.by::<A>().is_ok()
    }

    /// Leads to `place`, which says that something was done.
    pub(super) fn done(&self, app: &App, place: Place, text: String) -> Response {
        let notice = Notice::Done(text);
        app.web().sessions.set_notice(&self.cookie, notice);
        Redirect::to(place.path()).into_response()
    }

    /// Whose open sessions it sees.
    pub(super) fn viewer(&self) -> Result<Viewer, ApiError> {
        let operator = self.by::<Operators>().map(|_| ());
        let client = self.by::<Clients>().map(|_| ());
        Viewer::of(self.signer.clone(), operator, client)
    }

    /// See [`session::form_token`].
    pub(super) fn form_token(&self) -> String {
        session::form_token(&self.cookie)
    }

    /// What this page says once.
    pub(super) fn take_notice(&self, app: &App) -> Option<Notice> {
        match self.is_update {
            true => None,
            false => app.web().sessions.take_notice(&self.cookie),
        }
    }

    /// Whose access token it is that was logged in with; `None` if it is not valid any more.
    async fn find(
        app: &App,
        credential: Credential,
    ) -> Result<Option<(Signer, Vec<Role>, String)>, ApiError> {
        let token = match credential {
            Credential::Administrator => {
                let name = "administrator".to_owned();
                return Ok(Some((Signer::Administrator, vec![Role::Admin], name)));
            }
            Credential::Token(token) => token,
        };
        match app.store().principal(token, SystemTime::now()).await? {
            Some(Principal::Identity(identity)) => {
                let name = app.store().identity_name(identity.id.clone()).await?;
                let name = name.unwrap_or_else(|| identity.id.clone());
                Ok(Some((Signer::Identity(identity.id), identity.roles, name)))
            }
            Some(Principal::Gateway(_) | Principal::Relay(_)) | None => Ok(None),
        }
    }

    /// The one with this cookie.
    pub(super) async fn with_cookie(
        app: &App,
        cookie: Secret,
        is_update: bool,
        source: Option<IpAddr>,
    ) -> Result<Option<Self>, ApiError> {
        let now = Instant::now();
        let found = app.web().sessions.credential(&cookie, !is_update, now);
        let Some(credential) = found else {
            return Ok(None);
        };
        let Some((signer, roles, name)) = Self::find(app, credential).await? else {
            app.web().sessions.close(&cookie);
            return Ok(None);
        };
        Ok(Some(Self {
            cookie,
            name,
            signer,
            roles,
            source,
            is_update,
        }))
    }
}

impl FromRequestParts<App> for Visitor {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, PageError> {
        // The stream of a page is opened by the script, which cannot send the header there.
        let is_update =
            parts.headers.contains_key(LIVE_HEADER) || parts.uri.path() == super::live::PATH;
        let source = crate::routes::auth::source(parts);
        let visitor = match session::session_cookie(&parts.headers) {
            Some(cookie) => Self::with_cookie(app, cookie, is_update, source).await?,
            None => None,
        };
        visitor.ok_or_else(|| {
            let path = parts.uri.path_and_query().map(ToString::to_string);
            let path = path.filter(|_| parts.method == Method::GET);
            PageError::LogIn(path.unwrap_or_default())
        })
    }
}

/// The fields of a form (`application/x-www-form-urlencoded`).
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(String, Secret)>);

impl Fields {
    /// What stands in the query of `uri`.
    pub(super) fn of_query(uri: &Uri) -> Self {
        Self::parse(uri.query().unwrap_or_default().as_bytes())
    }

    /// What was sent in the body of `request`.
    pub(super) async fn read(request: Request) -> Result<Self, ApiError> {
        let bytes = body::read(request, &()).await?;
        Ok(Self::parse(&bytes))
    }

    pub(super) fn parse(bytes: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(bytes);
        Self(
            pairs
                .map(|(name, value)| (name.into_owned(), Secret::new(value)))
                .collect(),
        )
    }

    /// The first value of a field without white space around it; empty without one.
    pub(super) fn text(&self, name: &str) -> &str {
        self.all(name).first().copied().unwrap_or_default()
    }

    /// All values of a field that are not empty.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        let values = self.0.iter().filter(|(found, _)| found == name);
        let values = values.map(|(_, value)| value.expose().trim());
        values.filter(|value| !value.is_empty()).collect()
    }

    /// The words of a field: separated by white space or commas.
    pub(super) fn words(&self, name: &str) -> Vec<String> {
        let words = self
            .text(name)
            .split(|c: char| c.is_whitespace() || c == ',');
        let words = words.filter(|word| !word.is_empty());
        words.map(str::to_owned).collect()
    }
}

/// What a visitor's form has sent, if a page of this platform made the form.
#[derive(Debug)]
pub(super) struct Submitted {
    pub(super) visitor: Visitor,
    pub(super) fields: Fields,
}

impl FromRequest<App> for Submitted {
    type Rejection = PageError;

    async fn from_request(request: Request, app: &App) -> Result<Self, PageError> {
        let (mut parts, body) = request.into_parts();
        let visitor = Visitor::from_request_parts(&mut parts, app).await?;
        let fields = Fields::read(Request::from_parts(parts, body)).await?;
        if !session::is_form_token(fields.text(FORM_TOKEN), &visitor.cookie) {
            return Err(ApiError::forbidden(EXPIRED_FORM).into());
        }
        Ok(Self { visitor, fields })
    }
}

/// What is said of a form that belongs to no session, or to another one.
pub(super) const EXPIRED_FORM: &str =
    "this form is no longer valid; go back, load the page again and fill in the form once more";

/// Where someone logs in who wants to see `next`.
fn login_path(next: &str) -> String {
    match is_own_path(next) && next != "/" {
        true => {
            let next: String = form_urlencoded::byte_serialize(next.as_bytes()).collect();
            format!("/login?next={next}")
        }
        false => "/login".to_owned(),
    }
}

/// Whether it is a path of this platform, and not an address that a browser would take for that of
/// another host.
pub(super) fn is_own_path(path: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_graphic() && c != '\\';
    path.len() <= MAX_NEXT
        && path.starts_with('/')
        && !path.starts_with("//")
        && path.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::{Fields, is_own_path, login_path};

    #[test]
    fn login_leads_back_to_own_paths_only() {
        assert_eq!(
            login_path("/audit?kind=login"),
            "/login?next=%2Faudit%3Fkind%3Dlogin"
        );
        assert_eq!(login_path("/"), "/login");
        for bad in [
            "",
            "audit",
            "//evil.example",
            "/\\evil.example",
            "/a\r\nb",
            "https://a/",
            "/ä",
        ] {
            assert!(!is_own_path(bad), "{bad:?}");
            assert_eq!(login_path(bad), "/login", "{bad:?}");
        }
    }

    #[test]
    fn fields_are_read_in_any_form() {
        let fields = Fields::parse(b"a=+x+&b=1&b=&b=2&c=one%2C+two&d&%ff=%ff");
        assert_eq!(fields.text("a"), "x");
        assert_eq!(fields.all("b"), ["1", "2"]);
        assert_eq!(fields.words("c"), ["one", "two"]);
        assert_eq!((fields.text("d"), fields.text("e")), ("", ""));
    }
}

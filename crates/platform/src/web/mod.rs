//! The web page: the same platform for a browser.
//!
//! Pages are made here and complete without JavaScript; one script of ours updates what changes.
//! A page asks and changes through the handlers of the API ([`crate::routes`]), as a caller with the
//! roles of the one who has logged in: no rule is here a second time. Texts from elsewhere reach a page
//! only through the template engine, which escapes them.

mod access;
mod add_gateway;
mod assets;
mod audit;
mod error_page;
mod gateways;
mod guard;
mod identities;
mod layout;
mod live;
mod login;
mod oidc;
mod parts;
mod relays;
mod session;
mod sessions;
mod tokens;
mod visitor;

use axum::Router;
use axum::http::{HeaderMap, header};
use axum::response::Redirect;
use axum::routing::{get, post};
pub(crate) use error_page::error_page;
pub(crate) use guard::secure;
pub(crate) use layout::{Complete, Unchanged};

use crate::PublicUrl;
use crate::routes::App;
use session::Sessions;

/// What the pages of a platform share.
#[derive(Debug)]
pub(crate) struct Web {
    sessions: Sessions,
    streams: live::Streams,
    public_url: Option<PublicUrl>,
    serves_tls: bool,
}

impl Web {
    /// For a platform that is reached at `public_url`.
    pub(crate) fn new(public_url: Option<PublicUrl>, serves_tls: bool) -> Self {
        Self {
            sessions: Sessions::default(),
            streams: live::Streams::default(),
            public_url,
            serves_tls,
        }
    }

    /// By which browsers and gateways reach the platform, if someone has said so.
    pub(crate) fn public_url(&self) -> Option<&str> {
        self.public_url.as_ref().map(PublicUrl::as_str)
    }

    /// What `--domain` of gateways has to be.
    fn domain(&self, headers: &HeaderMap) -> String {
        let public = self.public_url().map(str::to_owned);
        public
            .or_else(|| self.own_origin(headers))
            .unwrap_or_default()
    }

    /// Whether it serves HTTPS itself.
    pub(crate) fn serves_tls(&self) -> bool {
        self.serves_tls
    }

    /// The origin at which a request with these headers was sent to this listener.
    pub(crate) fn own_origin(&self, headers: &HeaderMap) -> Option<String> {
        let host = headers.get(header::HOST)?.to_str().ok()?;
        let scheme = if self.serves_tls { "https" } else { "http" };
        Some(format!("{scheme}://{host}"))
    }
}

/// All pages.
pub(crate) fn router(app: &App) -> Router<App> {
    Router::new()
        .route("/", get(async || Redirect::to(layout::HOME)))
        .route("/login", get(login::form).post(login::submit))
        .route(oidc::BEGIN, get(oidc::begin))
        .route(oidc::CALLBACK, get(oidc::finish))
        .route(live::PATH, get(live::events))
        .route("/logout", post(login::log_out))
        .route("/gateways", get(gateways::list))
        .route("/gateways/remove", post(gateways::remove))
        .route(
            "/gateways/add",
            get(add_gateway::page).post(add_gateway::create),
        )
        .route("/relays", get(relays::list))
        .route("/relays/remove", post(relays::remove))
        .route("/sessions", get(sessions::list))
        .route("/access", get(access::list))
        .route("/access/add", post(access::add))
        .route("/access/remove", post(access::remove))
        .route("/identities", get(identities::list))
        .route("/identities/create", post(identities::create))
        .route("/identities/groups", post(identities::set_groups))
        .route("/identities/remove", post(identities::remove))
        .route("/tokens", get(tokens::list))
        .route("/tokens/revoke", post(tokens::revoke))
        .route("/audit", get(audit::list))
        .route_layer(axum::middleware::from_fn_with_state(
            app.clone(),
            guard::same_origin,
        ))
        .merge(assets::router())
}

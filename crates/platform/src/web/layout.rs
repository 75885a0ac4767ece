//! The frame of every page: its head, who has logged in, and where else to go.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

use super::assets::VERSION;
use super::parts;
use super::session::Notice;
use super::visitor::{FORM_TOKEN, Visitor};
use crate::routes::auth::{Administrators, GatewayListers, Operators};
use crate::routes::{ApiError, App};

/// Where someone gets who asks for no page, or has logged in.
pub(super) const HOME: &str = "/gateways";

/// The pages that the navigation leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Gateways,
    Relays,
    Sessions,
    AccessRules,
    Identities,
    Tokens,
    Audit,
}

impl Place {
    const ALL: [Self; 7] = [
        Self::Gateways,
        Self::Relays,
        Self::Sessions,
        Self::AccessRules,
        Self::Identities,
        Self::Tokens,
        Self::Audit,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Gateways => "Gateways",
            Self::Relays => "Relays",
            Self::Sessions => "Sessions",
            Self::AccessRules => "Access rules",
            Self::Identities => "Identities",
            Self::Tokens => "Tokens",
            Self::Audit => "Audit",
        }
    }

    /// Where it is.
    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Gateways => HOME,
            Self::Relays => "/relays",
            Self::Sessions => "/sessions",
            Self::AccessRules => "/access",
            Self::Identities => "/identities",
            Self::Tokens => "/tokens",
            Self::Audit => "/audit",
        }
    }

    /// Whether it has something to show to `visitor`.
    fn is_for(self, visitor: &Visitor) -> bool {
        match self {
            Self::Gateways | Self::Sessions => visitor.may::<GatewayListers>(),
            Self::Relays | Self::Tokens => visitor.may::<Operators>(),
            Self::AccessRules | Self::Identities | Self::Audit => visitor.may::<Administrators>(),
        }
    }
}

/// A page of someone who has logged in.
#[derive(Debug)]
pub(super) struct Page<'a> {
    pub(super) app: &'a App,
    pub(super) visitor: &'a Visitor,
    pub(super) place: Place,
    /// Its heading.
    pub(super) title: &'a str,
    /// What stands beside the heading.
    pub(super) action: Option<Markup>,
    /// Why what was asked for was not done.
    pub(super) refusal: Option<&'a ApiError>,
    pub(super) content: Markup,
}

impl Page<'_> {
    /// The page as an answer, with the status of the refusal if there is one.
    pub(super) fn answer(self) -> Response {
        let status = self.refusal.map_or(StatusCode::OK, |error| error.status);
        let notice = self.visitor.take_notice(self.app);
        let main = html! {
            div.heading {
                h1 { (self.title) }
                span #live hidden {}
                @if let Some(action) = &self.action { (action) }
            }
            @if let Some(refusal) = self.refusal { (parts::refusal(&refusal.sentence())) }
            @if let Some(notice) = &notice { (said_once(notice)) }
            (self.content)
        };
        // Updates of an answer to a form that was refused come from the page that the form is on.
        let updates_from = self.refusal.map(|_| self.place.path());
        let inside = Some((self.visitor, self.place));
        let page = document(self.title, inside, updates_from, &main);
        answer(status, page, self.refusal)
    }
}

/// Stands in an answer that says itself why something was refused.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Complete;

/// Stands in an answer that leads elsewhere without anything having been done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unchanged;

/// A page for someone who has not logged in, which says that something was refused if it was.
pub(super) fn outside(
    status: StatusCode,
    title: &str,
    main: &Markup,
    refusal: Option<&ApiError>,
) -> Response {
    answer(status, document(title, None, None, main), refusal)
}

fn answer(status: StatusCode, page: Markup, refusal: Option<&ApiError>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
    let mut response = (status, kind, page.into_string()).into_response();
    if let Some(refusal) = refusal {
        // For the log.
        response.extensions_mut().insert(refusal.clone());
        response.extensions_mut().insert(Complete);
    }
    response
}

fn document(
    title: &str,
    inside: Option<(&Visitor, Place)>,
    updates_from: Option<&str>,
    main: &Markup,
) -> Markup {
    let is_live = inside.is_some();
    let version = VERSION.as_str();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { (title) " – Infisical" }
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                link rel="icon" href={ "/icon.svg?" (version) } type="image/svg+xml";
                link rel="stylesheet" href={ "/style.css?" (version) };
                script src={ "/script.js?" (version) } defer {}
            }
            body data-updates[is_live] data-page=[updates_from] {
                a.skip href="#main" { "Skip to content" }
                @if let Some((visitor, place)) = inside { (bar(visitor, place)) }
                main #main tabindex="-1" { (main) }
                @if is_live { p #announcements .unseen role="status" aria-live="polite" {} }
            }
        }
    }
}

fn bar(visitor: &Visitor, here: Place) -> Markup {
    html! {
        header.bar {
            a.brand href=(HOME) {
                img src={ "/icon.svg?" (VERSION.as_str()) } alt="" width="22" height="22";
                "Infisical"
            }
            nav aria-label="Pages" {
                ul {
                    @for place in Place::ALL {
                        @if place.is_for(visitor) {
                            li { a href=(place.path()) aria-current=[(place == here).then_some("page")] { (place.name()) } }
                        }
                    }
                }
            }
            form.who method="post" action="/logout" {
                (form_token(visitor))
                span.unseen { "Logged in as " }
                span.name title=(visitor.name) { (visitor.name) }
                button.quiet { "Log out" }
            }
        }
    }
}

/// The hidden field of every form.
pub(super) fn form_token(visitor: &Visitor) -> Markup {
    html! { input type="hidden" name=(FORM_TOKEN) value=(visitor.form_token()); }
}

fn said_once(notice: &Notice) -> Markup {
    match notice {
        Notice::Done(text) => html! {
            p.notice role="status" { (parts::icon(parts::Icon::Good)) (text) }
        },
        // Only the page that it is for shows it.
        Notice::Enrollment(_) => html! {},
        Notice::Secret(secrets) => html! {
            div.notice.secret role="status" {
                p { "This is shown once. Keep it now: only its hash is stored." }
                dl {
                    @for (name, secret) in secrets {
                        dt { (name) }
                        dd { (parts::copyable(secret.expose())) }
                    }
                }
            }
        },
    }
}

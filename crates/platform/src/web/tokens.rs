//! Enrollment tokens that were not used yet: list and withdrawal.

use std::time::SystemTime;

use axum::extract::{Path, State};
use axum::response::Response;
use maud::{Markup, html};

use super::layout::{Page, Place};
use super::parts::{self, Moment, Removal, cell, name_cell};
use super::visitor::{PageError, Submitted, Visitor};
use crate::routes::auth::Operators;
use crate::routes::{ApiError, App, admin};
use crate::store::{Enrollment, EnrollmentKind};

const COLUMNS: [&str; 4] = ["For", "Kind", "Host", "Expires"];

/// `GET /tokens`
pub(super) async fn list(State(app): State<App>, visitor: Visitor) -> Result<Response, PageError> {
    show(&app, &visitor, None).await
}

/// `POST /tokens/revoke`
pub(super) async fn revoke(
    State(app): State<App>,
    Submitted { visitor, fields }: Submitted,
) -> Result<Response, PageError> {
    let by = visitor.by::<Operators>()?;
    let kind = match fields.text("kind") {
        "relay" => EnrollmentKind::Relay,
        _ => EnrollmentKind::Gateway,
    };
    let name = fields.text("name").to_owned();
    let path = Path((kind, name.clone()));
    match admin::revoke_enrollment_tokens(State(app.clone()), by, path).await {
        Ok(_) => {
            let text = format!("The enrollment tokens for {name} were revoked.");
            Ok(visitor.done(&app, Place::Tokens, text))
        }
        Err(error) => show(&app, &visitor, Some(&error)).await,
    }
}

async fn show(
    app: &App,
    visitor: &Visitor,
    refusal: Option<&ApiError>,
) -> Result<Response, PageError> {
    visitor.by::<Operators>()?;
    let now = SystemTime::now();
    let tokens = app.store().enrollments(now).await?;
    let content = html! {
        p.lead {
            "Each lets one gateway or relay enroll, once, within an hour. "
            a href="/gateways/add" { "Add a gateway" } " makes one."
        }
        div #tokens data-live {
            @if tokens.is_empty() {
                p.empty { "No enrollment token is waiting to be used." }
            } @else {
                (parts::table("Enrollment tokens that were not used yet", &COLUMNS, tokens.iter().map(|token| row(visitor, token, now))))
            }
        }
    };
    let page = Page {
        app,
        visitor,
        place: Place::Tokens,
        title: "Enrollment tokens",
        action: None,
        refusal,
        content,
    };
    Ok(page.answer())
}

fn row(visitor: &Visitor, token: &Enrollment, now: SystemTime) -> Markup {
    let kind = match token.kind {
        EnrollmentKind::Gateway => "gateway",
        EnrollmentKind::Relay => "relay",
    };
    let what = format!("tokens for {kind} {}", token.name);
    html! {
        tr role="row" {
            (name_cell(&html! {
                span.name { (token.name) }
                (Removal {
                    visitor,
                    verb: "Revoke",
                    what: &what,
                    warning: "All tokens for this name are withdrawn.",
                    action: "/tokens/revoke",
                    fields: &[("kind", kind), ("name", &token.name)],
                })
            }))
            (cell("Kind", &html! { (kind) }))
            (cell("Host", &parts::or_nothing(token.host.as_deref())))
            (cell("Expires", &html! { (Moment { at: token.expires_at, now }) }))
        }
    }
}

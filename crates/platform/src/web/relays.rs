//! Relays: how they are, and their removal.

use std::time::SystemTime;

use axum::extract::{Path, State};
use axum::response::Response;
use maud::{Markup, html};

use super::gateways::summary;
use super::layout::{Page, Place};
use super::parts::{self, Removal, cell, name_cell};
use super::visitor::{PageError, Submitted, Visitor};
use crate::routes::auth::Operators;
use crate::routes::relays::Listed;
use crate::routes::{ApiError, App, admin};

const COLUMNS: [&str; 6] = [
    "Name",
    "State",
    "Host",
    "Version",
    "Last heartbeat",
    "Certificate",
];

/// `GET /relays`
pub(super) async fn list(State(app): State<App>, visitor: Visitor) -> Result<Response, PageError> {
    show(&app, &visitor, None).await
}

/// `POST /relays/remove`
pub(super) async fn remove(
    State(app): State<App>,
    Submitted { visitor, fields }: Submitted,
) -> Result<Response, PageError> {
    let name = fields.text("name").to_owned();
    let by = visitor.by::<Operators>()?;
    match admin::delete_relay(State(app.clone()), by, Path(name.clone())).await {
        Ok(_) => Ok(visitor.done(&app, Place::Relays, format!("Relay {name} was removed."))),
        Err(error) => show(&app, &visitor, Some(&error)).await,
    }
}

async fn show(
    app: &App,
    visitor: &Visitor,
    refusal: Option<&ApiError>,
) -> Result<Response, PageError> {
    let by = visitor.by::<Operators>()?;
    app.watch().page_loaded();
    let relays = admin::list_relays(State(app.clone()), by).await?.0;
    let now = SystemTime::now();
    let content = html! {
        div #relays data-live {
            @if relays.is_empty() {
                p.empty {
                    "There is no relay yet. On a machine that gateways and clients can reach: "
                    code { "infisical relay start" }
                }
            } @else {
                (summary(relays.iter().map(|relay| &relay.reach)))
                (parts::table("Relays by name", &COLUMNS, relays.iter().map(|relay| row(visitor, relay, now))))
            }
        }
    };
    let page = Page {
        app,
        visitor,
        place: Place::Relays,
        title: "Relays",
        action: None,
        refusal,
        content,
    };
    Ok(page.answer())
}

fn row(visitor: &Visitor, relay: &Listed, now: SystemTime) -> Markup {
    let name = relay.row.name.as_str();
    let what = format!("relay {name}");
    html! {
        tr role="row" data-key=(what) data-state=(parts::announced(relay.reach.status)) {
            (name_cell(&html! {
                span.name { (name) }
                (Removal {
                    visitor,
                    verb: "Remove",
                    what: &what,
                    warning: "Gateways choose another relay, and its host may be given to another one.",
                    action: "/relays/remove",
                    fields: &[("name", name)],
                })
            }))
            (cell("State", &parts::state(relay.reach.status)))
            (cell("Host", &html! { span.mono { (relay.row.host) } }))
            (cell("Version", &parts::or_nothing(relay.reach.program_version.as_deref())))
            (cell("Last heartbeat", &parts::moment(relay.heartbeat_at, now)))
            (cell("Certificate", &parts::expiry(relay.certificate_ends, now)))
        }
    }
}

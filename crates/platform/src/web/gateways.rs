//! Gateways: how they are, and their removal.

use std::time::SystemTime;

use axum::extract::{Path, State};
use axum::response::Response;
use maud::{Markup, html};

use super::layout::{Page, Place};
use super::parts::{self, Removal, cell, name_cell};
use super::visitor::{PageError, Submitted, Visitor};
use crate::api::types::{Reach, Status};
use crate::routes::auth::{GatewayListers, Operators};
use crate::routes::gateways::Listed;
use crate::routes::{ApiError, App, admin};

const COLUMNS: [&str; 7] = [
    "Name",
    "State",
    "Relay",
    "Sessions",
    "Version",
    "Last heartbeat",
    "Certificate",
];

/// `GET /gateways`
pub(super) async fn list(State(app): State<App>, visitor: Visitor) -> Result<Response, PageError> {
    show(&app, &visitor, None).await
}

/// `POST /gateways/remove`
pub(super) async fn remove(
    State(app): State<App>,
    Submitted { visitor, fields }: Submitted,
) -> Result<Response, PageError> {
    let name = fields.text("name").to_owned();
    let by = visitor.by::<Operators>()?;
    match admin::delete_gateway(State(app.clone()), by, Path(name.clone())).await {
        Ok(_) => {
            let text = format!("Gateway {name} was removed.");
            Ok(visitor.done(&app, Place::Gateways, text))
        }
        Err(error) => show(&app, &visitor, Some(&error)).await,
    }
}

async fn show(
    app: &App,
    visitor: &Visitor,
    refusal: Option<&ApiError>,
) -> Result<Response, PageError> {
    let by = visitor.by::<GatewayListers>()?;
    app.watch().page_loaded();
    let gateways = admin::list_gateways(State(app.clone()), by).await?.0;
    let sessions = app.open_sessions(&visitor.viewer()?).await?;
    let open = |gateway: &Listed| {
        let found = sessions.gateways.iter();
        let mut found = found.filter(|row| row.gateway_id == gateway.row.id.as_str());
        // Of others' sessions a client learns nothing, not even how many there are.
        found.next().and_then(|row| {
            let own = u64::try_from(row.sessions.len()).unwrap_or(u64::MAX);
            row.open.or_else(|| row.reported_age_seconds.map(|_| own))
        })
    };
    let now = SystemTime::now();
    let may_remove = visitor.may::<Operators>();
    let content = html! {
        div #gateways data-live {
            @if gateways.is_empty() {
                p.empty { "There is no gateway yet." }
            } @else {
                (summary(gateways.iter().map(|gateway| &gateway.reach)))
                (parts::table("Gateways by name", &COLUMNS, gateways.iter().map(|gateway| row(visitor, gateway, open(gateway), may_remove, now))))
            }
        }
    };
    let action =
        may_remove.then(|| html! { a.button.primary href="/gateways/add" { "Add a gateway" } });
    let page = Page {
        app,
        visitor,
        place: Place::Gateways,
        title: "Gateways",
        action,
        refusal,
        content,
    };
    Ok(page.answer())
}

/// How many are how.
pub(super) fn summary<'a>(all: impl Iterator<Item = &'a Reach>) -> Markup {
    let mut counts = [
        (Status::Reachable, 0),
        (Status::Unreachable, 0),
        (Status::NeverSeen, 0),
    ];
    for reach in all {
        for (status, count) in &mut counts {
            *count += usize::from(*status == reach.status);
        }
    }
    let counts = counts.into_iter().filter(|(_, count)| *count > 0);
    let texts = counts.map(|(status, count)| format!("{count} {}", parts::announced(status)));
    let texts: Vec<_> = texts.collect();
    html! { p.summary { (texts.join(", ")) } }
}

fn row(
    visitor: &Visitor,
    gateway: &Listed,
    open: Option<u64>,
    may_remove: bool,
    now: SystemTime,
) -> Markup {
    let name = gateway.row.name.as_str();
    let what = format!("gateway {name}");
    html! {
        tr role="row" data-key=(what) data-state=(parts::announced(gateway.reach.status)) {
            (name_cell(&html! {
                span.name { (name) }
                @if may_remove {
                    (Removal {
                        visitor,
                        verb: "Remove",
                        what: &what,
                        warning: "It can no longer connect, and is cut off when its certificates end.",
                        action: "/gateways/remove",
                        fields: &[("name", name)],
                    })
                }
            }))
            (cell("State", &parts::state(gateway.reach.status)))
            (cell("Relay", &parts::or_nothing(gateway.relay_name.as_deref())))
            (cell("Sessions", &parts::or_nothing(open.map(|count| count.to_string()).as_deref())))
            (cell("Version", &parts::or_nothing(gateway.reach.program_version.as_deref())))
            (cell("Last heartbeat", &parts::moment(gateway.heartbeat_at, now)))
            (cell("Certificate", &parts::expiry(gateway.certificate_ends, now)))
        }
    }
}

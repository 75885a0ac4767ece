//! Sessions: those that gateways report as open, and those that were asked for before.

use std::time::SystemTime;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use maud::{Markup, html};

use super::audit::{self, Filter};
use super::layout::{Page, Place};
use super::parts::{self, cell, name_cell};
use super::visitor::{Fields, PageError, Visitor};
use crate::api::session_reports::{OpenSessions, ReportedSession};
use crate::humanize::Count;
use crate::routes::App;
use crate::routes::auth::Administrators;

const COLUMNS: [&str; 5] = ["Who", "Target", "Gateway", "Since", "Transferred"];

/// `GET /sessions`
pub(super) async fn list(
    State(app): State<App>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, PageError> {
    let open = app.open_sessions(&visitor.viewer()?).await?;
    let past = match visitor.may::<Administrators>() {
        true => {
            let query = Fields::of_query(&uri);
            let filter = Filter::sessions(&query);
            Some(audit::sessions(&app, filter).await?)
        }
        false => None,
    };
    let content = html! {
        h2 { "Open now" }
        (table(&open))
        @if let Some(past) = past {
            h2 #past { "Asked for" }
            (past)
        }
    };
    let page = Page {
        app: &app,
        visitor: &visitor,
        place: Place::Sessions,
        title: "Sessions",
        action: None,
        refusal: None,
        content,
    };
    Ok(page.answer())
}

fn table(open: &OpenSessions) -> Markup {
    let gateways = open.gateways.iter();
    let rows: Vec<_> = gateways
        .flat_map(|gateway| {
            gateway
                .sessions
                .iter()
                .map(move |session| (gateway, session))
        })
        .collect();
    let all: u64 = open
        .gateways
        .iter()
        .filter_map(|gateway| gateway.open)
        // The numbers are the gateways' own.
        .fold(0, u64::saturating_add);
    let unlisted = all.saturating_sub(u64::try_from(rows.len()).unwrap_or(u64::MAX));
    let now = SystemTime::now();
    html! {
        div #open data-live {
            @if rows.is_empty() {
                p.empty { "No session is open, as far as gateways have reported." }
            } @else {
                (parts::table("Open sessions by gateway, the newest first", &COLUMNS, rows.iter().map(|(gateway, session)| row(&gateway.gateway_name, session, now))))
            }
            @if unlisted > 0 {
                p.hint { "And " (Count(usize::try_from(unlisted).unwrap_or(usize::MAX), "more session").to_string()) "." }
            }
        }
    }
}

fn row(gateway: &str, session: &ReportedSession, now: SystemTime) -> Markup {
    let who = session
        .actor_name
        .as_deref()
        .or(session.actor_id.as_deref());
    html! {
        tr role="row" data-key={ "session " (session.id) " of " (gateway) } {
            (name_cell(&parts::or_nothing(who.or(session.actor_type.as_deref()))))
            (cell("Target", &html! { span.mono { (parts::or_nothing(session.target.as_deref())) } }))
            (cell("Gateway", &html! { (gateway) }))
            (cell("Since", &parts::written_moment(&session.since, now)))
            (cell("Transferred", &html! {
                (Bytes(session.bytes_to_target).to_string()) " sent, "
                (Bytes(session.bytes_from_target).to_string()) " received"
            }))
        }
    }
}

/// A number of bytes, in its largest unit.
struct Bytes(u64);

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let units = ["B", "KiB", "MiB", "GiB", "TiB"];
        let mut value = self.0;
        let mut units = units.into_iter();
        let mut unit = units.next().unwrap_or_default();
        for larger in units {
            if value < 10 * 1024 {
                break;
            }
            value /= 1024;
            unit = larger;
        }
        write!(f, "{value} {unit}")
    }
}

//! The record: who did what, and what became of it; and of it the sessions that were asked for.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use maud::{Markup, html};

use super::layout::{Page, Place};
use super::parts::{self, Icon, Moment, cell, name_cell};
use super::visitor::{Fields, PageError, Visitor};
use crate::routes::App;
use crate::routes::auth::Administrators;
use crate::store::{Action, AuditEntry, AuditKind};

/// Entries of one page.
const PAGE: u32 = 50;
const COLUMNS: [&str; 5] = ["When", "Who", "What", "Result", "From"];
const SESSION_COLUMNS: [&str; 5] = ["When", "Who", "Target", "Gateway", "Result"];

/// Which entries are shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filter {
    kind: Option<AuditKind>,
    /// Those with a lower number.
    before: Option<i64>,
}

impl Filter {
    fn parse(query: &Fields) -> Self {
        Self {
            kind: AuditKind::parse(query.text("kind")),
            before: query.text("before").parse().ok(),
        }
    }

    /// Sessions that were asked for.
    pub(super) fn sessions(query: &Fields) -> Self {
        Self {
            kind: Some(AuditKind::Session),
            ..Self::parse(query)
        }
    }

    async fn find(self, app: &App) -> Result<Vec<AuditEntry>, PageError> {
        let before = self.before.unwrap_or(i64::MAX);
        Ok(app.store().newest_audit(self.kind, before, PAGE).await?)
    }

    /// Leads to the newest entries, and to those before `entries`.
    fn paging(self, place: &str, fragment: &str, entries: &[AuditEntry]) -> Markup {
        let is_full = entries.len() >= usize::try_from(PAGE).unwrap_or(usize::MAX);
        let last = entries.last().filter(|_| is_full);
        let kind = self.kind.map_or("", AuditKind::as_str);
        html! {
            @if self.before.is_some() || last.is_some() {
                nav.paging aria-label="Pages of entries" {
                    @if self.before.is_some() {
                        a.button.quiet href={ (place) "?kind=" (kind) (fragment) } { "Newest" }
                    }
                    @if let Some(last) = last {
                        a.button.quiet href={ (place) "?kind=" (kind) "&before=" (last.number) (fragment) } { "Older" }
                    }
                }
            }
        }
    }
}

/// `GET /audit`
pub(super) async fn list(
    State(app): State<App>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, PageError> {
    visitor.by::<Administrators>()?;
    let filter = Filter::parse(&Fields::of_query(&uri));
    let entries = filter.find(&app).await?;
    let now = SystemTime::now();
    let content = html! {
        (kinds(filter))
        div #entries data-live[filter.before.is_none()] {
            @if entries.is_empty() {
                p.empty { "There is no such entry." }
            } @else {
                (parts::table("Entries of the record, the newest first", &COLUMNS, entries.iter().map(|entry| row(entry, now))))
            }
        }
        (filter.paging("/audit", "", &entries))
        p.hint { code { "infisical platform audit verify" } " shows whether entries are as they were written." }
    };
    let page = Page {
        app: &app,
        visitor: &visitor,
        place: Place::Audit,
        title: "Audit",
        action: None,
        refusal: None,
        content,
    };
    Ok(page.answer())
}

/// Sessions that were asked for, and what became of the request.
pub(super) async fn sessions(app: &App, filter: Filter) -> Result<Markup, PageError> {
    let entries = filter.find(app).await?;
    let now = SystemTime::now();
    Ok(html! {
        div #asked data-live[filter.before.is_none()] {
            @if entries.is_empty() {
                p.empty { "No session was asked for." }
            } @else {
                (parts::table(
                    "Sessions that were asked for, the newest first",
                    &SESSION_COLUMNS,
                    entries.iter().map(|entry| session_row(entry, now)),
                ))
            }
        }
        (filter.paging("/sessions", "#past", &entries))
    })
}

fn kinds(filter: Filter) -> Markup {
    let all = [("all", None)].into_iter();
    let kinds = AuditKind::ALL.map(|kind| (kind.as_str(), Some(kind)));
    html! {
        nav.filter aria-label="Kinds of entries" {
            @for (name, kind) in all.chain(kinds) {
                a href={ "/audit?kind=" (kind.map_or("", AuditKind::as_str)) }
                    aria-current=[(kind == filter.kind).then_some("true")] { (name) }
            }
        }
    }
}

fn row(entry: &AuditEntry, now: SystemTime) -> Markup {
    html! {
        tr role="row" {
            (name_cell(&when(entry, now)))
            (cell("Who", &html! { (actor(entry)) }))
            (cell("What", &html! {
                div {
                    (entry.action.replace('-', " "))
                    @if let Some(subject) = subject(entry) { " " strong { (subject) } }
                    @if let Some(details) = &entry.details { span.detail { (details) } }
                }
            }))
            (cell("Result", &result(entry)))
            (cell("From", &html! { span.mono { (parts::or_nothing(entry.source.as_deref())) } }))
        }
    }
}

fn session_row(entry: &AuditEntry, now: SystemTime) -> Markup {
    html! {
        tr role="row" {
            (name_cell(&when(entry, now)))
            (cell("Who", &html! { (actor(entry)) }))
            (cell("Target", &html! { span.mono { (parts::or_nothing(entry.details.as_deref())) } }))
            (cell("Gateway", &parts::or_nothing(entry.subject_name.as_deref())))
            (cell("Result", &result(entry)))
        }
    }
}

fn when(entry: &AuditEntry, now: SystemTime) -> Markup {
    let at = Duration::from_millis(u64::try_from(entry.at).unwrap_or(0));
    let at = UNIX_EPOCH.checked_add(at).unwrap_or(UNIX_EPOCH);
    html! { (Moment { at, now }) span.detail { "no. " (entry.number) } }
}

fn actor(entry: &AuditEntry) -> &str {
    let name = entry.actor_name.as_deref().or(entry.actor_id.as_deref());
    name.unwrap_or(&entry.actor_kind)
}

fn subject(entry: &AuditEntry) -> Option<String> {
    let kind = entry.subject_kind.as_deref()?.replace('-', " ");
    let name = entry
        .subject_name
        .as_deref()
        .or(entry.subject_id.as_deref());
    Some(match name {
        Some(name) => format!("{kind} {name}"),
        None => kind,
    })
}

fn result(entry: &AuditEntry) -> Markup {
    html! {
        div {
            @match &entry.refusal_class {
                None => span.state.good { (parts::icon(Icon::Good)) "Done" },
                Some(_) => span.state.bad { (parts::icon(Icon::Bad)) "Refused" },
            }
            @if let Some(reason) = &entry.refusal_reason { span.detail { (reason) } }
            @if entry.left_out > 0 && entry.action != Action::CountLogins.as_str() {
                span.detail { (entry.left_out) " refusals before it are not on record" }
            }
        }
    }
}

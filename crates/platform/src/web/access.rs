//! Access rules: list, add, remove, and what would become of a request.

use std::time::SystemTime;

use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::Response;
use maud::{Markup, html};

use super::layout::{Page, Place, form_token};
use super::parts::{self, Icon, Removal, cell, name_cell};
use super::visitor::{Fields, PageError, Submitted, Visitor};
use crate::api::access::{
    AccessRule, AccessVerdict, AllowAccess, CheckAccess, EVERY_GATEWAY, Outcome,
};
use crate::routes::auth::Administrators;
use crate::routes::body::Json;
use crate::routes::{ApiError, App, access};

const COLUMNS: [&str; 5] = ["Who", "Target", "Gateway", "Number", "Added"];

/// `GET /access`; with a query, what would become of such a request.
pub(super) async fn list(
    State(app): State<App>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, PageError> {
    let query = Fields::of_query(&uri);
    let nothing = Fields::default();
    match query.text("who").is_empty() {
        true => show(&app, &visitor, (&nothing, &query), None, None).await,
        false => match check(&app, &visitor, &query).await {
            Ok(verdict) => show(&app, &visitor, (&nothing, &query), Some(&verdict), None).await,
            Err(error) => show(&app, &visitor, (&nothing, &query), None, Some(&error)).await,
        },
    }
}

/// `POST /access/add`
pub(super) async fn add(
    State(app): State<App>,
    Submitted { visitor, fields }: Submitted,
) -> Result<Response, PageError> {
    let by = visitor.by::<Administrators>()?;
    let request = AllowAccess {
        who: fields.text("who").to_owned(),
        gateway: fields.text("gateway").to_owned(),
        targets: fields.words("targets"),
    };
    match access::allow(State(app.clone()), by, Json(request)).await {
        Ok(rules) => {
            let numbers: Vec<_> = rules.0.iter().map(|rule| rule.number.to_string()).collect();
            let text = match numbers.as_slice() {
                [number] => format!("Access rule {number} is in effect."),
                numbers => format!("Access rules {} are in effect.", numbers.join(", ")),
            };
            Ok(visitor.done(&app, Place::AccessRules, text))
        }
        Err(error) => {
            let checked = Fields::default();
            show(&app, &visitor, (&fields, &checked), None, Some(&error)).await
        }
    }
}

/// `POST /access/remove`
pub(super) async fn remove(
    State(app): State<App>,
    Submitted { visitor, fields }: Submitted,
) -> Result<Response, PageError> {
    let by = visitor.by::<Administrators>()?;
    let number = fields.text("number").parse().unwrap_or(0);
    match access::remove(State(app.clone()), by, Path(number)).await {
        Ok(_) => {
            let text = format!("Access rule {number} was removed. Sessions that are open go on.");
            Ok(visitor.done(&app, Place::AccessRules, text))
        }
        Err(error) => {
            let nothing = Fields::default();
            show(&app, &visitor, (&nothing, &nothing), None, Some(&error)).await
        }
    }
}

async fn check(app: &App, visitor: &Visitor, query: &Fields) -> Result<AccessVerdict, ApiError> {
    let port = query.text("port").parse();
    let request = CheckAccess {
        who: query.text("who").to_owned(),
        gateway: query.text("gateway").to_owned(),
        target_host: query.text("host").to_owned(),
        target_port: port.map_err(|_| ApiError::invalid(&["port"], "use a number up to 65535"))?,
    };
    let by = visitor.by::<Administrators>()?;
    let verdict = access::check(State(app.clone()), by, Json(request)).await?;
    Ok(verdict.0)
}

async fn show(
    app: &App,
    visitor: &Visitor,
    (added, checked): (&Fields, &Fields),
    verdict: Option<&AccessVerdict>,
    refusal: Option<&ApiError>,
) -> Result<Response, PageError> {
    let by = visitor.by::<Administrators>()?;
    let rules = access::list(State(app.clone()), by).await?.0;
    let names = names(app).await?;
    let content = html! {
        p.lead { "A client reaches what a rule allows, and nothing else. Administrators reach everything." }
        (table(visitor, &rules))
        (addition(visitor, added))
        (question(checked, verdict))
        (names)
    };
    let page = Page {
        app,
        visitor,
        place: Place::AccessRules,
        title: "Access rules",
        action: None,
        refusal,
        content,
    };
    Ok(page.answer())
}

/// What the fields of the forms suggest.
async fn names(app: &App) -> Result<Markup, PageError> {
    let gateways = app.store().gateways().await?;
    let identities = app.store().identities().await?;
    Ok(html! {
        datalist #gateway-names {
            option value=(EVERY_GATEWAY) { "every gateway" }
            @for gateway in &gateways { option value=(gateway.name) {} }
        }
        datalist #identity-names {
            @for identity in &identities { option value=(identity.name) {} }
        }
    })
}

fn table(visitor: &Visitor, rules: &[AccessRule]) -> Markup {
    let now = SystemTime::now();
    html! {
        div #rules data-live {
            @if rules.is_empty() {
                p.empty { "There is no rule: clients reach nothing." }
            } @else {
                (parts::table("Access rules by number", &COLUMNS, rules.iter().map(|rule| row(visitor, rule, now))))
            }
        }
    }
}

fn row(visitor: &Visitor, rule: &AccessRule, now: SystemTime) -> Markup {
    let number = rule.number.to_string();
    let what = format!("rule {number}");
    html! {
        tr role="row" data-key=(what) {
            (name_cell(&html! {
                span.name { (rule.who) }
                (Removal {
                    visitor,
                    verb: "Remove",
                    what: &what,
                    warning: "Certificates that were issued by it are valid for up to five minutes.",
                    action: "/access/remove",
                    fields: &[("number", &number)],
                })
            }))
            (cell("Target", &html! { span.mono { (rule.target) } }))
            (cell("Gateway", &html! {
                @if rule.gateway == EVERY_GATEWAY { "every gateway" } @else { (rule.gateway) }
            }))
            (cell("Number", &html! { (number) }))
            (cell("Added", &parts::written_moment(&rule.created_at, now)))
        }
    }
}

fn addition(visitor: &Visitor, kept: &Fields) -> Markup {
    html! {
        form.panel method="post" action="/access/add" {
            h2 { "Add a rule" }
            (form_token(visitor))
            div.fields {
                div {
                    label for="add-who" { "Who" }
                    input #add-who type="text" name="who" value=(kept.text("who")) required
                        list="identity-names" autocomplete="off" aria-describedby="add-who-hint";
                    p.hint #add-who-hint { "An identity, or " code { "group:dba" } }
                }
                div {
                    label for="add-gateway" { "Gateway" }
                    input #add-gateway type="text" name="gateway" value=(kept.text("gateway")) required
                        list="gateway-names" autocomplete="off" aria-describedby="add-gateway-hint";
                    p.hint #add-gateway-hint { "Its name, or " code { "*" } " for every one" }
                }
                div {
                    label for="add-targets" { "Targets" }
                    input #add-targets type="text" name="targets" value=(kept.text("targets")) required
                        autocomplete="off" spellcheck="false" aria-describedby="add-targets-hint";
                    p.hint #add-targets-hint {
                        code { "db.internal:5432" } " " code { "10.0.0.0/16:443" } " " code { "*.internal" }
                    }
                }
            }
            button.primary { "Add the rule" }
        }
    }
}

fn question(kept: &Fields, verdict: Option<&AccessVerdict>) -> Markup {
    html! {
        form.panel method="get" action="/access" {
            h2 { "Check" }
            p.hint { "Would this request be granted, and by which rule?" }
            div.fields {
                div {
                    label for="check-who" { "Identity" }
                    input #check-who type="text" name="who" value=(kept.text("who")) required
                        list="identity-names" autocomplete="off";
                }
                div {
                    label for="check-gateway" { "Gateway" }
                    input #check-gateway type="text" name="gateway" value=(kept.text("gateway")) required
                        list="gateway-names" autocomplete="off";
                }
                div {
                    label for="check-host" { "Host" }
                    input #check-host type="text" name="host" value=(kept.text("host")) required
                        autocomplete="off" spellcheck="false";
                }
                div {
                    label for="check-port" { "Port" }
                    input #check-port type="number" name="port" value=(kept.text("port")) required
                        min="1" max="65535";
                }
            }
            button { "Check" }
            @if let Some(verdict) = verdict { (answer(verdict)) }
        }
    }
}

fn answer(verdict: &AccessVerdict) -> Markup {
    let (class, icon, text) = match verdict.outcome {
        Outcome::Allowed => ("good", Icon::Good, "Allowed"),
        Outcome::GatewayDecides => ("waiting", Icon::Waiting, "The gateway decides"),
        Outcome::Denied => ("bad", Icon::Bad, "Denied"),
    };
    html! {
        div.verdict role="status" {
            span.state.(class) { (parts::icon(icon)) (text) }
            p { (verdict.reason) "." }
        }
    }
}

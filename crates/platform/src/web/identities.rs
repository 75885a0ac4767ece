//! Identities: list, create with a secret that is shown once, groups, removal.

use std::time::SystemTime;

use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};
use serde_json::Value;

use super::layout::{Page, Place, form_token};
use super::parts::{self, Removal, cell, name_cell};
use super::session::Notice;
use super::visitor::{Fields, PageError, Submitted, Visitor};
use crate::api::access::SetGroups;
use crate::api::types::Identity;
use crate::routes::auth::Administrators;
use crate::routes::body::Json;
use crate::routes::{ApiError, App, access, admin};
use crate::secret::Secret;
use crate::store::Role;

const COLUMNS: [&str; 5] = ["Name", "Roles", "Groups", "Logs in with", "Created"];

/// `GET /identities`
pub(super) async fn list(State(app): State<App>, visitor: Visitor) -> Result<Response, PageError> {
    show(&app, &visitor, &Fields::parse(b"role=client"), None).await
}

/// `POST /identities/create`
pub(super) async fn create(
    State(app): State<App>,
    Submitted { visitor, fields }: Submitted,
) -> Result<Response, PageError> {
    let by = visitor.by::<Administrators>()?;
    let request = admin::CreateIdentity {
        name: fields.text("name").to_owned(),
        method: match fields.text("method") {
            "universal-auth" => admin::Method::UniversalAuth,
            _ => admin::Method::Token,
        },
        roles: fields.all("role").into_iter().map(str::to_owned).collect(),
        groups: fields.words("groups"),
        person: None,
    };
    match admin::create_identity(State(app.clone()), by, Json(request)).await {
        Ok(created) => {
            let text = |field| {
                created
                    .0
                    .get(field)
                    .and_then(Value::as_str)
                    .map(Secret::new)
            };
            let secrets = [
                ("Client id", text("clientId")),
                ("Client secret", text("clientSecret")),
                ("Access token", text("accessToken")),
            ];
            let secrets = secrets.into_iter();
            let secrets = secrets.filter_map(|(name, secret)| Some((name, secret?)));
            let notice = Notice::Secret(secrets.collect());
            app.web().sessions.set_notice(&visitor.cookie, notice);
            Ok(Redirect::to(Place::Identities.path()).into_response())
        }
        Err(error) => show(&app, &visitor, &fields, Some(&error)).await,
    }
}

/// `POST /identities/groups`
pub(super) async fn set_groups(
    State(app): State<App>,
    Submitted { visitor, fields }: Submitted,
) -> Result<Response, PageError> {
    let by = visitor.by::<Administrators>()?;
    let request = SetGroups {
        identity: fields.text("id").to_owned(),
        groups: fields.words("groups"),
    };
    match access::set_groups(State(app.clone()), by, Json(request)).await {
        Ok(_) => Ok(visitor.done(
            &app,
            Place::Identities,
            "The groups were changed.".to_owned(),
        )),
        Err(error) => show(&app, &visitor, &Fields::default(), Some(&error)).await,
    }
}

/// `POST /identities/remove`
pub(super) async fn remove(
    State(app): State<App>,
    Submitted { visitor, fields }: Submitted,
) -> Result<Response, PageError> {
    let by = visitor.by::<Administrators>()?;
    let id = fields.text("id").to_owned();
    match admin::delete_identity(State(app.clone()), by, Path(id)).await {
        Ok(_) => {
            let text = "The identity, its tokens, gateways and relays were removed.".to_owned();
            Ok(visitor.done(&app, Place::Identities, text))
        }
        Err(error) => show(&app, &visitor, &Fields::default(), Some(&error)).await,
    }
}

async fn show(
    app: &App,
    visitor: &Visitor,
    kept: &Fields,
    refusal: Option<&ApiError>,
) -> Result<Response, PageError> {
    let by = visitor.by::<Administrators>()?;
    let identities = admin::identities(State(app.clone()), by).await?.0;
    let now = SystemTime::now();
    let content = html! {
        p.lead { "Gateways, relays, programs and people that ask this platform for something." }
        div #identities data-live {
            @if identities.is_empty() {
                p.empty { "There is no identity yet." }
            } @else {
                (parts::table("Identities by name", &COLUMNS, identities.iter().map(|identity| row(visitor, identity, now))))
            }
        }
        (creation(visitor, kept))
    };
    let page = Page {
        app,
        visitor,
        place: Place::Identities,
        title: "Identities",
        action: None,
        refusal,
        content,
    };
    Ok(page.answer())
}

fn row(visitor: &Visitor, identity: &Identity, now: SystemTime) -> Markup {
    let Identity {
        id,
        name,
        roles,
        groups,
        client_id,
        person,
        created_at,
    } = identity;
    let what = format!("identity {name}");
    html! {
        tr role="row" data-key={ "identity " (id) } {
            (name_cell(&html! {
                span.name { (name) }
                span.detail.mono { (id) }
                (Removal {
                    visitor,
                    verb: "Remove",
                    what: &what,
                    warning: "Its tokens, and the gateways and relays that it registered, are removed too.",
                    action: "/identities/remove",
                    fields: &[("id", id)],
                })
            }))
            (cell("Roles", &tags(roles)))
            (cell("Groups", &html! {
                div {
                    (tags(groups))
                    details.more {
                        summary { "Change" span.unseen { " the groups of " (name) } }
                        form method="post" action="/identities/groups" {
                            (form_token(visitor))
                            input type="hidden" name="id" value=(id);
                            label for={ "groups-" (id) } { "Groups" }
                            input id={ "groups-" (id) } type="text" name="groups" value=(groups.join(" "))
                                autocomplete="off" spellcheck="false";
                            button { "Save" }
                        }
                    }
                }
            }))
            (cell("Logs in with", &html! {
                @match (person, client_id) {
                    (Some(person), _) => { div { "OpenID provider" span.detail { (person) } } }
                    (None, Some(client_id)) => { div { "client id" span.detail.mono { (client_id) } } }
                    (None, None) => "access token",
                }
            }))
            (cell("Created", &parts::written_moment(created_at, now)))
        }
    }
}

fn tags(words: &[String]) -> Markup {
    html! {
        div {
            @if words.is_empty() { (parts::nothing()) }
            @for word in words { span.tag { (word) } }
        }
    }
}

fn creation(visitor: &Visitor, kept: &Fields) -> Markup {
    let has_role = |role: Role| kept.all("role").contains(&role.as_str());
    let is_universal = kept.text("method") == "universal-auth";
    html! {
        form.panel method="post" action="/identities/create" {
            h2 { "Create an identity" }
            (form_token(visitor))
            div.fields {
                div {
                    label for="name" { "Name" }
                    input #name type="text" name="name" value=(kept.text("name")) required maxlength="64"
                        autocomplete="off" spellcheck="false";
                }
                div {
                    label for="groups" { "Groups" }
                    input #groups type="text" name="groups" value=(kept.text("groups")) autocomplete="off"
                        spellcheck="false" aria-describedby="groups-hint";
                    p.hint #groups-hint { "None, or several: " code { "dba oncall" } }
                }
                div {
                    label for="method" { "Logs in with" }
                    select #method name="method" {
                        option value="token" { "Access token" }
                        option value="universal-auth" selected[is_universal] { "Client id and secret" }
                    }
                }
            }
            fieldset {
                legend { "Roles" }
                div.choices {
                    @for role in Role::ALL {
                        label {
                            input type="checkbox" name="role" value=(role.as_str()) checked[has_role(role)];
                            (role.as_str())
                        }
                    }
                }
            }
            button.primary { "Create the identity" }
        }
    }
}

//! "Add a gateway": its name, the command that installs it, and whether it has arrived.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};
use url::form_urlencoded;

use super::layout::{HOME, Page, Place, form_token};
use super::parts::{self, Icon};
use super::session::Notice;
use super::visitor::{Fields, PageError, Submitted, Visitor};
use crate::api::types::Status;
use crate::names::GatewayName;
use crate::routes::auth::{GatewayListers, Operators};
use crate::routes::body::Json;
use crate::routes::gateways::Listed;
use crate::routes::{ApiError, App, admin};
use crate::secret::Secret;

/// `GET /gateways/add`: the form; with a name, what to do and whether that gateway has arrived.
pub(super) async fn page(
    State(app): State<App>,
    visitor: Visitor,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    visitor.by::<Operators>()?;
    let query = Fields::of_query(&uri);
    let name = query.text("name");
    if name.is_empty() {
        return Ok(show(&app, &visitor, form(&visitor, ""), None));
    }
    let by = visitor.by::<GatewayListers>()?;
    let gateways = admin::list_gateways(State(app.clone()), by).await?.0;
    let gateway = gateways.iter().find(|row| row.row.name.as_str() == name);
    let token = match visitor.take_notice(&app) {
        Some(Notice::Enrollment(token)) => Some(token),
        Some(Notice::Done(_) | Notice::Secret(_)) | None => None,
    };
    let domain = app.web().domain(&headers);
    let content = html! {
        (instructions(name, &domain, token.as_ref()))
        (arrival(name, gateway))
    };
    Ok(show(&app, &visitor, content, None))
}

/// `POST /gateways/add`
pub(super) async fn create(
    State(app): State<App>,
    Submitted { visitor, fields }: Submitted,
) -> Result<Response, PageError> {
    let by = visitor.by::<Operators>()?;
    let text = fields.text("name");
    let created = match GatewayName::try_new(text.to_owned()) {
        Ok(name) => {
            let request = admin::CreateEnrollmentToken::Gateway { name };
            admin::create_enrollment_token(State(app.clone()), by, Json(request)).await
        }
        Err(error) => Err(ApiError::invalid(&["name"], &error.to_string())),
    };
    match created {
        Ok(created) => {
            let token = created.0.get("token").and_then(|token| token.as_str());
            let notice = Notice::Enrollment(Secret::new(token.unwrap_or_default()));
            app.web().sessions.set_notice(&visitor.cookie, notice);
            let name: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
            Ok(Redirect::to(&format!("/gateways/add?name={name}")).into_response())
        }
        Err(error) => Ok(show(&app, &visitor, form(&visitor, text), Some(&error))),
    }
}

fn show(app: &App, visitor: &Visitor, content: Markup, refusal: Option<&ApiError>) -> Response {
    let page = Page {
        app,
        visitor,
        place: Place::Gateways,
        title: "Add a gateway",
        action: None,
        refusal,
        content,
    };
    page.answer()
}

fn form(visitor: &Visitor, name: &str) -> Markup {
    html! {
        p.lead {
            "A gateway runs on a machine of your private network, dials out, and lets clients reach "
            "what access rules allow."
        }
        form.panel method="post" action="/gateways/add" {
            (form_token(visitor))
            label for="name" { "Name of the gateway" }
            input #name type="text" name="name" value=(name) required maxlength="64" autofocus
                autocomplete="off" autocapitalize="none" spellcheck="false" aria-describedby="name-hint";
            p.hint #name-hint { "What clients call it, such as the network that it is in: " code { "office" } }
            button.primary { "Make the install command" }
        }
    }
}

/// What to run, as the README has it.
fn instructions(name: &str, domain: &str, token: Option<&Secret>) -> Markup {
    let Some(token) = token else {
        return html! {
            p.lead {
                "The install command for " strong { (name) } " was shown once. If it is lost, "
                a href="/gateways/add" { "make another one" } "; "
                a href="/tokens" { "Tokens" } " withdraws the lost one."
            }
        };
    };
    let token = token.expose();
    let keep = format!("(umask 077; echo {token} >enrollment-token)");
    let install = format!(
        "sudo infisical gateway systemd install --domain {domain} --enroll-method=token \
         --token-file enrollment-token --user"
    );
    let by_hand = format!(
        "infisical gateway start {name} --domain {domain} --enroll-method=token --token-file enrollment-token"
    );
    html! {
        p.lead {
            "Install the program on a machine that reaches the services, and run this there within an hour. "
            "The token in it works once, and is shown once."
        }
        (parts::copyable(&format!("{keep}\n{install}")))
        details.more {
            summary { "Without a service, in a terminal" }
            (parts::copyable(&format!("{keep}\n{by_hand}")))
        }
    }
}

/// Whether it is there. The script keeps this up to date.
fn arrival(name: &str, gateway: Option<&Listed>) -> Markup {
    let (class, icon, state, text) = match gateway.map(|gateway| gateway.reach.status) {
        None => ("waiting", Icon::Waiting, "", "Waiting for it to enroll"),
        Some(Status::NeverSeen) => (
            "waiting",
            Icon::Waiting,
            "enrolled",
            "It has enrolled. Waiting until it can be reached",
        ),
        Some(Status::Reachable) => (
            "good",
            Icon::Good,
            "reachable",
            "It has arrived, and can be reached",
        ),
        Some(Status::Unreachable) => (
            "bad",
            Icon::Bad,
            "unreachable",
            "It has enrolled, but cannot be reached",
        ),
    };
    html! {
        h2 { "Has " (name) " arrived?" }
        div #arrival data-live {
            p.arrival.(class) data-key={ "gateway " (name) } data-state=(state) {
                (parts::icon(icon)) strong { (text) }
            }
            p { a href=(HOME) { "All gateways" } }
        }
    }
}

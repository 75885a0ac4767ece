//! Errors as browsers show them.

use axum::http::StatusCode;
use axum::response::Response;
use maud::html;

use super::layout::{HOME, outside};
use crate::routes::ApiError;

/// The page for an error of the request `id`.
pub(crate) fn error_page(error: &ApiError, id: &str) -> Response {
    let title = match error.status {
        StatusCode::NOT_FOUND => "There is no such page",
        StatusCode::FORBIDDEN => "Not permitted",
        StatusCode::TOO_MANY_REQUESTS => "Too many attempts",
        status if status.is_server_error() => "The platform failed",
        _ => "This did not work",
    };
    let main = html! {
        div.alone {
            h1 { (title) }
            p { (error.sentence()) }
            p.hint { "Request " code { (id) } }
            p { a href=(HOME) { "Back to the gateways" } }
        }
    };
    outside(error.status, title, &main, None)
}

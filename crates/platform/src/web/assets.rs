//! The style, the script and the icon of the pages. They are the same for everyone, and are part of
//! the program.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::routes::App;
use crate::store::hex;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
const ICON: &str = include_str!("icon.svg");

/// Their addresses change with their content, so that a browser may keep them.
const CACHE: &str = "public, max-age=86400, immutable";

/// Names this version of the style and the script.
pub(super) static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut context = digest::Context::new(&digest::SHA256);
    for text in [STYLE, SCRIPT, ICON] {
        context.update(text.as_bytes());
    }
    let mut version = hex(context.finish().as_ref());
    version.truncate(16);
    version
});

pub(super) fn router() -> Router<App> {
    Router::new()
        .route(
            "/style.css",
            get(async || asset(STYLE, "text/css; charset=utf-8")),
        )
        .route(
            "/script.js",
            get(async || asset(SCRIPT, "text/javascript; charset=utf-8")),
        )
        .route("/icon.svg", get(async || asset(ICON, "image/svg+xml")))
}

fn asset(text: &'static str, kind: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static(CACHE)),
    ];
    (headers, text).into_response()
}

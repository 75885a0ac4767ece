//! Words for errors of the HTTP libraries.

#[cfg(feature = "http")]
use std::error::Error as _;

use super::explain::Level;

/// For errors of the HTTP client.
#[cfg(feature = "http")]
pub(super) fn client(error: &reqwest::Error) -> Level {
    if error.is_timeout() {
        return Level::Last("no answer in time".to_owned());
    }
    let source = error.source();
    // Where an answer did not all come, the library may say that it cannot be decoded, too.
    let is_cut = source.is_some_and(|source| source.is::<hyper::Error>());
    if error.is_decode() && source.is_some_and(is_body) {
        return Level::Silent;
    }
    let text = if error.is_builder() {
        "the request cannot be built"
    } else if error.is_redirect() {
        "the redirect cannot be followed"
    } else if error.is_body() || (error.is_decode() && is_cut) {
        "the answer broke off"
    } else if error.is_decode() {
        "the answer cannot be decoded"
    } else if error.source().is_some() {
        // "error sending request": the levels below say why.
        return Level::Silent;
    } else {
        "the request failed"
    };
    Level::Text(text.to_owned())
}

#[cfg(feature = "http")]
fn is_body(error: &(dyn std::error::Error + 'static)) -> bool {
    let error: Option<&reqwest::Error> = error.downcast_ref();
    error.is_some_and(reqwest::Error::is_body)
}

/// For errors of one HTTP connection.
#[cfg(feature = "http")]
pub(super) fn connection(error: &hyper::Error) -> Level {
    let text = if error.is_parse_too_large() {
        "the head of the message is too long"
    } else if error.is_parse_status() {
        "the answer has no valid HTTP status"
    } else if error.is_parse() {
        "the other side does not speak plain HTTP"
    } else if error.is_incomplete_message() {
        "the other side closed the connection before the message was complete"
    } else if error.is_timeout() {
        "no message in time"
    } else if error.is_canceled() || error.is_closed() {
        "the connection was closed"
    } else if error.is_body_write_aborted() {
        "the body of the message broke off"
    } else if error.source().is_some() {
        return Level::Silent;
    } else {
        "the HTTP connection failed"
    };
    Level::Text(text.to_owned())
}

/// For levels of the HTTP client whose types are not public: they name its parts only.
pub(super) fn connector_text(text: &str) -> Option<Level> {
    let is_silent = matches!(
        text,
        "tcp connect error"
            | "tcp open error"
            | "dns error"
            | "error resolving DNS"
            | "tunnel error: failed to create underlying connection"
            | "tunnel error: io error establishing tunnel"
    );
    if is_silent {
        return Some(Level::Silent);
    }
    if let Some(reason) = text.strip_prefix("failed to lookup address information: ") {
        let reason = reason.to_lowercase();
        return Some(Level::Last(format!(
            "the name cannot be resolved: {reason}"
        )));
    }
    let text = match text {
        "end of file before message length reached" => "it is shorter than its Content-Length",
        "unexpected EOF during chunk size line" => "its last chunk did not come",
        "tunnel error: proxy authorization required" => {
            "the proxy wants a user name and a password, or refuses those that it was given (407); \
             put them into its URL: http://USER:PASSWORD@HOST:PORT"
        }
        "tunnel error: unsuccessful" => "the proxy refused the connection",
        "tunnel error: unexpected end of file" => "the proxy closed the connection",
        "tunnel error: proxy response headers too long" => "the proxy's answer is not HTTP",
        _ => return None,
    };
    Some(Level::Last(text.to_owned()))
}

#[cfg(feature = "http")]
#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;

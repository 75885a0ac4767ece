//! Words for errors of the HTTP libraries.

use std::error::Error as _;

use super::explain::Level;

/// For errors of the HTTP client.
pub(super) fn client(error: &reqwest::Error) -> Level {
    if error.is_timeout() {
        return Level::Last("no answer in time".to_owned());
    }
    let text = if error.is_builder() {
        "the request cannot be built"
    } else if error.is_redirect() {
        "the redirect cannot be followed"
    } else if error.is_decode() {
        "the answer cannot be decoded"
    } else if error.is_body() {
        "the answer broke off"
    } else if error.source().is_some() {
        // "error sending request": the levels below say why.
        return Level::Silent;
    } else {
        "the request failed"
    };
    Level::Text(text.to_owned())
}

/// For errors of one HTTP connection.
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
    let is_silent = text.starts_with("client error (")
        || matches!(
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
        "operation timed out" | "deadline has elapsed" => "no answer in time",
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

#[cfg(test)]
mod tests {
    use std::io;

    use super::super::chain;

    #[test]
    fn parts_of_the_client_are_silent_or_sentences() {
        for (text, words) in [
            (
                "failed to lookup address information: Name or service not known",
                "the name cannot be resolved: name or service not known",
            ),
            ("deadline has elapsed", "no answer in time"),
            (
                "tunnel error: unsuccessful",
                "the proxy refused the connection",
            ),
            ("error resolving DNS", ""),
            ("client error (Connect)", ""),
            ("anything else", "anything else"),
        ] {
            assert_eq!(chain(&io::Error::other(text)).to_string(), words);
        }
    }
}

//! Errors of the platform's API, and what each means (protocol.md §1).

use std::error::Error as StdError;
use std::io;
use std::time::{Duration, SystemTime};

use reqwest::StatusCode;
use rustls::CertificateError;

use super::types::ErrorBody;
use crate::error::{Class, Reason, printable};
use crate::words::Utc;

/// Longest wait that the platform may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request could not be sent or its answer not received.
    #[error("cannot reach the platform at {url}{}", doubt(.source, SystemTime::now()))]
    Transport {
        /// The address called, without query.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The platform answered with an error.
    #[error("{action} was refused with {status}: {message}{}", request(.request_id.as_deref()))]
    Refused {
        /// What was asked for.
        action: &'static str,
        /// The HTTP status.
        status: StatusCode,
        /// The platform's own words.
        message: String,
        /// The platform's id of the request.
        request_id: Option<String>,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// The answer is not what the protocol says.
    #[error("the platform's answer to {action} cannot be understood: {reason}")]
    Malformed {
        /// What was asked for.
        action: &'static str,
        /// Why; never contains the answer itself, which may hold secrets.
        reason: String,
    },
    /// The answer is too long.
    #[error("the platform's answer to {action} is longer than {limit} bytes")]
    TooLong {
        /// What was asked for.
        action: &'static str,
        /// The limit.
        limit: usize,
    },
    /// There is nothing to log in with.
    #[error(transparent)]
    Login(#[from] super::login::Error),
    /// This machine cannot make HTTPS requests.
    #[error("cannot prepare HTTP requests")]
    Local(#[source] reqwest::Error),
    /// There are no root certificates to judge the platform by.
    #[error(transparent)]
    Roots(#[from] crate::trust::Error),
    /// A configured extra header is not one.
    #[error("INFISICAL_CUSTOM_HEADERS: {0:?} is not a header name with a valid value")]
    Header(String),
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Transport { .. } | Self::Malformed { .. } | Self::TooLong { .. } => Class::Retry,
            Self::Refused {
                status,
                retry_after,
                ..
            } => match status.as_u16() {
                401 => Class::Reauthenticate,
                403 => Class::Fatal(Reason::Permission),
                404 => Class::Fatal(Reason::Configuration),
                408 | 425 | 500..=599 => retry_after.map_or(Class::Retry, Class::RetryAfter),
                429 => Class::RetryAfter(retry_after.unwrap_or(Duration::from_secs(10))),
                // A plan restriction, a duplicate name; but also "relay unreachable", which passes.
                _ => Class::Fatal(Reason::Configuration),
            },
            Self::Login(error) => error.class(),
            Self::Local(_) => Class::Fatal(Reason::Software),
            Self::Roots(error) if error.is_configuration() => Class::Fatal(Reason::Configuration),
            Self::Roots(_) => Class::Fatal(Reason::Unavailable),
            Self::Header(_) => Class::Fatal(Reason::Configuration),
        }
    }

    /// The HTTP status of a refusal.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(status.as_u16()),
            _ => None,
        }
    }

    /// Reads the platform's error from an answer.
    pub(super) fn refused(
        action: &'static str,
        status: StatusCode,
        retry_after: Option<&str>,
        body: &[u8],
    ) -> Self {
        let parsed: ErrorBody = serde_json::from_slice(body).unwrap_or_default();
        let message = match &parsed.message {
            serde_json::Value::String(text) if !text.trim().is_empty() => text.clone(),
            serde_json::Value::Null | serde_json::Value::String(_) => status
                .canonical_reason()
                .unwrap_or("no reason given")
                .to_owned(),
            details => details.to_string(),
        };
        Self::Refused {
            action,
            status,
            message: printable(&message),
            request_id: parsed.req_id.as_deref().map(printable),
            retry_after: retry_after.and_then(parse_retry_after),
        }
    }
}

/// `Retry-After` in seconds (RFC 9110 §10.2.3); a date is taken as "soon".
fn parse_retry_after(value: &str) -> Option<Duration> {
    let seconds = value.trim().parse::<u64>().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

/// What to look at first when the platform's certificate is refused for its dates; nothing otherwise.
fn doubt(error: &(dyn StdError + 'static), now: SystemTime) -> String {
    if is_about_time(error) {
        let now = Utc(now);
        return format!("; is this machine's clock right? it says {now}");
    }
    String::new()
}

/// Whether a certificate was refused for its dates.
fn is_about_time(error: &(dyn StdError + 'static)) -> bool {
    if let Some(rustls::Error::InvalidCertificate(why)) = error.downcast_ref() {
        return matches!(
            why,
            CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. }
        );
    }
    // What an I/O error wraps is not its source: it passes over it.
    let wrapped = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    let wrapped = wrapped.is_some_and(|inner| is_about_time(inner));
    wrapped || error.source().is_some_and(is_about_time)
}

fn request(id: Option<&str>) -> String {
    id.map(|id| format!(" (request {id})")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Class, Error, Reason, StatusCode, doubt};
    use rustls::CertificateError;
    use std::io;
    use std::time::{Duration, UNIX_EPOCH};

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] io::Error);

    #[test]
    fn a_certificate_refused_for_its_dates_asks_for_the_clock_and_another_does_not() {
        for (why, asks) in [
            (CertificateError::NotValidYet, true),
            (CertificateError::Expired, true),
            (CertificateError::UnknownIssuer, false),
        ] {
            // As deep as the HTTP client wraps it.
            let error = io::Error::other(rustls::Error::InvalidCertificate(why));
            let error = io::Error::other(Outer(error));
            let told = doubt(&error, UNIX_EPOCH);
            assert_eq!(
                told.contains("clock right? it says 1970-01-01"),
                asks,
                "{told:?}"
            );
        }
        assert_eq!(doubt(&io::Error::other("broken"), UNIX_EPOCH), "");
    }

    fn refused(status: u16, retry_after: Option<&str>, body: &str) -> Error {
        let status = StatusCode::from_u16(status).expect("a status");
        Error::refused(
            "registering the gateway",
            status,
            retry_after,
            body.as_bytes(),
        )
    }

    #[test]
    fn every_status_has_its_class() {
        let seconds = Duration::from_secs;
        for (status, retry_after, class) in [
            (400, None, Class::Fatal(Reason::Configuration)),
            (401, None, Class::Reauthenticate),
            (403, None, Class::Fatal(Reason::Permission)),
            (404, None, Class::Fatal(Reason::Configuration)),
            (422, None, Class::Fatal(Reason::Configuration)),
            (429, None, Class::RetryAfter(seconds(10))),
            (429, Some("3"), Class::RetryAfter(seconds(3))),
            (429, Some("999999"), Class::RetryAfter(seconds(600))),
            (
                429,
                Some("Wed, 21 Oct 2026 07:28:00 GMT"),
                Class::RetryAfter(seconds(10)),
            ),
            (500, None, Class::Retry),
            (502, None, Class::Retry),
            (503, Some("5"), Class::RetryAfter(seconds(5))),
        ] {
            assert_eq!(
                refused(status, retry_after, "{}").class(),
                class,
                "{status}"
            );
        }
    }

    #[test]
    fn message_and_request_id_are_shown() {
        let error = refused(
            403,
            None,
            r#"{"message":"no license","reqId":"req-7","statusCode":403}"#,
        );
        assert_eq!(
            error.to_string(),
            "registering the gateway was refused with 403 Forbidden: no license (request req-7)"
        );
    }

    #[test]
    fn validation_details_are_shown_and_control_characters_are_not() {
        let error = refused(
            422,
            None,
            r#"{"message":[{"path":["name"],"message":"too\nlong"}]}"#,
        );
        assert!(error.to_string().contains("too"), "{error}");
        let error = refused(400, None, "{\"message\":\"a\\u001b[31mb\\nc\"}");
        assert!(error.to_string().ends_with("a [31mb c"), "{error}");
    }

    #[test]
    fn a_body_that_is_no_json_still_gives_a_sentence() {
        let error = refused(502, None, "<html>bad gateway</html>");
        assert!(
            error.to_string().ends_with("502 Bad Gateway: Bad Gateway"),
            "{error}"
        );
    }
}

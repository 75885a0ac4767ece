//! Errors of the platform's API, and what each means (protocol.md §1).

use std::error::Error as StdError;
use std::io;
use std::time::{Duration, SystemTime};

use reqwest::StatusCode;
use rustls::CertificateError;

use url::Url;

use crate::humanize::Utc;
use infisical_runtime::error::{Class, Reason, kind, printable};

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum Error {
    #[error(
        "cannot reach the platform at {url}{}{}",
        through(.proxy.as_deref()), clock_hint(.source, SystemTime::now())
    )]
    Transport {
        url: String,
        proxy: Option<String>,
        #[source]
        source: reqwest::Error,
    },
    #[error(
        "{action} was refused with {status}: {message} ({}{url})", request(.request_id.as_deref())
    )]
    Refused {
        action: &'static str,
        url: String,
        status: StatusCode,
        message: String,
        request_id: Option<String>,
        retry_after: Option<Duration>,
    },
    /// The answer is a redirect, which is never followed: it could carry a token elsewhere.
    #[error("{action}: {url} answered {status} and redirects {redirect}")]
    Redirected {
        action: &'static str,
        status: StatusCode,
        url: String,
        redirect: Box<Redirect>,
    },
    /// Something between this machine and the platform answered in its place.
    #[error(transparent)]
    Foreign(Box<Foreign>),
    #[error("{action}: the request cannot be made")]
    Request {
        action: &'static str,
        #[source]
        source: reqwest::Error,
    },
    #[error(
        "{action}: the token holds white space or other characters that a token never has; \
         check where it comes from"
    )]
    Token { action: &'static str },
    /// The answer is not what the protocol says.
    #[error("the platform's answer to {action} cannot be understood: {reason} ({url})")]
    Malformed {
        action: &'static str,
        url: String,
        /// Why; never contains the answer itself, which may hold secrets.
        reason: String,
    },
    #[error("the platform's answer to {action} is longer than {limit} bytes ({url})")]
    TooLong {
        action: &'static str,
        url: String,
        limit: usize,
    },
    #[error(transparent)]
    Login(#[from] super::login::Error),
    #[error("cannot prepare HTTP requests")]
    Local(#[source] reqwest::Error),
    #[error(transparent)]
    Roots(#[from] crate::trust::Error),
    #[error("INFISICAL_CUSTOM_HEADERS: {0:?} is not a header name with a valid value")]
    Header(String),
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Transport { .. }
            | Self::Redirected { .. }
            | Self::Malformed { .. }
            | Self::TooLong { .. } => Class::Retry,
            Self::Foreign(foreign) => foreign.retry_after.map_or(Class::Retry, Class::RetryAfter),
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
            Self::Header(_) | Self::Request { .. } | Self::Token { .. } => {
                Class::Fatal(Reason::Configuration)
            }
        }
    }

    /// True if the platform does not know something that the request names, such as a relay.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// The HTTP status of a refusal.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(status.as_u16()),
            _ => None,
        }
    }

    /// What it is, without what changes from one time to the next: for keeping the log quiet.
    #[must_use]
    pub fn kind(&self) -> String {
        let kind = kind(self);
        match self.http_status() {
            Some(status) => format!("{kind} {status}"),
            None => kind,
        }
    }

    /// The HTTP status of an answer that was no success, no matter who gave it.
    #[must_use]
    pub fn http_status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } | Self::Redirected { status, .. } => Some(status.as_u16()),
            Self::Foreign(page) => Some(page.status.as_u16()),
            _ => None,
        }
    }

    /// For a failed heartbeat: true if the platform tried to reach the sender and could not; false
    /// if it did not say, because it is away, unwell, or does not let the sender ask.
    #[must_use]
    pub fn tells_of_probe(&self) -> bool {
        !matches!(
            self.status(),
            None | Some(401 | 403 | 404 | 408 | 425 | 429 | 502..=504)
        )
    }

    /// True if the platform itself refused, so that asking again with the same credential is
    /// useless.
    #[must_use]
    pub fn is_verdict(&self) -> bool {
        matches!(self, Self::Refused { .. })
            && matches!(
                self.class(),
                Class::Fatal(_) | Class::Reauthenticate | Class::Reenroll
            )
    }
}

/// An answer in the platform's place.
#[derive(Debug, thiserror::Error)]
#[error(
    "{action}: {url}{} answered {status}{}, which {}",
    through(.proxy.as_deref()), page(.content_type.as_deref(), .title.as_deref()),
    sender(*.status, .proxy.as_deref())
)]
pub struct Foreign {
    /// What was asked for.
    pub(super) action: &'static str,
    /// The HTTP status.
    pub(super) status: StatusCode,
    /// The address called.
    pub(super) url: String,
    /// The proxy that was used.
    pub(super) proxy: Option<String>,
    /// The `Content-Type`.
    pub(super) content_type: Option<String>,
    /// The title of the page.
    pub(super) title: Option<String>,
    /// How long it asks to wait.
    pub(super) retry_after: Option<Duration>,
}

/// Where a redirect leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// The target, without what may be secret; `None` if it is not a URL.
    target: Option<Url>,
    advice: Advice,
}

/// What to do about a redirect.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Advice {
    /// The same endpoint is elsewhere.
    Domain(String),
    /// The same endpoint, but no longer encrypted.
    Downgrade,
    /// A page of another server, which may be the platform's own.
    Origin(String),
    /// Something else of the same server, or no address at all.
    Elsewhere,
}

impl Redirect {
    /// The redirect of `url`, an endpoint below `/api`, to `location`.
    pub(super) fn of(url: &Url, location: &str) -> Self {
        let Ok(mut target) = url.join(location) else {
            return Self {
                target: None,
                advice: Advice::Elsewhere,
            };
        };
        target.set_query(None);
        target.set_fragment(None);
        // Neither fails for a URL with a host, and others have no user.
        let _ = target.set_username("");
        let _ = target.set_password(None);
        let endpoint = url.path().find("/api/").and_then(|at| url.path().get(at..));
        let base = endpoint.and_then(|endpoint| target.path().strip_suffix(endpoint));
        let advice = match base {
            Some(_) if url.scheme() == "https" && target.scheme() != "https" => Advice::Downgrade,
            Some(base) if target != *url => {
                let origin = target.origin().ascii_serialization();
                Advice::Domain(format!("{origin}{base}"))
            }
            // A plain address of the platform that wants to be encrypted, wherever it leads to.
            None if url.scheme() == "http"
                && target.scheme() == "https"
                && url.host() == target.host() =>
            {
                Advice::Domain(target.origin().ascii_serialization())
            }
            None if target.origin() == url.origin() || !target.has_host() => Advice::Elsewhere,
            None if url.scheme() == "https" && target.scheme() != "https" => Advice::Downgrade,
            None => Advice::Origin(target.origin().ascii_serialization()),
            Some(_) => Advice::Elsewhere,
        };
        Self {
            target: Some(target),
            advice,
        }
    }
}

impl std::fmt::Display for Redirect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.target {
            Some(target) => write!(f, "to {}", printable(target.as_str()))?,
            None => f.write_str("to an address that is not valid")?,
        }
        match &self.advice {
            Advice::Domain(domain) => write!(f, "; if that is the platform, set --domain {domain}"),
            Advice::Downgrade => f.write_str(
                "; that is not encrypted, so no token is sent there: check the platform's proxy",
            ),
            Advice::Origin(origin) => write!(
                f,
                "; if that is the platform, set --domain {origin}; otherwise check any login page, \
                 proxy or captive portal on the way"
            ),
            Advice::Elsewhere => f.write_str(
                "; that is not the platform's API: check the domain, and any login page, proxy or \
                 captive portal on the way",
            ),
        }
    }
}

/// What to look at first when the platform's certificate is refused for its dates; nothing
/// otherwise.
fn clock_hint(error: &(dyn StdError + 'static), now: SystemTime) -> String {
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

/// The proxy, where there is one.
fn through(proxy: Option<&str>) -> String {
    proxy
        .map(|proxy| format!(" through the proxy {proxy}"))
        .unwrap_or_default()
}

/// Whose answer it is that does not come from the platform, and what to do.
fn sender(status: StatusCode, proxy: Option<&str>) -> &'static str {
    match (status, proxy) {
        (StatusCode::PROXY_AUTHENTICATION_REQUIRED, Some(_)) => {
            "is the proxy's: it wants a user name and a password, or refuses those that it was \
             given; put them into its URL: http://USER:PASSWORD@HOST:PORT"
        }
        (StatusCode::PROXY_AUTHENTICATION_REQUIRED, None) => {
            "comes from a proxy on the way, although none is set here; set HTTPS_PROXY to its URL \
             with user name and password: http://USER:PASSWORD@HOST:PORT"
        }
        _ => {
            "does not come from the platform; check the domain, and any proxy, firewall or captive \
             portal on the way"
        }
    }
}

/// What an answer in the platform's place is.
fn page(content_type: Option<&str>, title: Option<&str>) -> String {
    let content_type = content_type.map_or_else(
        || " without a Content-Type".to_owned(),
        |content_type| format!(" with {content_type}"),
    );
    let title = title.map(|title| format!(", titled {title:?}"));
    content_type + &title.unwrap_or_default()
}

fn request(id: Option<&str>) -> String {
    id.map(|id| format!("request {id}, ")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::clock_hint;
    use rustls::CertificateError;
    use std::io;
    use std::time::UNIX_EPOCH;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] io::Error);

    #[test]
    fn certificate_date_error_mentions_the_clock() {
        for (why, asks) in [
            (CertificateError::NotValidYet, true),
            (CertificateError::Expired, true),
            (CertificateError::UnknownIssuer, false),
        ] {
            // As deep as the HTTP client wraps it.
            let error = io::Error::other(rustls::Error::InvalidCertificate(why));
            let error = io::Error::other(Outer(error));
            let told = clock_hint(&error, UNIX_EPOCH);
            assert_eq!(
                told.contains("clock right? it says 1970-01-01"),
                asks,
                "{told:?}"
            );
        }
        assert_eq!(clock_hint(&io::Error::other("broken"), UNIX_EPOCH), "");
    }
}

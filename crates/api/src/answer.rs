//! What an HTTP answer is: the platform's, a redirect, or a page of something in between. Pure.
//!
//! Only the platform's own JSON, an object with a `message`, is a verdict of the platform. A proxy,
//! a firewall or a captive portal may answer with any status, so its answers are transient errors.

use std::time::SystemTime;

use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER};
use serde::de::DeserializeOwned;
use url::Url;

use super::error::{Error, Foreign, Redirect};
use super::retry_after;
use super::types::{ErrorBody, HeartbeatAnswer};
use infisical_runtime::error::printable;

/// How much of a page is searched for its title, in bytes.
const SEARCHED: usize = 64 << 10;
/// Longest title that is shown, in characters.
const MAX_TITLE: usize = 120;

/// A received answer.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    /// What was asked for.
    pub(super) action: &'static str,
    /// The address called.
    pub(super) url: &'a str,
    /// The proxy that it came through.
    pub(super) proxy: Option<&'a str>,
    pub(super) status: StatusCode,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
    /// The time by the server's clock.
    pub(super) now: SystemTime,
}

impl Answer<'_> {
    /// The content of a successful answer.
    ///
    /// # Errors
    /// It is an error, a redirect, a page, or JSON that cannot be used.
    pub(super) fn content<A: DeserializeOwned>(&self) -> Result<A, Error> {
        self.check_status()?;
        let body = self.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(self.body);
        serde_json::from_slice(body).map_err(|error| {
            if self.is_page() {
                return self.foreign();
            }
            Error::Malformed {
                action: self.action,
                url: self.url.to_owned(),
                // The library's own text may quote the answer; the place does not.
                reason: describe(&error),
            }
        })
    }

    /// Accepts any successful answer whose content is not used.
    ///
    /// # Errors
    /// It is an error, a redirect or a page.
    pub(super) fn acknowledgement(&self) -> Result<(), Error> {
        self.check_status()?;
        if self.is_page() {
            return Err(self.foreign());
        }
        Ok(())
    }

    /// What the platform says to a heartbeat that succeeded: nothing, if the answer has another form.
    ///
    /// # Errors
    /// See [`Self::acknowledgement`].
    pub(super) fn heartbeat(&self) -> Result<HeartbeatAnswer, Error> {
        self.acknowledgement()?;
        Ok(serde_json::from_slice(self.body).unwrap_or_default())
    }

    fn check_status(&self) -> Result<(), Error> {
        if self.status.is_success() {
            return Ok(());
        }
        if let Some(target) = self.redirect_target() {
            return Err(Error::Redirected {
                action: self.action,
                status: self.status,
                url: self.url.to_owned(),
                redirect: Box::new(target),
            });
        }
        // A proxy asks for its own credentials in whatever form it likes.
        let is_of_proxy = self.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED;
        let parsed: Option<ErrorBody> = serde_json::from_slice(self.body).ok();
        match parsed.and_then(|body| Some((body.text()?, body.req_id))) {
            Some((message, request_id)) if !is_of_proxy => Err(Error::Refused {
                action: self.action,
                url: self.url.to_owned(),
                status: self.status,
                message: printable(&message),
                request_id: request_id.as_deref().map(printable),
                retry_after: self.retry_after(),
            }),
            Some(_) | None => Err(self.foreign()),
        }
    }

    fn retry_after(&self) -> Option<std::time::Duration> {
        let value = self.headers.get(RETRY_AFTER)?.to_str().ok()?;
        retry_after::parse(value, self.now)
    }

    fn redirect_target(&self) -> Option<Redirect> {
        if !matches!(self.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
            return None;
        }
        let location = self.headers.get(LOCATION)?;
        let location = String::from_utf8_lossy(location.as_bytes());
        let url = Url::parse(self.url).ok()?;
        Some(Redirect::of(&url, &location))
    }

    /// An answer that does not come from the platform.
    fn foreign(&self) -> Error {
        let content_type = self.headers.get(CONTENT_TYPE);
        Error::Foreign(Box::new(Foreign {
            action: self.action,
            status: self.status,
            url: self.url.to_owned(),
            proxy: self.proxy.map(str::to_owned),
            content_type: content_type
                .map(|value| printable(&String::from_utf8_lossy(value.as_bytes()))),
            title: title(self.body),
            retry_after: self.retry_after(),
        }))
    }

    fn is_page(&self) -> bool {
        is_page(self.headers, self.body)
    }
}

/// True for a page that was made for a browser.
pub(super) fn is_page(headers: &HeaderMap, body: &[u8]) -> bool {
    let content_type = headers.get(CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default().to_ascii_lowercase();
    let start = body.trim_ascii_start();
    let start = start.get(..14).unwrap_or(start).to_ascii_lowercase();
    content_type.starts_with("text/html")
        || content_type.starts_with("application/xhtml")
        || start.starts_with(b"<!doctype html")
        || start.starts_with(b"<html")
}

/// The title of an HTML page, if it has one.
fn title(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body.get(..SEARCHED).unwrap_or(body));
    let lower = text.to_ascii_lowercase();
    let open = lower.find("<title")?;
    let start = open + lower.get(open..)?.find('>')? + 1;
    let end = start + lower.get(start..)?.find("</title")?;
    let title = text.get(start..end)?;
    let title = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&amp;", "&"),
    ]
    .into_iter()
    .fold(title.to_owned(), |title, (entity, character)| {
        title.replace(entity, character)
    });
    let words: Vec<&str> = title.split_whitespace().collect();
    let title: String = printable(&words.join(" "))
        .chars()
        .take(MAX_TITLE)
        .collect();
    (!title.is_empty()).then_some(title)
}

/// What is wrong with an answer, without repeating any of it, since it may hold private keys.
fn describe(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        serde_json::error::Category::Io | serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Syntax => "it is not JSON",
        serde_json::error::Category::Data => "a field is missing or of the wrong type",
    };
    let text = error.to_string();
    // "missing field `x`" names only the field.
    match text
        .strip_prefix("missing field ")
        .and_then(|rest| rest.split(" at line").next())
    {
        Some(field) => format!("field {field} is missing"),
        None => format!("{kind} (line {}, column {})", error.line(), error.column()),
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;

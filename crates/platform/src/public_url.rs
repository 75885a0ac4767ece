//! The URL by which browsers and gateways reach the platform. Pure.

use std::fmt;
use std::str::FromStr;

use crate::config::settings::{ApiBase, InvalidApiBase};

/// An origin (RFC 6454): scheme, host and port, without a path. HTTPS, or HTTP on loopback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl(String);

/// Why a text is no such URL. It is never repeated: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum InvalidPublicUrl {
    #[error(transparent)]
    Url(#[from] InvalidApiBase),
    #[error("the URL must not have a path: the platform is served at the root of its host")]
    Path,
    #[error("the URL must begin with https://: tokens would cross the network unencrypted")]
    PlainHttp,
}

impl PublicUrl {
    /// The origin, without a slash at its end: `https://platform.example.com`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for HTTPS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https://")
    }
}

impl FromStr for PublicUrl {
    type Err = InvalidPublicUrl;

    fn from_str(text: &str) -> Result<Self, InvalidPublicUrl> {
        let base = ApiBase::parse(text)?;
        if base.as_url().path() != "/api" {
            return Err(InvalidPublicUrl::Path);
        }
        if base.is_plain_http_beyond_loopback() {
            return Err(InvalidPublicUrl::PlainHttp);
        }
        Ok(Self(base.as_url().origin().ascii_serialization()))
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{InvalidPublicUrl, PublicUrl};

    #[test]
    fn public_url_is_an_origin() {
        for (text, origin) in [
            (
                "https://Platform.Example.com",
                "https://platform.example.com",
            ),
            (
                "https://platform.example.com:443/",
                "https://platform.example.com",
            ),
            ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            // The address of the page, copied from the browser.
            ("http://localhost:8080/login", "http://localhost:8080"),
        ] {
            let url: PublicUrl = text.parse().expect(text);
            assert_eq!(url.as_str(), origin);
        }
    }

    #[test]
    fn path_and_plain_http_are_refused() {
        let parse = |text: &str| text.parse::<PublicUrl>().expect_err("not usable");
        assert_eq!(
            parse("https://example.com/infisical"),
            InvalidPublicUrl::Path
        );
        assert_eq!(parse("http://example.com"), InvalidPublicUrl::PlainHttp);
        for text in [
            "example.com",
            "https://user:pw@example.com",
            "ftp://example.com",
            "",
        ] {
            assert!(matches!(parse(text), InvalidPublicUrl::Url(_)), "{text}");
        }
    }
}

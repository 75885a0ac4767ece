//! The platform's domain, as people give it, and the base of its API that follows from it. Pure.

use url::{Host, Url};

use super::table::Kind;
use super::value;

/// The domain used when none is configured (protocol.md §1).
pub const DEFAULT_DOMAIN: &str = "https://app.infisical.com";

/// Pages of the platform whose address people copy from a browser; the domain is what stands before
/// them.
const PAGES: [&str; 4] = ["login", "signup", "organization", "organizations"];

/// Base URL of the platform's API: the configured domain, with `/api` appended unless it already
/// ends in it (protocol.md §1). Always http or https, always with a host, never with credentials,
/// query or fragment, never ending in a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiBase(Url);

/// Why a domain is not usable. The text is never repeated: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum InvalidApiBase {
    #[error(transparent)]
    Value(#[from] value::InvalidValue),
    #[error("not a URL such as {DEFAULT_DOMAIN}")]
    NotAUrl(#[source] url::ParseError),
    #[error("the URL must begin with https:// or http://; write https:// before the host")]
    NoScheme,
    #[error(
        "the URL must begin with https:// or http://; on this machine write http:// before the host"
    )]
    NoSchemeOnLoopback,
    #[error("the URL must begin with https:// or http://")]
    Scheme,
    #[error("the URL begins with a scheme twice")]
    TwoSchemes,
    #[error("the host in the URL must be a DNS name or an IP address")]
    Host,
    #[error("the port in the URL must be a number from 1 to 65535")]
    Port,
    #[error("the URL must not hold a user name or password")]
    Credentials,
    #[error("the URL must have neither '?' nor '#'")]
    QueryOrFragment,
}

impl ApiBase {
    /// Reads a domain as a person or the environment gives it. Slashes at the end, an address of
    /// the API below it (`/api`, `/api/v1/…`) and the address of a page (`/login`) are reduced to
    /// the domain.
    ///
    /// # Errors
    /// [`InvalidApiBase`] says what is wrong.
    pub fn parse(domain: &str) -> Result<Self, InvalidApiBase> {
        let domain = value::clean(domain);
        Kind::Url.check(domain)?;
        let parsed = Url::parse(domain);
        let has_scheme = domain.contains("://") || domain.contains(":/");
        let mut url = match parsed {
            Ok(url) if matches!(url.scheme(), "http" | "https") => url,
            Ok(_) if has_scheme => return Err(InvalidApiBase::Scheme),
            Err(error) if has_scheme => return Err(InvalidApiBase::NotAUrl(error)),
            Ok(_) | Err(_) => {
                let url = Url::parse(&format!("http://{domain}"));
                let is_here = url.is_ok_and(|url| Self(url).is_loopback());
                return Err(match is_here {
                    true => InvalidApiBase::NoSchemeOnLoopback,
                    false => InvalidApiBase::NoScheme,
                });
            }
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidApiBase::Credentials);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidApiBase::QueryOrFragment);
        }
        match url.host() {
            Some(Host::Domain("http" | "https")) if url.path().starts_with("//") => {
                return Err(InvalidApiBase::TwoSchemes);
            }
            Some(Host::Domain(name)) if !is_name(name) => return Err(InvalidApiBase::Host),
            Some(Host::Domain(_) | Host::Ipv4(_) | Host::Ipv6(_)) | None => {}
        }
        if url.port() == Some(0) {
            return Err(InvalidApiBase::Port);
        }
        let path = format!("{}/api", prefix(url.path()));
        url.set_path(&path);
        Ok(Self(url))
    }

    /// The base itself; its path ends in `/api`.
    #[must_use]
    pub fn as_url(&self) -> &Url {
        &self.0
    }

    /// The URL as `--domain` takes it: without `/api`.
    #[must_use]
    pub fn domain(&self) -> &str {
        let url = self.0.as_str();
        url.strip_suffix("/api").unwrap_or(url)
    }

    /// True if the platform is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.0)
    }

    /// True if tokens would cross a network unencrypted.
    #[must_use]
    pub fn is_plain_http_beyond_loopback(&self) -> bool {
        self.0.scheme() == "http" && !self.is_loopback()
    }
}

impl std::fmt::Display for ApiBase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// True if the host of `url`, in small letters as in every URL, is this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    }
}

/// The path below which the platform is served, for the path of an address of it; without a slash
/// at its end.
fn prefix(path: &str) -> String {
    let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
    let is_version = |segment: &&str| {
        let digits = segment.strip_prefix('v').unwrap_or_default();
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    let mut prefix = String::new();
    for (index, segment) in segments.iter().enumerate() {
        let rest = segments.get(index + 1..).unwrap_or_default();
        let is_api = *segment == "api" && rest.first().is_none_or(is_version);
        if is_api || PAGES.contains(segment) {
            break;
        }
        prefix.push('/');
        prefix.push_str(segment);
    }
    prefix
}

/// True for the letters of a DNS name; other letters have become `xn--…` before.
fn is_name(name: &str) -> bool {
    let is_letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    name.bytes().all(is_letter)
}

#[cfg(test)]
mod tests {
    use super::{ApiBase, InvalidApiBase};
    use crate::value::InvalidValue;

    #[test]
    fn domain_becomes_the_api_base() {
        for (given, base) in [
            ("https://app.infisical.com", "https://app.infisical.com/api"),
            (
                "https://app.infisical.com/",
                "https://app.infisical.com/api",
            ),
            (
                "https://app.infisical.com/api",
                "https://app.infisical.com/api",
            ),
            (
                "https://app.infisical.com/api/",
                "https://app.infisical.com/api",
            ),
            ("https://host///", "https://host/api"),
            ("https://host//api//", "https://host/api"),
            ("https://host/api/v1", "https://host/api"),
            ("https://host/api/v3/gateways/connect", "https://host/api"),
            ("https://host/login", "https://host/api"),
            ("https://host/login/sso", "https://host/api"),
            ("https://host/organizations/0-1/access", "https://host/api"),
            ("https://host/secrets", "https://host/secrets/api"),
            ("https://host/secrets/api/v1/", "https://host/secrets/api"),
            ("https://host/secrets/login", "https://host/secrets/api"),
            ("https://host/myapi", "https://host/myapi/api"),
            ("https://host/api/other", "https://host/api/other/api"),
            ("HTTPS://Host.Example/", "https://host.example/api"),
            ("\u{feff}https://host\r\n", "https://host/api"),
            (" http://127.0.0.1:8080 ", "http://127.0.0.1:8080/api"),
            ("http://[::1]:8080/", "http://[::1]:8080/api"),
            (
                "https://b\u{fc}ro.example",
                "https://xn--bro-hoa.example/api",
            ),
        ] {
            let parsed = ApiBase::parse(given).expect(given);
            assert_eq!(parsed.as_url().as_str(), base, "{given}");
            let again = ApiBase::parse(base).expect(base);
            assert_eq!(again, parsed, "{given}");
            assert_eq!(format!("{}/api", parsed.domain()), base, "{given}");
            assert_eq!(ApiBase::parse(parsed.domain()).expect(base), parsed);
        }
    }

    #[test]
    fn invalid_domain_is_refused_without_repeating_it() {
        let value = InvalidApiBase::Value;
        for (given, error) in [
            ("ftp://host", InvalidApiBase::Scheme),
            ("file:///etc", InvalidApiBase::Scheme),
            ("app.infisical.com:443", InvalidApiBase::NoScheme),
            ("app.infisical.com", InvalidApiBase::NoScheme),
            ("10.0.0.1:8080", InvalidApiBase::NoScheme),
            ("localhost:8080", InvalidApiBase::NoSchemeOnLoopback),
            ("https://https://host", InvalidApiBase::TwoSchemes),
            ("https://host,", InvalidApiBase::Host),
            ("https://host;x", InvalidApiBase::Host),
            ("https://host:0", InvalidApiBase::Port),
            ("https://u:hunter2@host", InvalidApiBase::Credentials),
            ("https://host/?q", InvalidApiBase::QueryOrFragment),
            ("https://host/#f", InvalidApiBase::QueryOrFragment),
            ("", value(InvalidValue::Empty)),
            ("https://ho st", value(InvalidValue::WhiteSpace)),
            ("https://host # ours", value(InvalidValue::Comment)),
            ("'https://host'", value(InvalidValue::Quotes)),
            ("https://host\u{201d}", value(InvalidValue::Quotes)),
            ("https://${HOST}", value(InvalidValue::Template)),
            ("{{ .Values.domain }}", value(InvalidValue::Template)),
            ("https://<host>", value(InvalidValue::Placeholder)),
            ("https://a\nhttps://b", value(InvalidValue::Lines)),
            (
                "INFISICAL_API_URL=https://hunter2",
                value(InvalidValue::Assignment),
            ),
        ] {
            let found = ApiBase::parse(given).expect_err(given);
            assert_eq!(found, error, "{given}");
            assert!(!found.to_string().contains("hunter2"));
        }
        for given in ["https://", "https://host:99999", "https://[::1"] {
            assert!(
                matches!(ApiBase::parse(given), Err(InvalidApiBase::NotAUrl(_))),
                "{given:?}"
            );
        }
    }

    #[test]
    fn plain_http_is_harmless_only_on_loopback() {
        for (given, exposed) in [
            ("https://host", false),
            ("http://host", true),
            ("http://10.0.0.1", true),
            ("http://localhost:8080", false),
            ("http://a.localhost", false),
            ("http://127.9.9.9", false),
            ("http://[::1]", false),
            ("http://[2001:db8::1]", true),
            ("http://localhost.example.com", true),
        ] {
            let base = ApiBase::parse(given).expect(given);
            assert_eq!(base.is_plain_http_beyond_loopback(), exposed, "{given}");
        }
    }
}

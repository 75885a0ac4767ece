//! Validated settings: what a role needs to start, each value of a type that cannot be wrong.
//!
//! Nothing here reads files or the environment; `config` assembles these values from what it read, and
//! tests build them directly. `Debug` shows no secret, since every secret is a [`Secret`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use url::{Host, Url};

use super::credential::{IdentityCredential, MachineEnrollment};
use crate::names::{GatewayName, RelayHost, RelayName};
use crate::secret::Secret;
use crate::trust::NamedFile;

/// The domain used when none is configured (protocol.md §1).
pub const DEFAULT_DOMAIN: &str = "https://app.infisical.com";

/// Base URL of the platform's API: the configured domain, with `/api` appended unless it already ends in
/// it (protocol.md §1). Always http or https, always with a host, never with credentials, query or
/// fragment, never ending in a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiBase(Url);

/// Why a domain is not usable. The text is never repeated: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidApiBase {
    /// Not a URL at all.
    #[error("not a URL such as {DEFAULT_DOMAIN}")]
    NotAUrl(#[source] url::ParseError),
    /// Another scheme.
    #[error("the URL must begin with https:// or http://")]
    Scheme,
    /// User name or password.
    #[error("the URL must not hold a user name or password")]
    Credentials,
    /// `?…` or `#…`.
    #[error("the URL must have neither '?' nor '#'")]
    QueryOrFragment,
}

impl ApiBase {
    /// Reads a domain as a person or the environment gives it; one trailing slash is tolerated.
    ///
    /// # Errors
    /// [`InvalidApiBase`] says what is wrong.
    pub fn parse(domain: &str) -> Result<Self, InvalidApiBase> {
        let mut url = Url::parse(domain.trim()).map_err(InvalidApiBase::NotAUrl)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(InvalidApiBase::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidApiBase::Credentials);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidApiBase::QueryOrFragment);
        }
        let path = url.path();
        let path = path.strip_suffix('/').unwrap_or(path);
        let path = if path.ends_with("/api") {
            path.to_owned()
        } else {
            format!("{path}/api")
        };
        url.set_path(&path);
        Ok(Self(url))
    }

    /// The base itself; its path ends in `/api`.
    #[must_use]
    pub fn as_url(&self) -> &Url {
        &self.0
    }

    /// The URL of an endpoint of protocol.md §1, for instance `/v2/gateways`: a path, without a query.
    #[must_use]
    pub fn endpoint(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        url.set_path(&format!(
            "{}/{}",
            self.0.path(),
            path.strip_prefix('/').unwrap_or(path)
        ));
        url
    }

    /// True if the platform is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self.0.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
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

/// Extra request headers (`INFISICAL_CUSTOM_HEADERS`, protocol.md §1). Values often are passwords of a
/// proxy, hence secrets. Names are valid header names, values hold only printable ASCII and spaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CustomHeaders(pub Vec<(String, Secret)>);

/// Why custom headers are not usable; never repeats a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeaders {
    /// A word without `=`.
    #[error("header {number} is not of the form name=value")]
    NoValue {
        /// Which of the headers, counted from 1.
        number: usize,
    },
    /// A name that HTTP does not allow.
    #[error("header {number} has a name that HTTP does not allow")]
    Name {
        /// Which of the headers, counted from 1.
        number: usize,
    },
    /// A value that HTTP does not allow.
    #[error("header {name} has a value with characters that HTTP does not allow")]
    Value {
        /// The header's name.
        name: String,
    },
    /// A quote without its twin, or text right behind a closing quote.
    #[error("header {name} has a quote that does not end its value")]
    Quote {
        /// The header's name.
        name: String,
    },
}

impl CustomHeaders {
    /// Reads space-separated `name=value` pairs; a value may stand in single or double quotes, and then
    /// hold spaces.
    ///
    /// # Errors
    /// [`InvalidHeaders`] says which header is wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidHeaders> {
        let mut headers = Vec::new();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let number = headers.len() + 1;
            let (name, after) = rest
                .split_once('=')
                .filter(|(name, _)| !name.contains(char::is_whitespace))
                .ok_or(InvalidHeaders::NoValue { number })?;
            if name.is_empty() || !name.bytes().all(is_token_byte) {
                return Err(InvalidHeaders::Name { number });
            }
            let quote = || InvalidHeaders::Quote {
                name: name.to_owned(),
            };
            let (value, after) = match after.chars().next() {
                Some(mark @ ('"' | '\'')) => {
                    let (value, after) = after
                        .get(1..)
                        .and_then(|text| text.split_once(mark))
                        .ok_or_else(quote)?;
                    if !after.is_empty() && !after.starts_with(char::is_whitespace) {
                        return Err(quote());
                    }
                    (value, after)
                }
                Some(_) | None => after
                    .find(char::is_whitespace)
                    .map_or((after, ""), |end| after.split_at(end)),
            };
            if !value
                .bytes()
                .all(|byte| byte == b' ' || byte.is_ascii_graphic())
            {
                return Err(InvalidHeaders::Value {
                    name: name.to_owned(),
                });
            }
            headers.push((name.to_owned(), Secret::new(value)));
            rest = after.trim_start();
        }
        Ok(Self(headers))
    }
}

impl CustomHeaders {
    /// The headers as they were written, with their values hidden.
    #[must_use]
    pub fn masked(&self) -> String {
        let masked = |(name, _): &(String, Secret)| format!("{name}=<secret>");
        let words: Vec<String> = self.0.iter().map(masked).collect();
        words.join(" ")
    }
}

/// A `tchar` of RFC 9110 §5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// How a gateway proves itself to the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GatewayCredential {
    /// As a machine identity.
    Identity(IdentityCredential),
    /// As an enrolled gateway, with the access token that enrollment bought.
    AccessToken(Secret),
    /// As an enrolled gateway that logs in with what the machine or the pod is.
    Machine(MachineEnrollment),
    /// Not yet: buy an access token with this one-time token and keep both in
    /// [`GatewaySettings::store`].
    Enroll {
        /// The one-time enrollment token.
        token: Secret,
    },
}

/// Everything a gateway needs to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewaySettings {
    /// Its name on the platform.
    pub name: GatewayName,
    /// Where the platform is.
    pub domain: ApiBase,
    /// Extra headers of every request to the platform.
    pub headers: CustomHeaders,
    /// Certificates of the platform's private CA.
    pub ca_file: Option<NamedFile>,
    /// How it proves itself.
    pub credential: GatewayCredential,
    /// The relay to use; `None` chooses one (protocol.md §1).
    pub relay: Option<RelayName>,
    /// What it logs.
    pub log: LogSettings,
    /// The file in which an enrolled access token is kept.
    pub store: PathBuf,
}

/// The least important lines that are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// A person must act.
    Error,
    /// Degraded, heals by itself.
    Warn,
    /// Changes of state.
    Info,
    /// Every connection.
    Debug,
    /// Every step.
    Trace,
}

/// Not a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be error, warn, info, debug or trace")]
pub struct UnknownLogLevel;

impl LogLevel {
    /// Every level, the quietest first.
    pub const ALL: [Self; 5] = [
        Self::Error,
        Self::Warn,
        Self::Info,
        Self::Debug,
        Self::Trace,
    ];

    /// Its name as people give it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl FromStr for LogLevel {
    type Err = UnknownLogLevel;

    fn from_str(text: &str) -> Result<Self, UnknownLogLevel> {
        let text = text.to_ascii_lowercase();
        // Spellings of the deployed programs.
        match text.as_str() {
            "err" | "fatal" => return Ok(Self::Error),
            "warning" => return Ok(Self::Warn),
            _ => {}
        }
        let mut all = Self::ALL.into_iter();
        all.find(|level| level.as_str() == text)
            .ok_or(UnknownLogLevel)
    }
}

/// What is logged, and where to. How the lines look is a matter of the command line alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// The level; `None` is the command's own.
    pub level: Option<LogLevel>,
    /// The file; `None` is standard error, or the journal behind it.
    pub file: Option<PathBuf>,
}

/// Whose relay it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayKind {
    /// An organization's own.
    Org,
    /// The whole instance's.
    Instance,
}

/// How a relay proves itself to the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayCredential {
    /// As a machine identity.
    Identity(IdentityCredential),
    /// As a relay of the instance, with the secret that the instance shares with its relays.
    AuthSecret(Secret),
    /// As an enrolled relay, with the access token that enrollment bought.
    AccessToken(Secret),
    /// As an enrolled relay that logs in with what the machine is.
    Machine(MachineEnrollment),
    /// Not yet: buy an access token with this one-time token and keep both in
    /// [`RelaySettings::store`].
    Enroll {
        /// The one-time enrollment token.
        token: Secret,
    },
}

/// Everything a relay needs to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelaySettings {
    /// Its name on the platform.
    pub name: RelayName,
    /// The address that the platform gives to gateways and clients; an enrolled relay may leave it to the platform, which
    /// was told it when the relay was created.
    pub host: Option<RelayHost>,
    /// Whose relay it is.
    pub kind: RelayKind,
    /// Where the platform is.
    pub domain: ApiBase,
    /// Extra headers of every request to the platform.
    pub headers: CustomHeaders,
    /// Certificates of the platform's private CA.
    pub ca_file: Option<NamedFile>,
    /// How it proves itself.
    pub credential: RelayCredential,
    /// Where gateways are awaited; `None` is port 2222 of every address.
    pub ssh_listen: Option<SocketAddr>,
    /// Where clients are awaited; `None` is port 8443 of every address.
    pub tls_listen: Option<SocketAddr>,
    /// How much it takes on.
    pub limits: RelayLimits,
    /// What it logs.
    pub log: LogSettings,
    /// The file in which an enrolled access token is kept.
    pub store: PathBuf,
}

/// Bounds on what a relay takes on, so that no one peer can use it up. Each is at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayLimits {
    /// Connections of each port that have not proved themselves yet. Further ones wait in the kernel's queue.
    pub handshakes: usize,
    /// Connections from one source to both ports, proven ones included: an IPv4 address, or an IPv6 network of 64 bits. A
    /// platform speaks for all of its users from a few addresses, so this only keeps one from taking everything.
    pub per_source: usize,
    /// Gateways that are connected.
    pub gateways: usize,
    /// Clients that have proved themselves.
    pub clients: usize,
    /// Those of them that one gateway serves.
    pub per_gateway: usize,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            handshakes: 512,
            per_source: 8192,
            gateways: 8192,
            clients: 16_384,
            per_gateway: 4096,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ApiBase, CustomHeaders, InvalidApiBase, InvalidHeaders};
    use crate::secret::Secret;

    #[test]
    fn a_domain_becomes_the_base_of_the_api() {
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
            ("https://host/secrets", "https://host/secrets/api"),
            ("https://host/myapi", "https://host/myapi/api"),
            (" http://127.0.0.1:8080 ", "http://127.0.0.1:8080/api"),
            ("http://[::1]:8080/", "http://[::1]:8080/api"),
        ] {
            let parsed = ApiBase::parse(given).expect(given);
            assert_eq!(parsed.as_url().as_str(), base, "{given}");
        }
        let base = ApiBase::parse("https://host/x").expect("a URL");
        assert_eq!(
            base.endpoint("/v2/gateways").as_str(),
            "https://host/x/api/v2/gateways"
        );
    }

    #[test]
    fn what_is_not_a_domain_is_refused_without_repeating_it() {
        for (given, error) in [
            ("ftp://host", InvalidApiBase::Scheme),
            ("file:///etc", InvalidApiBase::Scheme),
            ("app.infisical.com:443", InvalidApiBase::Scheme),
            ("https://u:hunter2@host", InvalidApiBase::Credentials),
            ("https://host/?q", InvalidApiBase::QueryOrFragment),
            ("https://host/#f", InvalidApiBase::QueryOrFragment),
        ] {
            let found = ApiBase::parse(given).expect_err(given);
            assert_eq!(found, error, "{given}");
            assert!(!found.to_string().contains("hunter2"));
        }
        for given in ["", "app.infisical.com", "https://", "https://ho st"] {
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

    #[test]
    fn headers_are_words_with_quotable_values() {
        let parsed = CustomHeaders::parse(
            "  CF-Access-Client-Id=abc  X-Note=\"two words\" X-Eq=a=b X-One='it is' X-Empty= ",
        )
        .expect("headers");
        let expected = [
            ("CF-Access-Client-Id", "abc"),
            ("X-Note", "two words"),
            ("X-Eq", "a=b"),
            ("X-One", "it is"),
            ("X-Empty", ""),
        ];
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Secret::new(*value)))
            .collect();
        assert_eq!(parsed.0, expected);
        assert!(!format!("{parsed:?}").contains("two words"));
        assert_eq!(CustomHeaders::parse("  "), Ok(CustomHeaders::default()));
    }

    #[test]
    fn bad_headers_are_refused_without_their_value() {
        let name = |name: &str| name.to_owned();
        for (given, error) in [
            ("novalue", InvalidHeaders::NoValue { number: 1 }),
            ("a=b c d=e", InvalidHeaders::NoValue { number: 2 }),
            ("a:b=c", InvalidHeaders::Name { number: 1 }),
            ("=c", InvalidHeaders::Name { number: 1 }),
            ("a=\"b", InvalidHeaders::Quote { name: name("a") }),
            ("a='b'c", InvalidHeaders::Quote { name: name("a") }),
            ("a='b\nc'", InvalidHeaders::Value { name: name("a") }),
        ] {
            assert_eq!(CustomHeaders::parse(given), Err(error), "{given}");
        }
    }
}

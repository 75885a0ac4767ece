//! Validated settings: what a role needs to start, each value of a type that cannot be wrong.
//!
//! Nothing here reads files or the environment; `config` assembles these values from what it read,
//! and tests build them directly. `Debug` shows no secret, since every secret is a [`Secret`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use strum::{EnumString, VariantNames};

use super::credential::Credential;
pub use super::domain::{ApiBase, DEFAULT_DOMAIN, InvalidApiBase};
use super::env::{
    RELAY_MAX_BUFFER, RELAY_MAX_CLIENTS, RELAY_MAX_GATEWAYS, RELAY_MAX_HANDSHAKES,
    RELAY_MAX_PER_GATEWAY, RELAY_MAX_PER_SOURCE, Variable,
};
pub use super::log::{InvalidLogFile, LogLevel, LogSettings, UnknownWord};
use super::metrics::MetricsListen;
use super::proxy::Proxies;
use super::targets::TargetPolicy;
use super::value::{has_template, is_quote};
use crate::names::{GatewayName, RelayHost, RelayName};
use crate::secret::Secret;
use crate::trust;

/// Extra request headers (`INFISICAL_CUSTOM_HEADERS`, protocol.md §1). Values often are passwords
/// of a proxy, hence secrets. Names are valid header names, values hold only printable ASCII and
/// spaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CustomHeaders(pub Vec<(String, Secret)>);

/// Why custom headers are not usable; never repeats a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum InvalidHeaders {
    #[error("header {0} is not of the form name=value")]
    NoValue(usize),
    #[error("header {0} has a name that HTTP does not allow")]
    Name(usize),
    #[error("header {0} has a value with characters that HTTP does not allow")]
    Value(String),
    #[error("quotes belong around the value of a header, not around all of the headers")]
    Quoted,
    #[error("header {0} holds a variable that was not replaced (such as ${{NAME}})")]
    Template(String),
    #[error("header {0} has a quote that does not end its value")]
    Quote(String),
}

impl CustomHeaders {
    /// Reads space-separated `name=value` pairs; a value may stand in single or double quotes, and
    /// then hold spaces.
    ///
    /// # Errors
    /// [`InvalidHeaders`] says which header is wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidHeaders> {
        let mut headers = Vec::new();
        let mut rest = text.trim_start();
        if rest.starts_with(is_quote) {
            return Err(InvalidHeaders::Quoted);
        }
        while !rest.is_empty() {
            let number = headers.len() + 1;
            let (name, after) = rest
                .split_once('=')
                .filter(|(name, _)| !name.contains(char::is_whitespace))
                .ok_or(InvalidHeaders::NoValue(number))?;
            if name.is_empty() || !name.bytes().all(is_token_byte) {
                return Err(InvalidHeaders::Name(number));
            }
            let quote = || InvalidHeaders::Quote(name.to_owned());
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
            if has_template(value) {
                return Err(InvalidHeaders::Template(name.to_owned()));
            }
            if !value
                .bytes()
                .all(|byte| byte == b' ' || byte.is_ascii_graphic())
            {
                return Err(InvalidHeaders::Value(name.to_owned()));
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

/// What every role has: its platform, the way there, its log and its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommonSettings {
    /// Where the platform is.
    pub domain: ApiBase,
    /// Extra headers of every request to the platform.
    pub headers: CustomHeaders,
    /// Proxies on the way to the platform.
    pub proxies: Proxies,
    /// The root certificates for the platform, its private CA among them.
    pub roots: trust::Source,
    /// What is logged.
    pub log: LogSettings,
    /// Where metrics are served, if they are.
    pub metrics: Option<MetricsListen>,
    /// The file in which an enrolled access token is kept.
    pub store: PathBuf,
}

/// Everything a gateway needs to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewaySettings {
    /// Its name on the platform.
    pub name: GatewayName,
    /// What relays have too.
    pub common: CommonSettings,
    /// How it proves itself.
    pub credential: Credential,
    /// The relay to use; `None` chooses one (protocol.md §1).
    pub relay: Option<RelayName>,
    /// Which targets its sessions may reach.
    pub targets: Arc<TargetPolicy>,
}

/// Whose relay it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
#[strum(parse_err_ty = UnknownWord, parse_err_fn = UnknownWord::of::<Self>)]
pub enum RelayKind {
    /// An organization's own.
    Org,
    /// The whole instance's.
    Instance,
}

/// How a relay proves itself to the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayCredential {
    /// As a relay of the instance, with the secret that the instance shares with its relays.
    AuthSecret(Secret),
    /// As a gateway does.
    Own(Credential),
}

/// Everything a relay needs to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelaySettings {
    /// Its name on the platform.
    pub name: RelayName,
    /// The address that the platform gives to gateways and clients; an enrolled relay may leave it
    /// to the platform, which was told it when the relay was created.
    pub host: Option<RelayHost>,
    /// Whose relay it is.
    pub kind: RelayKind,
    /// What gateways have too.
    pub common: CommonSettings,
    /// How it proves itself.
    pub credential: RelayCredential,
    /// Where gateways are awaited; `None` is port 2222 of every address.
    pub ssh_listen: Option<SocketAddr>,
    /// Where clients are awaited; `None` is port 8443 of every address.
    pub tls_listen: Option<SocketAddr>,
    /// How much it takes on.
    pub limits: RelayLimits,
}

/// Bounds on what a relay takes on, so that no one peer can use it up. Each is at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayLimits {
    /// Connections of each port that have not proved themselves yet. Further ones wait in the
    /// kernel's queue.
    pub handshakes: usize,
    /// Connections from one source to both ports, proven ones included: an IPv4 address, or an IPv6
    /// network of 64 bits. A platform speaks for all of its users from a few addresses, so this
    /// only keeps one from taking everything.
    pub per_source: usize,
    /// Gateways that are connected.
    pub gateways: usize,
    /// Clients that have proved themselves.
    pub clients: usize,
    /// Those of them that one gateway serves.
    pub per_gateway: usize,
    /// Memory for what clients and gateways have not taken yet, in MiB.
    pub buffer_mib: usize,
}

impl RelayLimits {
    /// Memory for what clients and gateways have not taken yet, in bytes.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        self.buffer_mib.saturating_mul(1 << 20)
    }

    /// Memory that a relay with these limits takes at most, in MiB: what the program takes by
    /// itself, and what each peer can make it hold (docs/reliability.md). The kernel's buffers come
    /// on top.
    #[must_use]
    pub fn memory_mib(&self) -> usize {
        const PROGRAM_MIB: usize = 64;
        const HANDSHAKE_KIB: usize = 128;
        const GATEWAY_KIB: usize = 96;
        // Its TLS session, and the least that its channel may hold whatever else is held.
        const CLIENT_KIB: usize = 128;
        let peers = [
            self.handshakes.saturating_mul(2 * HANDSHAKE_KIB),
            self.gateways.saturating_mul(GATEWAY_KIB),
            self.clients.saturating_mul(CLIENT_KIB),
        ];
        let peers = peers
            .into_iter()
            .fold(0, usize::saturating_add)
            .div_ceil(1024);
        PROGRAM_MIB
            .saturating_add(peers)
            .saturating_add(self.buffer_mib)
    }
}

impl RelayLimits {
    /// The limits, each with the value of its setting.
    pub(super) fn each(mut value: impl FnMut(&'static Variable) -> usize) -> Self {
        Self {
            handshakes: value(&RELAY_MAX_HANDSHAKES),
            per_source: value(&RELAY_MAX_PER_SOURCE),
            gateways: value(&RELAY_MAX_GATEWAYS),
            clients: value(&RELAY_MAX_CLIENTS),
            per_gateway: value(&RELAY_MAX_PER_GATEWAY),
            buffer_mib: value(&RELAY_MAX_BUFFER),
        }
    }
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self::each(default_limit)
    }
}

/// The value of a limit that is not set; at least 1.
pub(super) fn default_limit(variable: &Variable) -> usize {
    variable.default.parse().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::{CustomHeaders, InvalidHeaders};
    use crate::secret::Secret;

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
            ("novalue", InvalidHeaders::NoValue(1)),
            ("a=b c d=e", InvalidHeaders::NoValue(2)),
            ("a:b=c", InvalidHeaders::Name(1)),
            ("=c", InvalidHeaders::Name(1)),
            ("a=\"b", InvalidHeaders::Quote(name("a"))),
            ("a='b'c", InvalidHeaders::Quote(name("a"))),
            ("\"a=b c=d\"", InvalidHeaders::Quoted),
            ("a=${B}", InvalidHeaders::Template(name("a"))),
            ("a='{{ b }}'", InvalidHeaders::Template(name("a"))),
            ("a='b\nc'", InvalidHeaders::Value(name("a"))),
        ] {
            assert_eq!(CustomHeaders::parse(given), Err(error), "{given}");
        }
    }
}

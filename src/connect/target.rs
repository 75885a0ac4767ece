//! Where a connection should end: `HOST:PORT` as a person types it.
//!
//! The host is resolved by the gateway, never here. Pure.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// Longest host name that can exist (RFC 1035 §2.3.4), in bytes.
const MAX_HOST: usize = 253;

/// A target behind a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// A name or an address; IPv6 without brackets.
    host: String,
    port: u16,
}

/// Why a text is no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTarget {
    /// There is no port.
    #[error("it has no port; write HOST:PORT")]
    NoPort,
    /// The port is no number from 1 to 65535.
    #[error("the port must be a number from 1 to 65535")]
    Port,
    /// An IPv6 address without brackets: where does the port begin?
    #[error("write an IPv6 address in brackets, such as [::1]:5432")]
    Brackets,
    /// No host, or characters that no host has.
    #[error("the host must be a name or an address")]
    Host,
}

impl Target {
    /// The host, as the gateway resolves it; an IPv6 address has no brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port; never 0.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Target {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or(InvalidTarget::Brackets)?;
            host.parse::<Ipv6Addr>()
                .map_err(|_| InvalidTarget::Brackets)?;
            (host, rest.strip_prefix(':').ok_or(InvalidTarget::NoPort)?)
        } else {
            let (host, port) = text.rsplit_once(':').ok_or(InvalidTarget::NoPort)?;
            if host.contains(':') {
                return Err(InvalidTarget::Brackets);
            }
            (host, port)
        };
        let plausible = (1..=MAX_HOST).contains(&host.len())
            && host
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':'));
        if !plausible || host.starts_with('-') {
            return Err(InvalidTarget::Host);
        }
        // `u16::from_str` would take "+80".
        if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(InvalidTarget::Port);
        }
        match port.parse() {
            Ok(0) | Err(_) => Err(InvalidTarget::Port),
            Ok(port) => Ok(Self {
                host: host.to_owned(),
                port,
            }),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{InvalidTarget, Target};

    fn parse(text: &str) -> Result<(String, u16), InvalidTarget> {
        text.parse::<Target>().map(|t| (t.host, t.port))
    }

    #[test]
    fn names_and_addresses_of_both_families_are_targets() {
        for (text, host, port) in [
            ("db:5432", "db", 5432),
            ("db.internal.example:1", "db.internal.example", 1),
            ("10.0.0.7:65535", "10.0.0.7", 65535),
            ("[::1]:5432", "::1", 5432),
            ("[fe80::1]:22", "fe80::1", 22),
        ] {
            assert_eq!(parse(text), Ok((host.to_owned(), port)), "{text}");
            let shown = text.parse::<Target>().expect("a target").to_string();
            assert_eq!(shown, text);
        }
    }

    #[test]
    fn anything_else_says_what_is_wrong() {
        for (text, error) in [
            ("db", InvalidTarget::NoPort),
            ("[::1]", InvalidTarget::NoPort),
            ("db:", InvalidTarget::Port),
            ("db:0", InvalidTarget::Port),
            ("db:65536", InvalidTarget::Port),
            ("db:+80", InvalidTarget::Port),
            ("db:http", InvalidTarget::Port),
            ("::1:5432", InvalidTarget::Brackets),
            ("[::1:5432", InvalidTarget::Brackets),
            ("[db]:5432", InvalidTarget::Brackets),
            (":5432", InvalidTarget::Host),
            ("-o:22", InvalidTarget::Host),
            ("http://db:80", InvalidTarget::Brackets),
            ("a b:80", InvalidTarget::Host),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }
}

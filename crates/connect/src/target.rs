//! Where a connection should end: `HOST:PORT` as a person types it.
//!
//! The host is resolved by the gateway, never here. Pure.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Longest host name that can exist (RFC 1035 §2.3.4), in bytes.
const MAX_HOST: usize = 253;
/// Longest part of a host name (RFC 1035 §2.3.4), in bytes.
const MAX_LABEL: usize = 63;

/// Ports of the schemes of URLs that people paste.
const SCHEMES: [(&str, u16); 14] = [
    ("amqp", 5672),
    ("ftp", 21),
    ("http", 80),
    ("https", 443),
    ("ldap", 389),
    ("ldaps", 636),
    ("mongodb", 27017),
    ("mysql", 3306),
    ("postgres", 5432),
    ("postgresql", 5432),
    ("redis", 6379),
    ("rediss", 6379),
    ("sqlserver", 1433),
    ("ssh", 22),
];

/// Marks of variables of shells and of SSH that were not replaced.
const TEMPLATES: [&str; 6] = ["$", "{", "%h", "%n", "%p", "%r"];

/// A target behind a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// A name or an address; IPv6 without brackets.
    host: String,
    port: u16,
}

/// Why a text is no target. A URL or user name is not repeated: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum InvalidTarget {
    #[error("it has no port; write HOST:PORT")]
    NoPort,
    #[error("the port must be a number from 1 to 65535")]
    Port,
    #[error("write an IPv6 address in brackets, such as [::1]:5432")]
    Brackets,
    #[error("write HOST:PORT instead of a URL{}", .right.as_ref().map_or_else(String::new, |right| format!(", here {right}")))]
    Url { right: Option<Box<Target>> },
    #[error("write HOST:PORT without a user name; the program that connects gives it")]
    UserName,
    #[error("write HOST:PORT without a path")]
    Path,
    #[error("write the host in its ASCII form, which begins with xn--")]
    NotAscii,
    #[error("it holds a variable that was not replaced")]
    Template,
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

    /// Reads `HOST:PORT`. A host of any kind may stand in brackets, so that `[%h]:%p` of an SSH
    /// configuration is right for names and addresses alike.
    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let text = text.trim();
        if let Some((scheme, rest)) = text.split_once("://") {
            return Err(InvalidTarget::Url {
                right: of_url(scheme, rest).map(Box::new),
            });
        }
        if TEMPLATES.iter().any(|template| text.contains(template)) {
            return Err(InvalidTarget::Template);
        }
        if text.contains('@') {
            return Err(InvalidTarget::UserName);
        }
        if text.contains('/') {
            return Err(InvalidTarget::Path);
        }
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or(InvalidTarget::Brackets)?;
            (host, rest.strip_prefix(':').ok_or(InvalidTarget::NoPort)?)
        } else {
            let (host, port) = text.rsplit_once(':').ok_or(InvalidTarget::NoPort)?;
            if host.contains(':') {
                return Err(InvalidTarget::Brackets);
            }
            (host, port)
        };
        check_host(host)?;
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

fn check_host(host: &str) -> Result<(), InvalidTarget> {
    if !host.is_ascii() {
        return Err(InvalidTarget::NotAscii);
    }
    if host.contains(':') {
        return match host.parse::<Ipv6Addr>() {
            Ok(_) => Ok(()),
            Err(_) => Err(InvalidTarget::Host),
        };
    }
    if is_name(host) || host.parse::<Ipv4Addr>().is_ok() {
        Ok(())
    } else {
        Err(InvalidTarget::Host)
    }
}

/// True for what DNS can hold, with or without the dot at its end.
fn is_name(host: &str) -> bool {
    let labels = host.strip_suffix('.').unwrap_or(host);
    let is_label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && !label.starts_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let is_number = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
    let has_form_of_address = labels.split('.').count() == 4 && labels.split('.').all(is_number);
    labels.len() <= MAX_HOST && labels.split('.').all(is_label) && !has_form_of_address
}

/// The target of a URL of this scheme; `rest` is behind `://`.
fn of_url(scheme: &str, rest: &str) -> Option<Target> {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let place = authority
        .rsplit_once('@')
        .map_or(authority, |(_, place)| place);
    if let Ok(target) = place.parse() {
        return Some(target);
    }
    let scheme = scheme.to_ascii_lowercase();
    let (_, port) = SCHEMES.iter().find(|(known, _)| *known == scheme)?;
    format!("{place}:{port}").parse().ok()
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
    fn names_and_addresses_are_targets() {
        for (text, host, port) in [
            ("db:5432", "db", 5432),
            ("db.internal.example:1", "db.internal.example", 1),
            ("10.0.0.7:65535", "10.0.0.7", 65535),
            ("[::1]:5432", "::1", 5432),
            ("[fe80::1]:22", "fe80::1", 22),
            ("db_1.internal.:22", "db_1.internal.", 22),
        ] {
            assert_eq!(parse(text), Ok((host.to_owned(), port)), "{text}");
            let shown = text.parse::<Target>().expect("a target").to_string();
            assert_eq!(shown, text);
        }
    }

    #[test]
    fn any_host_may_stand_in_brackets() {
        for (text, shown) in [
            ("[db.internal]:5432", "db.internal:5432"),
            ("[10.0.0.7]:22", "10.0.0.7:22"),
            ("[::1]:22", "[::1]:22"),
            (" db:22\n", "db:22"),
        ] {
            let target = text.parse::<Target>().map(|target| target.to_string());
            assert_eq!(target.as_deref(), Ok(shown), "{text}");
        }
    }

    #[test]
    fn url_is_answered_without_its_password() {
        for (text, right) in [
            ("postgres://db:5432", "db:5432"),
            (
                "postgres://user:hunter2@db.internal/app?x=1",
                "db.internal:5432",
            ),
            ("https://[::1]/x", "[::1]:443"),
            ("SSH://build-7", "build-7:22"),
            ("tcp://db:1", "db:1"),
        ] {
            let error = text.parse::<Target>().expect_err("a URL").to_string();
            let expected = format!("write HOST:PORT instead of a URL, here {right}");
            assert_eq!(error, expected, "{text}");
        }
        let error = "jdbc:x://hunter2".parse::<Target>().expect_err("a URL");
        assert_eq!(error.to_string(), "write HOST:PORT instead of a URL");
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
            ("[db:5432", InvalidTarget::Brackets),
            (":5432", InvalidTarget::Host),
            ("[]:5432", InvalidTarget::Host),
            ("[db:1]:5432", InvalidTarget::Host),
            ("-o:22", InvalidTarget::Host),
            ("a..b:22", InvalidTarget::Host),
            ("10.0.0.256:22", InvalidTarget::Host),
            ("a b:80", InvalidTarget::Host),
            ("root@db:22", InvalidTarget::UserName),
            ("db:5432/app", InvalidTarget::Path),
            ("b\u{fc}ro:22", InvalidTarget::NotAscii),
            ("%h:%p", InvalidTarget::Template),
            ("$HOST:22", InvalidTarget::Template),
            ("db:${PORT}", InvalidTarget::Template),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }
}

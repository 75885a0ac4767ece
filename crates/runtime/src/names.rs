//! Names on the wire, each a type of its own, so that a relay's name is never taken for a
//! gateway's.
//!
//! Lengths and the alphabet of gateway names are the platform's (protocol-addendum.md §1). A
//! gateway name is escaped where it becomes part of a file name, a unit name or a URL; the other
//! alphabets are ours and need no escaping.

use std::fmt::{self, Write as _};
use std::str::FromStr;

/// TCP port of a relay's SSH server (protocol.md §3).
pub const SSH_PORT: u16 = 2222;
/// TCP port of a relay's TLS server (protocol.md §4).
pub const TLS_PORT: u16 = 8443;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {given:?} is not valid: {rule}")]
pub struct InvalidName {
    what: &'static str,
    given: String,
    rule: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $valid:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            #[doc = concat!("Checks that `text` is a ", $what, ".\n\n# Errors\n[`InvalidName`] says the rule: ", $rule, ".")]
            pub fn try_new(text: impl Into<String>) -> Result<Self, InvalidName> {
                let text: String = text.into();
                // The platform trims names, too.
                let trimmed = text.trim();
                let text = if trimmed.len() == text.len() { text } else { trimmed.to_owned() };
                let valid: fn(&str) -> bool = $valid;
                if valid(&text) {
                    Ok(Self(text))
                } else {
                    // Never echo an unbounded foreign text.
                    let given = text.chars().take(80).collect();
                    Err(InvalidName { what: $what, given, rule: $rule })
                }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::try_new(text)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(d)?;
                Self::try_new(text).map_err(serde::de::Error::custom)
            }
        }
    };
}

fn is_label(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

name!(
    /// The name a person gave a gateway: 1–64 characters of any kind, without white space around
    /// them.
    GatewayName,
    "gateway name",
    |text| {
        (1..=64).contains(&text.chars().count())
            && text.trim() == text
            && !text.chars().any(char::is_control)
    },
    "use 1 to 64 characters, none of them a control character"
);

name!(
    /// The name a person gave a relay: 1–32 characters.
    RelayName,
    "relay name",
    |text| is_label(text, 32),
    "use 1 to 32 letters, digits, '-', '_' or '.', beginning with a letter or digit"
);

name!(
    /// The name that an operator gave a service behind a gateway: 1–64 characters.
    ServiceName,
    "service name",
    |text| is_label(text, 64),
    "use 1 to 64 letters, digits, '-', '_' or '.', beginning with a letter or digit"
);

name!(
    /// The id that the platform gave a gateway (a UUID today); also its SSH user name and the
    /// routing key.
    GatewayId,
    "gateway id",
    |text| (1..=128).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic()),
    "it must be 1 to 128 printable ASCII characters without spaces"
);

name!(
    /// The id that the platform gave a relay (a UUID today).
    RelayId,
    "relay id",
    |text| (1..=128).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic()),
    "it must be 1 to 128 printable ASCII characters without spaces"
);

name!(
    /// A relay's address as the platform knows it: a DNS name or an IP address, never with a port.
    RelayHost,
    "relay host",
    |text| {
        text.parse::<std::net::IpAddr>().is_ok()
            || ((1..=253).contains(&text.len())
                && text.split('.').all(|label| {
                    (1..=63).contains(&label.len())
                        && !label.starts_with('-')
                        && !label.ends_with('-')
                        && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
                }))
    },
    "it must be a DNS name or an IP address, without scheme or port"
);

impl GatewayName {
    /// The name as one segment of a URL's path.
    #[must_use]
    pub fn url_segment(&self) -> String {
        let mut segment = String::new();
        for byte in self.0.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') {
                segment.push(char::from(byte));
            } else {
                // Writing to a string cannot fail.
                let _ = write!(segment, "%{byte:02X}");
            }
        }
        segment
    }
}

impl GatewayId {
    /// The routing key of the platform's health check of a relay (protocol.md §4).
    pub const HEALTH_CHECK: &'static str = "00000000-0000-0000-0000-000000000000";
}

impl RelayName {
    /// True if the platform takes the name for a new relay: its slugs are lower-case letters,
    /// digits and hyphens.
    #[must_use]
    pub fn is_slug(&self) -> bool {
        let is_allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        self.0.bytes().all(is_allowed)
    }

    /// The key id of every gateway certificate issued for this relay (protocol.md §2).
    #[must_use]
    pub fn client_key_id(&self) -> String {
        format!("client-{}", self.0)
    }
}

impl RelayHost {
    /// True for a text that ends in a number without being an IP address, such as 256.1.1.1: such a
    /// name is never in DNS, and programs disagree about what address it is (WHATWG URL, "ends in a
    /// number").
    #[must_use]
    pub fn is_numeric_name(&self) -> bool {
        let last = self.0.rsplit('.').next().unwrap_or_default();
        let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
        let is_number = match hexadecimal {
            Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
            None => last.bytes().all(|byte| byte.is_ascii_digit()),
        };
        is_number && self.0.parse::<std::net::IpAddr>().is_err()
    }

    /// The principal that the relay's host certificate must carry, exactly (protocol.md §2).
    #[must_use]
    pub fn host_principal(&self) -> String {
        format!("{}:{SSH_PORT}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{GatewayId, GatewayName, RelayHost, RelayName};

    #[test]
    fn lengths_are_those_of_the_protocol() {
        assert!(GatewayName::try_new("g".repeat(64)).is_ok());
        assert!(GatewayName::try_new("g".repeat(65)).is_err());
        assert!(RelayName::try_new("r".repeat(32)).is_ok());
        assert!(RelayName::try_new("r".repeat(33)).is_err());
        assert!(GatewayName::try_new("").is_err());
    }

    #[test]
    fn relay_name_cannot_escape_its_directory() {
        for bad in ["../etc", "-name", ".hidden", "a/b", "a b", "a%i"] {
            assert!(RelayName::try_new(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn gateway_name_follows_the_platforms_rules() {
        for (given, name, segment) in [
            ("My Gateway", "My Gateway", "My%20Gateway"),
            ("  edge-1\n", "edge-1", "edge-1"),
            ("a/b?c#d%e", "a/b?c#d%e", "a%2Fb%3Fc%23d%25e"),
            ("..", "..", "%2E%2E"),
            ("büro", "büro", "b%C3%BCro"),
        ] {
            let parsed = GatewayName::try_new(given).expect(given);
            assert_eq!((parsed.as_str(), &*parsed.url_segment()), (name, segment));
        }
        assert!(GatewayName::try_new("ü".repeat(64)).is_ok());
        for bad in ["", "  ", "a\u{7}b", "a\nb"] {
            assert!(GatewayName::try_new(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn relay_host_has_no_scheme_or_port() {
        for good in ["relay.example.com", "127.0.0.7", "::1", "localhost"] {
            assert!(RelayHost::try_new(good).is_ok(), "{good:?} was refused");
        }
        for bad in ["", "https://relay", "relay:2222", "a..b", "-a.example"] {
            assert!(RelayHost::try_new(bad).is_err(), "{bad:?} was accepted");
        }
        let host = RelayHost::try_new("10.0.0.1").expect("an address");
        assert_eq!(host.host_principal(), "10.0.0.1:2222");
    }

    #[test]
    fn the_error_names_the_rule() {
        let error = GatewayId::try_new("a b").expect_err("a space");
        assert!(
            error
                .to_string()
                .contains("gateway id \"a b\" is not valid"),
            "{error}"
        );
    }
}

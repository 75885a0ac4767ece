//! The host that a session asks for, as it is looked up and as rules see it.

use std::net::{IpAddr, Ipv6Addr};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetHost {
    /// For the resolver.
    dialled: String,
    /// In lower case and without a dot at its end; `None` for an address.
    name: Option<String>,
}

/// A host that no resolver could know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is no host name")]
pub struct InvalidHost;

impl TargetHost {
    /// Reads a name or an address; IPv6 may stand in brackets and have a zone. A name that is not
    /// ASCII is looked up in its ASCII form: resolvers have that, and rules are judged by it.
    ///
    /// # Errors
    /// A name that has no such form.
    pub fn parse(host: &str) -> Result<Self, InvalidHost> {
        let inner = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = inner.unwrap_or(host);
        let dialled = match host.is_ascii() {
            true => host.to_owned(),
            false => match url::Host::parse(host) {
                Ok(url::Host::Domain(name)) => name,
                Ok(url::Host::Ipv4(address)) => address.to_string(),
                Ok(url::Host::Ipv6(_)) | Err(_) => return Err(InvalidHost),
            },
        };
        let mut host = Self {
            dialled,
            name: None,
        };
        if host.address().is_none() {
            host.name = Some(lower(&host.dialled));
        }
        Ok(host)
    }

    /// What the resolver is asked for.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.dialled
    }

    /// The address that it is, if it is one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        match self.dialled.split_once('%') {
            None => self.dialled.parse().ok(),
            // Of IPv4 a resolver would take the whole for a name.
            Some((address, _zone)) => address.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        }
    }

    /// What rules for names are compared with; `None` for an address.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

/// `name` as rules have it.
pub(super) fn lower(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::{InvalidHost, TargetHost};

    #[test]
    fn names_and_addresses_are_told_apart() {
        for (given, dialled, name) in [
            ("db.internal", "db.internal", Some("db.internal")),
            ("DB.Internal.", "DB.Internal.", Some("db.internal")),
            ("10.0.0.1", "10.0.0.1", None),
            ("[fd00::1]", "fd00::1", None),
            ("fe80::1%eth0", "fe80::1%eth0", None),
            (
                "10.0.0.1%a.example",
                "10.0.0.1%a.example",
                Some("10.0.0.1%a.example"),
            ),
            // Forms that only resolvers know: their answer is judged.
            ("0x7f.1", "0x7f.1", Some("0x7f.1")),
            ("2130706433", "2130706433", Some("2130706433")),
            (
                "bücher.internal",
                "xn--bcher-kva.internal",
                Some("xn--bcher-kva.internal"),
            ),
            ("ｄｂ.internal", "db.internal", Some("db.internal")),
            ("１２７.0.0.1", "127.0.0.1", None),
        ] {
            let host = TargetHost::parse(given).expect(given);
            assert_eq!((host.as_str(), host.name()), (dialled, name), "{given}");
        }
        assert_eq!(TargetHost::parse("a\u{fffd}b"), Err(InvalidHost));
    }
}

//! `NO_PROXY`, by the rules of Go's `golang.org/x/net/http/httpproxy`. Pure.

use std::net::IpAddr;

use ipnet::IpNet;

/// What is reached without a proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NoProxy {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    /// `*`.
    All,
    /// `10.0.0.0/8`.
    Network(IpNet),
    /// `10.0.0.1`, `10.0.0.1:443`, `[fd00::1]:443`.
    Address(IpAddr, Option<u16>),
    /// `name`, `.name`, `*.name`, each with or without a port.
    Name {
        /// With its first dot.
        suffix: String,
        /// The name itself counts, and not only names below it.
        with_itself: bool,
        port: Option<u16>,
    },
}

impl NoProxy {
    /// Reads a list that is separated by commas. An entry that means nothing is passed over, as Go
    /// does.
    pub(super) fn parse(list: &str) -> Self {
        let entries = list.split(',').map(|entry| entry.trim().to_lowercase());
        Self {
            rules: entries.filter_map(|entry| rule(&entry)).collect(),
        }
    }

    /// True if `host`, in lower case and equal to `address` if it is one, is reached without a
    /// proxy.
    pub(super) fn holds(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        self.rules
            .iter()
            .any(|rule| rule.holds(host, address, port))
    }
}

impl Rule {
    fn holds(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        let is_port = |rule: &Option<u16>| rule.is_none_or(|wanted| wanted == port);
        match (self, address) {
            (Self::All, _) => true,
            (Self::Network(network), Some(address)) => network.contains(&address),
            (Self::Address(only, port), Some(address)) => *only == address && is_port(port),
            (
                Self::Name {
                    suffix,
                    with_itself,
                    port,
                },
                None,
            ) => {
                let is_itself = *with_itself && suffix.strip_prefix('.') == Some(host);
                (is_itself || host.ends_with(suffix)) && is_port(port)
            }
            (Self::Network(_) | Self::Address(..), None) | (Self::Name { .. }, Some(_)) => false,
        }
    }
}

fn rule(entry: &str) -> Option<Rule> {
    if entry == "*" {
        return Some(Rule::All);
    }
    if let Ok(network) = entry.parse() {
        return Some(Rule::Network(network));
    }
    let (host, port) = split_port(entry)?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    if let Ok(address) = host.parse::<IpAddr>() {
        return Some(Rule::Address(address.to_canonical(), port));
    }
    let host = host
        .strip_prefix('*')
        .filter(|rest| rest.starts_with('.'))
        .unwrap_or(host);
    if host.is_empty() || host == "." {
        return None;
    }
    let with_itself = !host.starts_with('.');
    let name = host.strip_prefix('.').unwrap_or(host);
    // As a URL has it: names that are not ASCII in their ASCII form.
    let name = match url::Host::parse(name) {
        Ok(url::Host::Domain(name)) => name,
        Ok(_) | Err(_) => name.to_owned(),
    };
    Some(Rule::Name {
        suffix: format!(".{name}"),
        with_itself,
        port,
    })
}

/// The entry's host and port; `None` if there is no host. An IPv6 address without brackets has no
/// port.
fn split_port(entry: &str) -> Option<(&str, Option<u16>)> {
    if entry.parse::<IpAddr>().is_ok() {
        return Some((entry, None));
    }
    let (host, port) = match entry.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
        Some(_) | None => (entry, None),
    };
    // A port that is not a number is none that a URL may have.
    let is_port_wrong = host.len() != entry.len() && port.is_none() && !entry.ends_with(':');
    (!host.is_empty() && !is_port_wrong).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::NoProxy;
    use std::net::IpAddr;

    /// The cases of Go's own tests (`httpproxy/proxy_test.go`), and those of the kinds that it
    /// lists.
    #[test]
    fn hosts_are_matched_as_go_matches_them() {
        let go = "foobar.com, .barbaz.net, *.glob.example, 192.168.1.1, 192.168.1.2:81, \
                  192.168.1.3:80, 10.0.0.0/30, 2001:db8::52:0:1, [2001:db8::52:0:2]:443, \
                  [2001:db8::52:0:3], 2002:db8:a::45/64, port.example:8443, B\u{fc}cher.example,,  ";
        for (host, port, direct) in [
            ("barbaz.net", 80, false),
            ("www.barbaz.net", 80, true),
            ("foobar.com", 80, true),
            ("www.foobar.com", 443, true),
            ("foofoobar.com", 80, false),
            ("baz.com", 80, false),
            ("localhost.net", 80, false),
            ("local.localhost.net", 80, false),
            ("glob.example", 443, false),
            ("a.b.glob.example", 443, true),
            ("192.168.1.1", 80, true),
            ("192.168.1.1", 443, true),
            ("192.168.1.2", 80, false),
            ("192.168.1.2", 81, true),
            ("192.168.1.3", 80, true),
            ("192.168.1.4", 80, false),
            ("10.0.0.2", 80, true),
            ("10.0.0.4", 80, false),
            ("2001:db8::52:0:1", 443, true),
            ("2001:db8::52:0:2", 443, true),
            ("2001:db8::52:0:2", 80, false),
            ("2001:db8::52:0:3", 80, true),
            ("2002:db8:a::123", 80, true),
            ("2002:db8:a:1::123", 80, false),
            ("fe80::424b:c8be:1643:a1b6", 80, false),
            ("port.example", 8443, true),
            ("a.port.example", 8443, true),
            ("port.example", 443, false),
            ("xn--bcher-kva.example", 443, true),
        ] {
            let address: Option<IpAddr> = host.parse().ok();
            assert_eq!(
                NoProxy::parse(go).holds(host, address, port),
                direct,
                "{host}:{port}"
            );
        }
    }

    #[test]
    fn star_matches_all_nonsense_matches_none() {
        let holds =
            |list: &str, host: &str| NoProxy::parse(list).holds(host, host.parse().ok(), 443);
        for host in ["a.example", "10.0.0.1", "fd00::1"] {
            assert!(holds("a, *", host), "{host}");
            for list in [
                "",
                ",",
                ".",
                "*.",
                ":443",
                "[]",
                "10.0.0.0/99",
                "a.example:https",
            ] {
                assert!(!holds(list, host), "{list} {host}");
            }
        }
        // A part of a network's address does not match as text.
        assert!(!holds("0.0.1", "10.0.0.1"));
        assert!(holds("::ffff:10.0.0.1", "10.0.0.1"));
    }
}

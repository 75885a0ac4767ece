//! One rule: `HOST`, `HOST:PORT` or `HOST:FIRST-LAST`.
//!
//! The host is an address, a network (`10.0.0.0/16`), a name, a suffix (`*.internal` or `.internal`:
//! names below it, and not itself), or `*` for everything. IPv6 with a port needs brackets.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

use super::host::lower;

/// Longest host name, and its longest part (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;
/// Digits of a port.
const MAX_DIGITS: usize = 5;
/// Of a wrong rule, so much is shown.
const MAX_SHOWN: usize = 64;
/// Prefix length of an IPv4 address within its mapped form (RFC 4291 §2.5.5.2).
const MAPPED_BITS: u8 = 96;

/// See the module. It is shown as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    text: String,
    host: Host,
    ports: RangeInclusive<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Any,
    Network(IpNet),
    Name(String),
    /// With its first dot.
    Suffix(String),
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum InvalidRule {
    #[error("it has no host; write * for every host")]
    NoHost,
    #[error("{0:?} is no port from 1 to 65535, and no range such as 8000-8999")]
    Port(String),
    #[error("the range of ports ends before it begins")]
    PortOrder,
    #[error("a bracket is missing, or something stands behind it that is no port")]
    Brackets,
    #[error("an IPv6 address needs brackets before a port: [fd00::/8]:443")]
    NeedsBrackets,
    #[error("{0:?} is no network such as 10.0.0.0/16 or fd00::/8")]
    Network(String),
    #[error("the address has bits behind its prefix; write {0}")]
    HostBits(IpNet),
    #[error("a zone (%…) is never compared; write the address without it")]
    Zone,
    #[error("write the IPv4 address as four decimal numbers")]
    AddressForm,
    #[error("write the name in its ASCII form, {0}")]
    NotAscii(String),
    #[error("* stands alone, or as the first part of a name: *.internal")]
    Wildcard,
    #[error("it is neither an address, nor a network, nor a host name")]
    Name,
}

/// Every wrong rule of a list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", join(.0))]
pub struct InvalidRules(pub Vec<(usize, String, InvalidRule)>);

fn join(wrong: &[(usize, String, InvalidRule)]) -> String {
    let texts = wrong.iter().map(|(number, text, error)| {
        let shown: String = text.chars().take(MAX_SHOWN).collect();
        format!("rule {number} ({shown}): {error}")
    });
    texts.collect::<Vec<_>>().join("; ")
}

impl Rule {
    /// Reads rules that stand between commas or white space.
    ///
    /// # Errors
    /// Every text that is no rule, with its number from 1.
    pub fn parse_list(list: &str) -> Result<Vec<Self>, InvalidRules> {
        let texts = list.split(|c: char| c == ',' || c.is_whitespace());
        let texts = texts.filter(|text| !text.is_empty());
        let (mut rules, mut wrong) = (Vec::new(), Vec::new());
        for (number, text) in (1..).zip(texts) {
            match text.parse() {
                Ok(rule) => rules.push(rule),
                Err(error) => wrong.push((number, text.to_owned(), error)),
            }
        }
        if rules.is_empty() && wrong.is_empty() && !list.trim().is_empty() {
            // Nothing but commas would allow everything.
            wrong.push((1, list.trim().to_owned(), InvalidRule::NoHost));
        }
        if wrong.is_empty() {
            Ok(rules)
        } else {
            Err(InvalidRules(wrong))
        }
    }

    /// True if it is for this name, which is in lower case and without a dot at its end.
    #[must_use]
    pub fn matches_name(&self, name: &str, port: u16) -> bool {
        let is_host = match &self.host {
            Host::Any => true,
            Host::Name(only) => only == name,
            Host::Suffix(suffix) => name.len() > suffix.len() && name.ends_with(suffix.as_str()),
            Host::Network(_) => false,
        };
        is_host && self.ports.contains(&port)
    }

    /// True if it is for addresses, on this port, and not for names.
    #[must_use]
    pub fn is_for_addresses(&self, port: u16) -> bool {
        matches!(self.host, Host::Network(_)) && self.ports.contains(&port)
    }

    /// True if it is for this address.
    pub(super) fn matches_address(&self, address: IpAddr, port: u16) -> bool {
        let is_host = match &self.host {
            Host::Any => true,
            Host::Network(network) => network.contains(&address),
            Host::Name(_) | Host::Suffix(_) => false,
        };
        is_host && self.ports.contains(&port)
    }

    /// True if it is for this address, and for no other one.
    pub(super) fn is_exactly(&self, address: IpAddr, port: u16) -> bool {
        let Host::Network(network) = &self.host else {
            return false;
        };
        network.prefix_len() == network.max_prefix_len() && self.matches_address(address, port)
    }
}

impl FromStr for Rule {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Self, InvalidRule> {
        let (host, ports) = split(text)?;
        Ok(Self {
            text: text.to_owned(),
            host: parse_host(host)?,
            ports: ports.map_or(Ok(0..=u16::MAX), parse_ports)?,
        })
    }
}

/// The host, and the ports if there are any.
fn split(text: &str) -> Result<(&str, Option<&str>), InvalidRule> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, behind) = rest.split_once(']').ok_or(InvalidRule::Brackets)?;
        if !host.contains(':') {
            return Err(InvalidRule::Brackets);
        }
        let ports = match behind {
            "" => None,
            _ => Some(behind.strip_prefix(':').ok_or(InvalidRule::Brackets)?),
        };
        return Ok((host, ports));
    }
    match text.split_once(':') {
        Some((host, ports)) if !ports.contains(':') => Ok((host, Some(ports))),
        // IPv6 without brackets has no port.
        Some(_)
            if text
                .rsplit_once('/')
                .is_some_and(|(_, bits)| bits.contains(':')) =>
        {
            Err(InvalidRule::NeedsBrackets)
        }
        Some(_) | None => Ok((text, None)),
    }
}

fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, InvalidRule> {
    let port = |text: &str| {
        let is_number = text.len() <= MAX_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
        let port = is_number.then(|| text.parse::<u16>().ok()).flatten();
        port.filter(|port| *port > 0)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let invalid = || InvalidRule::Port(text.chars().take(MAX_SHOWN).collect());
    let first = port(first).ok_or_else(invalid)?;
    let last = port(last).ok_or_else(invalid)?;
    if first > last {
        return Err(InvalidRule::PortOrder);
    }
    Ok(first..=last)
}

fn parse_host(text: &str) -> Result<Host, InvalidRule> {
    match text {
        "" => return Err(InvalidRule::NoHost),
        "*" => return Ok(Host::Any),
        _ if text.contains('%') => return Err(InvalidRule::Zone),
        _ => {}
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Host::Network(canonical(address.into())));
    }
    if text.contains('/') {
        let shown = || InvalidRule::Network(text.chars().take(MAX_SHOWN).collect());
        let network: IpNet = text.parse().map_err(|_| shown())?;
        if network.trunc() != network {
            return Err(InvalidRule::HostBits(network.trunc()));
        }
        return Ok(Host::Network(canonical(network)));
    }
    let suffix = text.strip_prefix('*');
    if suffix.is_some() || text.starts_with('.') {
        let suffix = suffix.unwrap_or(text);
        let name = suffix.strip_prefix('.').ok_or(InvalidRule::Wildcard)?;
        return Ok(Host::Suffix(format!(".{}", parse_name(name)?)));
    }
    Ok(Host::Name(parse_name(text)?))
}

/// A network of mapped addresses is one of IPv4: that is where the kernel connects to.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(mapped) = network else {
        return network;
    };
    let bits = mapped.prefix_len().checked_sub(MAPPED_BITS);
    let address = mapped.addr().to_ipv4_mapped();
    match address
        .zip(bits)
        .map(|(address, bits)| Ipv4Net::new(address, bits))
    {
        Some(Ok(network)) => network.into(),
        Some(Err(_)) | None => network,
    }
}

/// A host name in lower case.
fn parse_name(text: &str) -> Result<String, InvalidRule> {
    if !text.is_ascii() {
        return Err(match url::Host::parse(text) {
            Ok(name) => InvalidRule::NotAscii(name.to_string()),
            Err(_) => InvalidRule::Name,
        });
    }
    if text.contains('*') {
        return Err(InvalidRule::Wildcard);
    }
    let name = lower(text);
    let is_label = |label: &str| {
        let is_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=MAX_LABEL).contains(&label.len()) && label.bytes().all(is_byte)
    };
    if name.len() > MAX_NAME || !name.split('.').all(is_label) {
        return Err(InvalidRule::Name);
    }
    // Resolvers take these for addresses (inet_aton(3)).
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_hex = last
        .strip_prefix("0x")
        .is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
    if is_hex || last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidRule::AddressForm);
    }
    Ok(name)
}

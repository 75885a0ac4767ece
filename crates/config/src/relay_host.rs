//! The host of a relay as a person gives it: the one address at which gateways and clients reach
//! it. Pure.

use std::net::IpAddr;

use crate::names::{InvalidName, RelayHost, SSH_PORT, TLS_PORT};

/// Why a text is not the host of a relay, with the right form where there is one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum InvalidRelayHost {
    #[error(
        "{0} stands for every address and cannot be reached; give the DNS name or the IP address at which \
         gateways and clients reach the relay (where it listens is set by --ssh-listen and --tls-listen)"
    )]
    Unspecified(IpAddr),
    #[error(
        "{0} is neither a DNS name nor an IP address; an IPv4 address has four numbers from 0 to 255"
    )]
    Numeric(RelayHost),
    #[error("a dot at the end is not part of the name here; write {0}")]
    TrailingDot(RelayHost),
    #[error("write an IPv6 address without brackets: {0}")]
    Brackets(RelayHost),
    #[error("write the host without a port: {0} (the ports are always {SSH_PORT} and {TLS_PORT})")]
    Port(RelayHost),
    #[error("write the host alone, not a URL{}", .0.as_ref().map_or_else(String::new, |right| format!(": {right}")))]
    Url(Option<RelayHost>),
    #[error(transparent)]
    Name(#[from] InvalidName),
}

/// Reads the host of a relay.
///
/// # Errors
/// [`InvalidRelayHost`] says what to write.
pub fn parse(text: &str) -> Result<RelayHost, InvalidRelayHost> {
    let invalid = match text.parse::<RelayHost>() {
        Ok(host) => return usable(host),
        Err(invalid) => invalid,
    };
    if let Some((_, rest)) = text.split_once("://") {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let place = authority
            .rsplit_once('@')
            .map_or(authority, |(_, place)| place);
        let right = host(place).map(usable).transpose()?;
        return Err(InvalidRelayHost::Url(right));
    }
    if let Some(right) = text.strip_suffix('.').and_then(host) {
        let right = usable(right)?;
        return Err(InvalidRelayHost::TrailingDot(right));
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    if let Some(right) = bare.and_then(host) {
        let right = usable(right)?;
        return Err(InvalidRelayHost::Brackets(right));
    }
    if let Some(right) = host(text) {
        let right = usable(right)?;
        return Err(InvalidRelayHost::Port(right));
    }
    Err(invalid.into())
}

/// `host`, if it can be reached at all: a hint must not name what the next run refuses.
fn usable(host: RelayHost) -> Result<RelayHost, InvalidRelayHost> {
    if let Ok(given) = host.as_str().parse::<IpAddr>()
        && given.is_unspecified()
    {
        return Err(InvalidRelayHost::Unspecified(given));
    }
    if host.is_numeric_name() {
        return Err(InvalidRelayHost::Numeric(host));
    }
    Ok(host)
}

/// The host of `HOST`, `HOST:PORT`, `[HOST]` or `[HOST]:PORT`.
fn host(text: &str) -> Option<RelayHost> {
    let host = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (rest.is_empty() || rest.starts_with(':')).then_some(host)?
        }
        None => match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') && is_port(port) => host,
            Some(_) | None => text,
        },
    };
    host.parse().ok()
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn host_is_a_name_or_an_address() {
        for text in [
            "relay.example.com",
            "10.0.0.1",
            "2001:db8::1",
            "localhost",
            "1.2.3.example",
            "relay1",
        ] {
            assert_eq!(parse(text).expect(text).as_str(), text);
        }
    }

    #[test]
    fn wrong_host_gets_the_right_form() {
        for (text, part) in [
            ("0.0.0.0", "0.0.0.0 stands for every address"),
            ("::", ":: stands for every address"),
            ("[::]", ":: stands for every address"),
            ("[::]:2222", ":: stands for every address"),
            ("0.0.0.0:2222", "0.0.0.0 stands for every address"),
            ("http://0.0.0.0/", "0.0.0.0 stands for every address"),
            ("256.1.1.1", "256.1.1.1 is neither a DNS name nor"),
            ("1.2.3", "1.2.3 is neither a DNS name nor"),
            ("127.1", "127.1 is neither a DNS name nor"),
            ("0", "0 is neither a DNS name nor"),
            ("0x7f000001", "0x7f000001 is neither a DNS name nor"),
            ("127.1:2222", "127.1 is neither a DNS name nor"),
            ("relay.example.com.", "write relay.example.com"),
            ("[2001:db8::1]", "without brackets: 2001:db8::1"),
            ("[2001:db8::1]:2222", "without a port: 2001:db8::1"),
            (
                "relay.example.com:8443",
                "without a port: relay.example.com",
            ),
            ("10.0.0.1:2222", "without a port: 10.0.0.1"),
            ("https://relay.example.com/", "not a URL: relay.example.com"),
            (
                "https://u:hunter2@[2001:db8::1]:1",
                "not a URL: 2001:db8::1",
            ),
            ("https://", "write the host alone, not a URL"),
            ("a..b", "relay host \"a..b\" is not valid"),
            ("a_b:c", "relay host \"a_b:c\" is not valid"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}

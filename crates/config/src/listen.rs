//! A local address to listen on, as a person gives it for a command of their own: `ADDR:PORT`, or
//! the port alone for this machine only. Pure; no name but `localhost` is known.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::value::clean;

/// Why a text is not a local address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum InvalidListen {
    #[error(
        "the port must be a number from 0 to 65535; write ADDR:PORT, or only PORT for this machine"
    )]
    Port,
    #[error("write an IPv6 address in brackets, such as [::1]:5432")]
    Brackets,
    #[error("write 0.0.0.0:{0} for every IPv4 address of this machine, [::]:{0} for every address")]
    Everywhere(u16),
    #[error("write ADDR:PORT, without a scheme")]
    Url,
    #[error("the address must be an IP address of this machine or localhost")]
    Address,
}

/// Reads an address. A port alone, also with a colon before it, and `localhost` are 127.0.0.1.
///
/// # Errors
/// [`InvalidListen`] says what to write.
pub fn parse(text: &str) -> Result<SocketAddr, InvalidListen> {
    let text = clean(text);
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    if text.contains("://") {
        return Err(InvalidListen::Url);
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(InvalidListen::Brackets);
    }
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidListen::Port);
    }
    let port: u16 = port.parse().map_err(|_| InvalidListen::Port)?;
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match bare.unwrap_or(host) {
        "" if bare.is_none() => Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
        name if name.eq_ignore_ascii_case("localhost") => {
            Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
        }
        "*" => Err(InvalidListen::Everywhere(port)),
        name => match name.parse::<IpAddr>() {
            Ok(address @ IpAddr::V4(_)) => Ok(SocketAddr::new(address, port)),
            Ok(IpAddr::V6(_)) => Err(InvalidListen::Brackets),
            Err(_) => Err(InvalidListen::Address),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{InvalidListen, parse};

    #[test]
    fn port_alone_and_localhost_are_loopback() {
        for (text, address) in [
            ("127.0.0.1:5432", "127.0.0.1:5432"),
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("[::1]:5432", "[::1]:5432"),
            ("5432", "127.0.0.1:5432"),
            (":5432", "127.0.0.1:5432"),
            ("0", "127.0.0.1:0"),
            ("localhost:5432", "127.0.0.1:5432"),
            ("LocalHost:5432", "127.0.0.1:5432"),
            ("[127.0.0.1]:5432", "127.0.0.1:5432"),
            (" 5432\n", "127.0.0.1:5432"),
        ] {
            let parsed = parse(text).map(|address| address.to_string());
            assert_eq!(parsed.as_deref(), Ok(address), "{text:?}");
        }
    }

    #[test]
    fn wrong_addresses_get_the_right_form() {
        use InvalidListen::{Address, Brackets, Everywhere, Port, Url};
        for (text, error) in [
            ("", Port),
            ("127.0.0.1", Port),
            ("127.0.0.1:", Port),
            ("localhost", Port),
            ("65536", Port),
            ("127.0.0.1:-1", Port),
            ("+5432", Port),
            ("::1", Brackets),
            ("::1:5432", Brackets),
            ("fe80::1:2:3:4:5:6:5432", Brackets),
            ("*:5432", Everywhere(5432)),
            ("tcp://127.0.0.1:5432", Url),
            ("db.internal:5432", Address),
            ("[]:5432", Address),
        ] {
            assert_eq!(parse(text), Err(error), "{text:?}");
        }
    }
}

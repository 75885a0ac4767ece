//! Which address a request counts for: that of its connection, or what a trusted proxy says of it
//! in `X-Forwarded-For`.
//!
//! The header is a list to which each proxy adds the address that it was called from. Everyone can
//! send one, so it is read from its end, and only as long as trusted proxies have written it: what
//! a client claims stands before that and is never reached.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName};
use ipnet::IpNet;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The proxies whose word is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TrustedProxies(pub(crate) Vec<IpNet>);

impl TrustedProxies {
    /// For which address a request with `headers` counts that came from `peer`. Without a port
    /// unless it is `peer`'s.
    pub(crate) fn source(&self, peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        if !self.trusts(peer.ip()) {
            return peer;
        }
        let values = headers.get_all(FORWARDED_FOR).iter().rev();
        // A value that is no text ends what can be believed.
        let texts = values.map_while(|value| value.to_str().ok());
        let hops = texts.flat_map(|text| text.rsplit(','));
        let mut source = peer;
        for hop in hops.map_while(address) {
            source = SocketAddr::new(hop, 0);
            if !self.trusts(hop) {
                break;
            }
        }
        source
    }

    fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// One entry of the list; some proxies add a port.
fn address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']'));
    let address = bare.unwrap_or(hop).parse::<IpAddr>().ok();
    let with_port = || hop.parse::<SocketAddr>().ok().map(|address| address.ip());
    address.or_else(with_port).map(|found| found.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::{FORWARDED_FOR, TrustedProxies};
    use axum::http::{HeaderMap, HeaderValue};

    fn source(peer: &str, values: &[&str]) -> String {
        let networks = ["10.0.0.0/8", "127.0.0.1/32", "fd00::/8"];
        let networks = networks.map(|network| network.parse().expect("a network"));
        let mut headers = HeaderMap::new();
        for value in values {
            let value = HeaderValue::from_bytes(value.as_bytes()).expect("a value");
            headers.append(FORWARDED_FOR, value);
        }
        let peer = peer.parse().expect("an address");
        let source = TrustedProxies(networks.to_vec()).source(peer, &headers);
        source.ip().to_string()
    }

    #[test]
    fn strangers_cannot_choose_their_address() {
        for values in [&["192.0.2.1"][..], &["10.0.0.1, 192.0.2.1"], &[]] {
            assert_eq!(source("198.51.100.7:5", values), "198.51.100.7");
        }
        // What the client has sent stands before what the proxy has added.
        for forged in [
            "192.0.2.1, 203.0.113.9",
            "10.0.0.1,203.0.113.9",
            "x, 203.0.113.9",
        ] {
            assert_eq!(source("127.0.0.1:5", &[forged]), "203.0.113.9");
        }
        assert_eq!(
            source("127.0.0.1:5", &["192.0.2.1", "203.0.113.9"]),
            "203.0.113.9"
        );
    }

    #[test]
    fn chain_of_proxies_is_followed() {
        let chain = "192.0.2.1, 203.0.113.9, 10.0.0.1, fd00::1";
        assert_eq!(source("127.0.0.1:5", &[chain]), "203.0.113.9");
        assert_eq!(source("[::ffff:10.1.1.1]:5", &[chain]), "203.0.113.9");
        // All of them are ours: the first one asked.
        assert_eq!(source("127.0.0.1:5", &["10.0.0.2, 10.0.0.1"]), "10.0.0.2");
    }

    #[test]
    fn unreadable_hop_counts_for_its_proxy() {
        for value in ["unknown", "", "203.0.113.9, _hidden", "999.0.0.1", "\u{e9}"] {
            assert_eq!(source("127.0.0.1:5", &[value]), "127.0.0.1", "{value}");
        }
        assert_eq!(source("127.0.0.1:5", &["x, 10.0.0.1"]), "10.0.0.1");
        for (value, found) in [
            ("203.0.113.9:4711", "203.0.113.9"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
        ] {
            assert_eq!(source("127.0.0.1:5", &[value]), found);
        }
    }

    #[test]
    fn no_proxy_is_trusted_by_default() {
        let mut headers = HeaderMap::new();
        headers.insert(FORWARDED_FOR, HeaderValue::from_static("192.0.2.1"));
        let peer = "127.0.0.1:5".parse().expect("an address");
        assert_eq!(TrustedProxies::default().source(peer, &headers), peer);
    }
}

//! A loopback address on which a relay finds both of its ports free.
//!
//! The ports are the protocol's and not on the wire, so two relays on one machine need two addresses;
//! all of 127/8 is this machine. Another program may take a port between the look and the relay's
//! own bind: the caller then takes the next candidate.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

/// How many addresses are looked at, from 127.0.0.1 up.
const CANDIDATES: u8 = 64;

/// The addresses on which every one of `ports` is free now, 127.0.0.1 first.
pub(super) fn free(ports: [u16; 2]) -> impl Iterator<Item = IpAddr> {
    (1..=CANDIDATES)
        .map(|last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)))
        .filter(move |&address| {
            // Both at once, or one of them could be counted twice.
            let bound = ports.map(|port| TcpListener::bind(SocketAddr::new(address, port)));
            bound.iter().all(Result::is_ok)
        })
}

#[cfg(test)]
mod tests {
    use super::free;
    use std::net::{IpAddr, Ipv4Addr, TcpListener};

    #[test]
    fn an_address_with_one_port_taken_is_passed_over() {
        let first = TcpListener::bind("127.0.0.1:0").expect("a port");
        let taken = first.local_addr().expect("its address").port();
        let other = TcpListener::bind("127.0.0.1:0").expect("a port");
        let open = other.local_addr().expect("its address").port();
        drop(other);
        let found = free([taken, open]).next().expect("some address is free");
        assert_ne!(found, IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert!(found.is_loopback());
    }

    #[test]
    fn a_port_taken_on_all_addresses_leaves_none() {
        let all = TcpListener::bind("0.0.0.0:0").expect("a port");
        let taken = all.local_addr().expect("its address").port();
        let other = TcpListener::bind("127.0.0.1:0").expect("a port");
        let open = other.local_addr().expect("its address").port();
        drop(other);
        assert_eq!(free([open, taken]).next(), None);
    }
}

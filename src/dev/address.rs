//! A loopback address on which a relay finds both of its ports free.
//!
//! The ports are the protocol's and not on the wire, so two relays on one machine need two
//! addresses; all of 127/8 is this machine. Another program may take a port between the look and
//! the relay's own bind: the caller then takes the next candidate.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

/// How many addresses are looked at, from 127.0.0.1 up.
const CANDIDATES: u8 = 64;

/// An address on which every one of `ports` is free now: the first one after `skipped` candidates,
/// in a circle.
pub(super) fn free(ports: [u16; 2], skipped: u8) -> Option<IpAddr> {
    candidates(skipped).find(|&address| {
        // Both at once, or one of them could be counted twice.
        let bound = ports.map(|port| TcpListener::bind(SocketAddr::new(address, port)));
        bound.iter().all(Result::is_ok)
    })
}

fn candidates(skipped: u8) -> impl Iterator<Item = IpAddr> {
    (0..CANDIDATES)
        .map(move |step| 1 + skipped.wrapping_add(step) % CANDIDATES)
        .map(|last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)))
}

/// Where to look after someone else took what was free: anywhere, since who lost the same race
/// would otherwise lose the next one, too.
pub(super) fn elsewhere() -> u8 {
    u8::try_from(crate::backoff::random() % u64::from(CANDIDATES)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{CANDIDATES, candidates, elsewhere, free};
    use std::collections::HashSet;
    use std::net::{IpAddr, Ipv4Addr, TcpListener};

    #[test]
    fn address_with_a_taken_port_is_skipped() {
        let first = TcpListener::bind("127.0.0.1:0").expect("a port");
        let taken = first.local_addr().expect("its address").port();
        let other = TcpListener::bind("127.0.0.1:0").expect("a port");
        let open = other.local_addr().expect("its address").port();
        drop(other);
        let found = free([taken, open], 0).expect("some address is free");
        assert_ne!(found, IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert!(found.is_loopback());
    }

    #[test]
    fn the_search_goes_round_in_a_circle() {
        for (skipped, first) in [(0, 1), (1, 2), (63, 64), (64, 1), (255, 64)] {
            let all: Vec<IpAddr> = candidates(skipped).collect();
            assert_eq!(all[0], IpAddr::V4(Ipv4Addr::new(127, 0, 0, first)));
            let distinct: HashSet<&IpAddr> = all.iter().collect();
            assert_eq!(distinct.len(), usize::from(CANDIDATES));
        }
        assert!(elsewhere() < CANDIDATES);
    }

    #[test]
    fn port_taken_on_all_addresses_leaves_none() {
        let all = TcpListener::bind("0.0.0.0:0").expect("a port");
        let taken = all.local_addr().expect("its address").port();
        let other = TcpListener::bind("127.0.0.1:0").expect("a port");
        let open = other.local_addr().expect("its address").port();
        drop(other);
        assert_eq!(free([open, taken], 0), None);
    }
}

//! A loopback address that belongs to one case alone: ports 2222 and 8443 are the protocol's, so
//! cases that run side by side differ in the address. On Linux all of 127/8 is there.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The usable part of 127/8 beside 127.0/16, which people and their services use.
const FIRST: u32 = 0x7f01_0001;
const COUNT: u32 = 0x00fd_ffff;

/// An address that no other case of this run has, and on which no one listens on the relay's ports.
pub fn address() -> Ipv4Addr {
    static NEXT: OnceLock<AtomicU32> = OnceLock::new();
    // A random start keeps two runs on one machine apart.
    let next = NEXT.get_or_init(|| {
        let mut bytes = [0; 4];
        getrandom::fill(&mut bytes).expect("randomness");
        AtomicU32::new(u32::from_be_bytes(bytes))
    });
    for _ in 0..100 {
        let step = next.fetch_add(1, Ordering::Relaxed);
        let address = Ipv4Addr::from(FIRST + step % COUNT);
        if matches!(address.octets()[3], 0 | 255) {
            continue;
        }
        let free = [2222, 8443]
            .iter()
            .all(|port| is_free(SocketAddr::from((address, *port))));
        if free {
            return address;
        }
    }
    panic!("no free loopback address in 100 tries");
}

/// True if no one listens there. It does not listen itself: a child that is being started at this
/// moment would hold the port for a moment longer.
fn is_free(address: SocketAddr) -> bool {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    socket.set_reuse_address(true).expect("an option");
    socket.bind(&address.into()).is_ok()
}

//! From which of this machine's addresses it would speak to a peer now.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The address that the kernel would choose for a new connection to `peer`. Nothing is sent.
///
/// # Errors
/// There is no route.
pub fn towards(peer: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match peer {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(peer)?;
    Ok(socket.local_addr()?.ip().to_canonical())
}

/// The two ends of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    local: IpAddr,
    peer: SocketAddr,
}

impl Ends {
    /// Those of `stream`; `None` if the kernel does not say.
    #[must_use]
    pub fn of(stream: &tokio::net::TcpStream) -> Option<Self> {
        let local = stream.local_addr().ok()?.ip().to_canonical();
        let peer = stream.peer_addr().ok()?;
        Some(Self { local, peer })
    }

    /// True if a new connection would be made from another address: the old one is gone, or the way
    /// to the peer is another one now.
    #[must_use]
    pub fn have_moved(&self) -> bool {
        // Without any way there is nothing to compare.
        towards(self.peer).is_ok_and(|now| now != self.local)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::{TcpListener, TcpSocket};

    use super::{Ends, towards};

    #[tokio::test]
    async fn connection_from_unchosen_address_has_moved() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a port");
        let peer = listener.local_addr().expect("an address");
        assert_eq!(towards(peer).expect("a route"), Ipv4Addr::LOCALHOST);
        for (from, moved) in [([127, 0, 0, 1], false), ([127, 9, 9, 9], true)] {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.bind((from, 0).into()).expect("an address");
            let stream = socket.connect(peer).await.expect("a connection");
            let ends = Ends::of(&stream).expect("two ends");
            assert_eq!(ends.have_moved(), moved, "{from:?}");
        }
    }
}

//! The TCP ports at which this process listens, so that no peer can make it connect to itself.
//!
//! One list for the process: the part that dials knows nothing of the parts that listen.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::net::TcpListener;

static LISTENING: Mutex<Vec<SocketAddr>> = Mutex::new(Vec::new());

fn listening() -> MutexGuard<'static, Vec<SocketAddr>> {
    // Whole at any time.
    LISTENING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A socket is on the list until this is dropped.
#[derive(Debug)]
pub struct Listed(SocketAddr);

impl Listed {
    /// Puts `listener` on the list; `None` if the kernel does not say where it listens.
    #[must_use]
    pub fn new(listener: &TcpListener) -> Option<Self> {
        let address = listener.local_addr().ok()?;
        listening().push(address);
        Some(Self(address))
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut listening = listening();
        if let Some(at) = listening.iter().position(|listed| *listed == self.0) {
            listening.swap_remove(at);
        }
    }
}

/// The listed socket that a connection to `target` reaches, if one does.
#[must_use]
pub fn reached_at(target: SocketAddr) -> Option<SocketAddr> {
    let sockets = listening().clone();
    sockets
        .into_iter()
        .find(|socket| is_reached(*socket, target))
}

/// True if a connection to `target` reaches what listens at `socket` on this machine.
#[must_use]
pub fn is_reached(socket: SocketAddr, target: SocketAddr) -> bool {
    if socket.port() != target.port() {
        return false;
    }
    let address = match target.ip().to_canonical() {
        // Linux connects to this machine instead (ip(7)).
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    };
    match socket.ip().to_canonical() {
        IpAddr::V4(any) if any.is_unspecified() => address.is_ipv4() && is_local(target, address),
        // Sockets of both families.
        IpAddr::V6(any) if any.is_unspecified() => is_local(target, address),
        only => only == address,
    }
}

/// True if `address`, that of `target`, is one of this machine's.
fn is_local(target: SocketAddr, address: IpAddr) -> bool {
    if address.is_loopback() {
        return true;
    }
    let mut near = target;
    near.set_ip(address);
    near.set_port(0);
    // Only the kernel knows all of them. Nothing is sent. A sandbox that forbids this does not say
    // whose address it is: it counts as ours.
    let bound = UdpSocket::bind(near);
    !bound.is_err_and(|error| error.kind() == ErrorKind::AddrNotAvailable)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::net::TcpListener;

    use super::{Listed, is_reached, reached_at};

    #[test]
    fn wildcard_socket_is_at_own_addresses() {
        for (socket, target, reached) in [
            ("127.0.0.1:9", "127.0.0.1:9", true),
            ("127.0.0.1:9", "127.0.0.1:10", false),
            ("127.0.0.1:9", "127.0.0.2:9", false),
            ("127.0.0.1:9", "[::ffff:127.0.0.1]:9", true),
            ("127.0.0.1:9", "0.0.0.0:9", true),
            ("[::1]:9", "[::]:9", true),
            ("0.0.0.0:9", "127.3.2.1:9", true),
            ("0.0.0.0:9", "[::1]:9", false),
            ("0.0.0.0:9", "192.0.2.1:9", false),
            ("[::]:9", "127.3.2.1:9", true),
            ("[::]:9", "[::1]:9", true),
            ("[::]:9", "[2001:db8::1]:9", false),
        ] {
            let [at, to] = [socket, target].map(|text| text.parse().expect(text));
            assert_eq!(is_reached(at, to), reached, "{target} at {socket}");
        }
    }

    #[tokio::test]
    async fn socket_is_listed_while_it_is_open() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address: SocketAddr = listener.local_addr().expect("bound");
        assert_eq!(reached_at(address), None);
        let listed = Listed::new(&listener);
        assert_eq!(reached_at(address), Some(address));
        drop(listed);
        assert_eq!(reached_at(address), None);
    }
}

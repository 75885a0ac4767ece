//! Listening TCP sockets.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections that the kernel queues before they are accepted.
const BACKLOG: i32 = 1024;

/// A listening socket could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct Error {
    address: String,
    #[source]
    source: io::Error,
}

/// Listens on `address`, or on `port` of every address of both families where `None`.
///
/// # Errors
/// The address is in use, not this machine's, or not permitted.
pub fn bind(address: Option<SocketAddr>, port: u16) -> Result<TcpListener, Error> {
    let bound = match address {
        Some(address) => bind_to(address),
        // One socket for both families where the kernel has IPv6, else IPv4 alone.
        None => bind_to(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))
            .or_else(|_| bind_to(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))),
    };
    bound.map_err(|source| {
        let address = address.map_or_else(|| format!("port {port}"), |a| a.to_string());
        Error { address, source }
    })
}

fn bind_to(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A restarted daemon must not wait for its old connections' TIME-WAIT.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

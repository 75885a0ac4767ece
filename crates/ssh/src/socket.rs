//! What a session needs of its TCP connection, besides the bytes.

use std::time::Duration;

use tokio::net::TcpStream;

/// The kernel gives up on unacknowledged data after this long, so that a dead peer is noticed
/// even by a session that is blocked on writing.
pub(super) const USER_TIMEOUT: Duration = Duration::from_secs(28);
/// Bytes that the kernel takes before it can send them. What it has taken nothing can overtake, so on a slow path keepalives,
/// key exchanges and other channels' packets would wait behind megabytes of a bulk transfer.
const NOT_SENT_LOW_WATER: u32 = 128 * 1024;

/// Prepares a connection to carry a session. What the system does not know is left out: keepalives remain.
pub fn prepare(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    let options = [
        (
            "TCP_USER_TIMEOUT",
            socket.set_tcp_user_timeout(Some(USER_TIMEOUT)),
        ),
        (
            "TCP_NOTSENT_LOWAT",
            socket.set_tcp_notsent_lowat(NOT_SENT_LOW_WATER),
        ),
    ];
    for (option, result) in options {
        if let Err(error) = result {
            tracing::debug!(%error, option, "cannot set a socket option");
        }
    }
}

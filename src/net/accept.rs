//! Accepts connections within limits: a permit first, then the connection, and patience when the
//! process is out of descriptors.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Pause after the kernel could not give a descriptor or memory: existing connections will free some.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(200);

/// A listener that holds at most so many connections at once.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    permits: Arc<Semaphore>,
}

/// An accepted connection; its permit is given back when `permit` is dropped.
#[derive(Debug)]
pub struct Accepted {
    /// The connection, without Nagle's delay.
    pub stream: TcpStream,
    /// Where it came from; an IPv4 peer of a dual-stack socket is shown as IPv4.
    pub peer: SocketAddr,
    /// Held for as long as the connection counts against the limit.
    pub permit: OwnedSemaphorePermit,
}

impl Acceptor {
    /// At most `limit` connections hold a permit at once; further ones wait in the kernel's queue.
    #[must_use]
    pub fn new(listener: TcpListener, limit: usize) -> Self {
        Self {
            listener,
            permits: Arc::new(Semaphore::new(limit)),
        }
    }

    /// The address listened on.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The next connection. Cancel-safe: a connection is either returned or still in the queue.
    ///
    /// # Errors
    /// Only what no waiting can cure: the listener itself is broken.
    pub async fn accept(&self) -> io::Result<Accepted> {
        loop {
            let permits = Arc::clone(&self.permits);
            let permit = permits.acquire_owned().await.map_err(io::Error::other)?;
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    super::dial::prepare(&stream);
                    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                    return Ok(Accepted {
                        stream,
                        peer,
                        permit,
                    });
                }
                Err(error) if is_listener_broken(&error) => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection; trying again");
                    drop(permit);
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }
}

/// Errors of accept(2) that belong to the listening socket. All others belong to one connection or to a
/// lack of descriptors or memory, and pass.
fn is_listener_broken(error: &io::Error) -> bool {
    use nix::errno::Errno;
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::EBADF | Errno::EINVAL | Errno::ENOTSOCK | Errno::EOPNOTSUPP | Errno::EFAULT)
    )
}

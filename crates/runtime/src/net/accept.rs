//! Accepts connections within limits: a permit first, then the connection, and patience when the
//! process is out of descriptors or memory: connections wait in the kernel's queue, and those that
//! there are go on.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::late_close::LateClose;
use crate::error::chain;

/// Pause after the kernel could not give a descriptor or memory: existing connections will free
/// some.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(200);

/// How long connections must have been accepted without a failure before the lack counts as over.
const CALM: Duration = Duration::from_secs(5);

/// A listener that holds at most so many connections at once, and closes refused ones late.
#[derive(Debug)]
pub struct Acceptor {
    incoming: Incoming,
    refused: LateClose,
}

#[derive(Debug)]
struct Incoming {
    listener: TcpListener,
    permits: Arc<Semaphore>,
    shortage: Shortage,
    /// The address listened on, for the log.
    address: String,
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
        let address = listener.local_addr();
        let incoming = Incoming {
            address: address.map_or_else(|_| String::new(), |address| address.to_string()),
            listener,
            permits: Arc::new(Semaphore::new(limit)),
            shortage: Shortage::default(),
        };
        Self {
            incoming,
            refused: LateClose::new(),
        }
    }

    /// The address listened on.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.incoming.listener.local_addr()
    }

    /// The next connection. Cancel-safe: a connection is either returned or still in the queue.
    ///
    /// # Errors
    /// Only what no waiting can cure: the listener itself is broken.
    pub async fn accept(&mut self) -> io::Result<Accepted> {
        loop {
            tokio::select! {
                accepted = self.incoming.next() => return accepted,
                () = self.refused.close_next() => {}
            }
        }
    }

    /// Closes a connection a second from now. It no longer counts against the limit.
    pub fn refuse(&mut self, accepted: Accepted) {
        self.refused.close(accepted.stream);
    }
}

impl Incoming {
    async fn next(&mut self) -> io::Result<Accepted> {
        loop {
            let permits = Arc::clone(&self.permits);
            let permit = permits.acquire_owned().await.map_err(io::Error::other)?;
            let Some(accepted) = self.shortage.calm(self.listener.accept()).await else {
                tracing::info!(address = self.address, "connections are accepted again");
                continue;
            };
            let error = match accepted {
                Ok((stream, peer)) => {
                    self.shortage.accepted();
                    super::dial::prepare(&stream);
                    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                    return Ok(Accepted {
                        stream,
                        peer,
                        permit,
                    });
                }
                Err(error) => error,
            };
            match error_scope(&error) {
                ErrorScope::Listener => return Err(error),
                ErrorScope::Connection => {
                    tracing::debug!(%error, "a connection ended before it was accepted");
                }
                ErrorScope::Host => {
                    if self.shortage.refused(Instant::now()) {
                        tracing::warn!(
                            address = self.address,
                            error = %chain(&error),
                            "connections are not accepted for now; those that there are go on"
                        );
                    }
                    drop(permit);
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }
}

/// A lack of descriptors or memory, from the first failure until connections have been accepted for
/// a while without another. One line is logged at either end, however often the two alternate in
/// between.
#[derive(Debug, Default)]
struct Shortage(Option<Lack>);

#[derive(Debug)]
struct Lack {
    /// When the kernel refused last.
    last: Instant,
    /// True if a connection was accepted after that.
    has_accepted: bool,
}

impl Shortage {
    /// The kernel refused; true if that is news.
    fn refused(&mut self, now: Instant) -> bool {
        match &mut self.0 {
            Some(lack) => {
                lack.last = now;
                lack.has_accepted = false;
                false
            }
            None => {
                self.0 = Some(Lack {
                    last: now,
                    has_accepted: false,
                });
                true
            }
        }
    }

    /// A connection was accepted.
    fn accepted(&mut self) {
        if let Some(lack) = &mut self.0 {
            lack.has_accepted = true;
        }
    }

    /// When the lack is over if nothing is refused before.
    fn over_at(&self) -> Option<Instant> {
        let lack = self.0.as_ref().filter(|lack| lack.has_accepted)?;
        Some(lack.last + CALM)
    }

    /// Waits for `accepting`; `None` if the lack was found to be over meanwhile.
    async fn calm<T>(&mut self, accepting: impl Future<Output = T>) -> Option<T> {
        let Some(over_at) = self.over_at() else {
            return Some(accepting.await);
        };
        if let Ok(accepted) = tokio::time::timeout_at(over_at, accepting).await {
            return Some(accepted);
        }
        self.0 = None;
        None
    }
}

/// Whose an error of accept(2) is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ErrorScope {
    /// The listening socket: no waiting cures it.
    Listener,
    /// The connection that would have been accepted: the next one may be good.
    Connection,
    /// This host, which lacks descriptors or memory; that passes.
    Host,
}

fn error_scope(error: &io::Error) -> ErrorScope {
    use nix::errno::Errno;
    match error.raw_os_error().map(Errno::from_raw) {
        Some(
            Errno::EBADF | Errno::EINVAL | Errno::ENOTSOCK | Errno::EOPNOTSUPP | Errno::EFAULT,
        ) => ErrorScope::Listener,
        // Errors of the network that were pending on the new socket (accept(2)).
        Some(
            Errno::ECONNABORTED
            | Errno::EPROTO
            | Errno::ENOPROTOOPT
            | Errno::ENETDOWN
            | Errno::ENETUNREACH
            | Errno::ENONET
            | Errno::EHOSTDOWN
            | Errno::EHOSTUNREACH
            | Errno::EINTR,
        ) => ErrorScope::Connection,
        _ => ErrorScope::Host,
    }
}

#[cfg(test)]
mod tests {
    use super::{CALM, ErrorScope, Shortage, error_scope};
    use nix::errno::Errno;
    use std::io;
    use std::time::Duration;
    use tokio::time::Instant;

    #[test]
    fn accept_errors_have_their_scope() {
        for (error, whose) in [
            (Errno::EBADF, ErrorScope::Listener),
            (Errno::ECONNABORTED, ErrorScope::Connection),
            (Errno::EMFILE, ErrorScope::Host),
            (Errno::ENFILE, ErrorScope::Host),
            (Errno::ENOMEM, ErrorScope::Host),
            (Errno::ENOBUFS, ErrorScope::Host),
        ] {
            let error = io::Error::from_raw_os_error(error as i32);
            assert_eq!(error_scope(&error), whose, "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn shortage_is_reported_once_at_each_end() {
        let mut shortage = Shortage::default();
        assert!(shortage.refused(Instant::now()), "news");
        for _ in 0..20 {
            tokio::time::advance(CALM / 2).await;
            shortage.accepted();
            // Someone comes before it is over.
            assert_eq!(shortage.calm(std::future::ready(1)).await, Some(1));
            assert!(!shortage.refused(Instant::now()), "still the same");
        }
        // No one was accepted since: nothing says that it is over.
        tokio::time::advance(CALM * 2).await;
        assert_eq!(shortage.over_at(), None);
        shortage.accepted();
        let no_one = std::future::pending::<()>();
        assert_eq!(shortage.calm(no_one).await, None, "over");
        assert!(shortage.refused(Instant::now()), "a new one");
    }

    #[tokio::test(start_paused = true)]
    async fn without_shortage_only_the_connection_ends() {
        let mut shortage = Shortage::default();
        let accepting = tokio::time::sleep(Duration::from_secs(3600));
        assert_eq!(shortage.calm(accepting).await, Some(()));
    }
}

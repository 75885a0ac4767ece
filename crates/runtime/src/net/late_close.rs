//! Closes refused connections a second later. A peer that comes again as soon as it is refused
//! would otherwise take as much of a core from us as it has itself: so it comes once in a second.
//!
//! A refused connection holds a descriptor and nothing else; there are at most [`MOST`], and a
//! sixteenth of the descriptors that this process may have. Beyond that they are closed at once.

use std::collections::VecDeque;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

/// How long a refused connection stays open.
const DELAY: Duration = Duration::from_secs(1);
/// Refused connections that are open at once.
const MOST: usize = 4096;

/// Refused connections, the oldest first.
#[derive(Debug)]
pub(super) struct LateClose {
    open: VecDeque<(Instant, TcpStream)>,
    most: usize,
}

impl LateClose {
    pub(super) fn new() -> Self {
        let (descriptors, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or_default();
        let share = usize::try_from(descriptors / 16).unwrap_or(usize::MAX);
        Self {
            open: VecDeque::new(),
            most: share.min(MOST),
        }
    }

    /// Closes a connection a second from now.
    pub(super) fn close(&mut self, refused: TcpStream) {
        if self.open.len() < self.most {
            self.open.push_back((Instant::now() + DELAY, refused));
        }
    }

    /// Closes the oldest one when its time has come. Cancel-safe.
    pub(super) async fn close_next(&mut self) {
        match self.open.front() {
            Some((at, _)) => sleep_until(*at).await,
            None => std::future::pending().await,
        }
        self.open.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::{DELAY, LateClose};
    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::{Instant, timeout};

    #[tokio::test]
    async fn refused_connections_close_a_second_later() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut late = LateClose::new();
        late.most = 2;
        let begin = Instant::now();
        let mut refused = Vec::new();
        for _ in 0..3 {
            refused.push(TcpStream::connect(address).await.expect("open"));
            let (accepted, _) = listener.accept().await.expect("accepted");
            late.close(accepted);
        }
        let mut beyond = refused.pop().expect("the third");
        assert_eq!(beyond.read(&mut [0]).await.expect("the end"), 0);
        let closing = async {
            for mut stream in refused {
                late.close_next().await;
                assert_eq!(stream.read(&mut [0]).await.expect("the end"), 0);
            }
        };
        timeout(10 * DELAY, closing).await.expect("closed in time");
        assert!(begin.elapsed() >= DELAY);
    }

    #[tokio::test]
    async fn refused_connection_does_not_count() {
        use crate::net::accept::Acceptor;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        // One at a time counts.
        let mut acceptor = Acceptor::new(listener, 1);
        let mut refused = Vec::new();
        for _ in 0..2 {
            refused.push(TcpStream::connect(address).await.expect("open"));
            let accepted = acceptor.accept().await.expect("accepted");
            acceptor.refuse(accepted);
        }
        let ends = async {
            for mut stream in refused {
                assert_eq!(stream.read(&mut [0]).await.expect("the end"), 0);
            }
        };
        let limit = timeout(10 * DELAY, async {
            tokio::select! { () = ends => {}, _ = acceptor.accept() => panic!("nothing came") }
        });
        limit.await.expect("closed in time");
    }
}

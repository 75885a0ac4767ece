//! TCP connections that are reset unless they come to an orderly end.
//!
//! A socket that is closed sends FIN, which tells its peer that everything has been said, however
//! it came to be closed: by a failure, by a panic, or by the kernel when the process is killed.
//! [`arm`] turns that round: from then on closing the socket sends RST, and only [`disarm`], after
//! a complete exchange, makes it FIN again. Half-close is not touched by it.
//!
//! Closing an armed socket also discards what the kernel has not delivered yet. Before an abnormal
//! end [`delivered`] waits for that, so that the peer has everything that was received for it
//! before it learns that the rest is missing.

use std::time::Duration;

use nix::libc;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::GetStruct;
use tokio::net::TcpStream;

use super::progress::{LOOK_AGAIN, Progress as _, ProgressTimeout};

/// See socket(7) and `net/core/sock.c`: memory in use by a socket, as an array of numbers.
const SO_MEMINFO: libc::c_int = 55;
/// The number of bytes, overhead included, that were written and that the peer has not
/// acknowledged.
const WRITE_QUEUED: usize = 5;

#[derive(Debug, Clone, Copy)]
struct Memory;

nix::getsockopt_impl!(
    Memory,
    libc::SOL_SOCKET,
    SO_MEMINFO,
    [u32; 9],
    GetStruct<[u32; 9]>
);

/// From now on closing the connection resets it, even if the process is killed.
pub fn arm(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// From now on closing the connection ends it in order: the kernel delivers what was written.
pub fn disarm(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(None);
}

/// Waits until the peer has acknowledged everything that was written; true if it has. Gives up when
/// its [time](ProgressTimeout) is over.
pub async fn delivered(stream: &TcpStream) -> bool {
    delivered_within(stream, &mut ProgressTimeout::new()).await
}

/// The same with a time that has begun.
pub async fn delivered_within(stream: &TcpStream, timeout: &mut ProgressTimeout) -> bool {
    loop {
        if queued(stream) == 0 {
            return true;
        }
        if timeout.is_over(stream.progress()) {
            return false;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// What was written and is not acknowledged, in bytes with overhead. A kernel that does not say has
/// nothing to wait for.
fn queued(stream: &TcpStream) -> u32 {
    let numbers = getsockopt(stream, Memory).unwrap_or_default();
    numbers.get(WRITE_QUEUED).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::{arm, delivered, disarm, queued};

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.expect("connected"), far.expect("accepted").0)
    }

    /// Fills the connection until it takes no more; gives the number of bytes.
    async fn fill(stream: &mut TcpStream) -> usize {
        let bytes = vec![7; 64 * 1024];
        let mut total = 0;
        loop {
            stream.writable().await.expect("open");
            match stream.try_write(&bytes) {
                Ok(n) => total += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return total,
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[tokio::test]
    async fn reset_follows_full_delivery() {
        let (mut near, mut far) = pair().await;
        arm(&near);
        let written = fill(&mut near).await;
        assert!(queued(&near) > 0);
        let ending = async {
            delivered(&near).await;
            assert_eq!(queued(&near), 0);
            drop(near);
        };
        let mut received = Vec::new();
        let ((), read) = tokio::join!(ending, far.read_to_end(&mut received));
        assert_eq!(
            read.expect_err("reset").kind(),
            io::ErrorKind::ConnectionReset
        );
        assert_eq!(received.len(), written);
    }

    #[tokio::test]
    async fn a_disarmed_connection_ends_in_order() {
        let (mut near, mut far) = pair().await;
        arm(&near);
        near.write_all(b"all of it").await.expect("written");
        disarm(&near);
        drop(near);
        let mut received = String::new();
        far.read_to_string(&mut received)
            .await
            .expect("an orderly end");
        assert_eq!(received, "all of it");
    }

    #[tokio::test(start_paused = true)]
    async fn peer_that_takes_nothing_is_not_awaited() {
        let (mut near, far) = pair().await;
        arm(&near);
        fill(&mut near).await;
        delivered(&near).await;
        assert!(queued(&near) > 0);
        drop(far);
    }
}

//! The private service behind the tunnel: it sends, counts, echoes or stalls, as each stream asks
//! for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::entrance::Stream;
use crate::{BUFFER, in_background};

/// The argument that makes this bench a target.
pub(crate) const NAME: &str = "target";

/// The first thing on a stream.
#[derive(Clone, Copy)]
pub(crate) enum Ask {
    /// Send so many bytes, then end.
    Send(u64),
    /// Receive until the end, then answer the number of bytes.
    Count,
    /// Send everything back.
    Echo,
    /// Read nothing more.
    Stall,
}

impl Ask {
    pub(crate) async fn write(self, stream: &mut Stream) -> std::io::Result<()> {
        let (what, bytes) = match self {
            Self::Send(bytes) => (0, bytes),
            Self::Count => (1, 0),
            Self::Echo => (2, 0),
            Self::Stall => (3, 0),
        };
        // In one piece: two small segments could meet Nagle's algorithm in a peer.
        let mut message = vec![what];
        message.extend(bytes.to_be_bytes());
        stream.write_all(&message).await?;
        stream.flush().await
    }

    async fn read(stream: &mut TcpStream) -> std::io::Result<Self> {
        let (what, bytes) = (stream.read_u8().await?, stream.read_u64().await?);
        Ok(match what {
            0 => Self::Send(bytes),
            1 => Self::Count,
            2 => Self::Echo,
            _ => Self::Stall,
        })
    }
}

/// Serves until the bench ends.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// All bytes that were received by [`Ask::Count`] so far.
    pub(crate) received: Arc<AtomicU64>,
}

impl Target {
    /// In this process.
    pub(crate) async fn serve() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let target = Self {
            address: listener.local_addr()?,
            received: Arc::default(),
        };
        in_background(accept(listener, Arc::clone(&target.received)));
        Ok(target)
    }
}

/// Serves as a process of its own.
pub(crate) async fn serve_at(listen: &str) -> anyhow::Result<()> {
    accept(TcpListener::bind(listen).await?, Arc::default()).await;
    Ok(())
}

async fn accept(listener: TcpListener, received: Arc<AtomicU64>) {
    while let Ok((stream, _)) = listener.accept().await {
        let received = Arc::clone(&received);
        in_background(async move {
            // A client that goes away early is no failure of the target.
            let _ = answer(stream, &received).await;
        });
    }
}

async fn answer(mut stream: TcpStream, received: &AtomicU64) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0x5a; BUFFER];
    match Ask::read(&mut stream).await? {
        Ask::Send(bytes) => {
            let mut left = bytes;
            while left > 0 {
                let n = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
                stream
                    .write_all(buffer.get(..n).unwrap_or_default())
                    .await?;
                left = left.saturating_sub(n as u64);
            }
            stream.shutdown().await
        }
        Ask::Count => {
            let mut total = 0_u64;
            loop {
                let n = stream.read(&mut buffer).await? as u64;
                if n == 0 {
                    break;
                }
                total = total.saturating_add(n);
                received.fetch_add(n, Ordering::Relaxed);
            }
            stream.write_u64(total).await
        }
        Ask::Echo => loop {
            let n = stream.read(&mut buffer).await?;
            if n == 0 {
                return Ok(());
            }
            stream
                .write_all(buffer.get(..n).unwrap_or_default())
                .await?;
        },
        Ask::Stall => {
            drop(buffer);
            // It would not notice the end of the other side either: the bench's own end is its end.
            std::future::pending().await
        }
    }
}

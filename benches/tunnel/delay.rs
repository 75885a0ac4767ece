//! A line with a long way and no other limit: everything arrives so much later, in order, at any
//! rate.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use crate::{BUFFER, in_background};

/// Bytes that may be on their way in each direction: more than any window in use here, so that only
/// the tunnel's own windows limit it.
const ON_THE_WAY: usize = 128 * 1024 * 1024;

/// What is on its way.
struct Piece {
    due: Instant,
    bytes: Vec<u8>,
    /// Given back when the piece has arrived.
    _room: OwnedSemaphorePermit,
}

/// Gives an address whose connections go on to `there`, `delay` later in each direction.
pub(crate) async fn start(there: SocketAddr, delay: Duration) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    serve(listener, there, delay);
    Ok(address)
}

/// Each connection of `listener` goes on to `there`, `delay` later in each direction.
pub(crate) fn serve(listener: TcpListener, there: SocketAddr, delay: Duration) {
    in_background(async move {
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = TcpStream::connect(there).await else {
                continue;
            };
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            let (near_in, near_out) = near.into_split();
            let (far_in, far_out) = far.into_split();
            for (input, output) in [(near_in, far_out), (far_in, near_out)] {
                let (sender, pieces) = mpsc::unbounded_channel();
                in_background(take_in(input, delay, sender));
                in_background(give_out(pieces, output));
            }
        }
    });
}

async fn take_in(
    mut input: OwnedReadHalf,
    delay: Duration,
    pieces: mpsc::UnboundedSender<Piece>,
) -> std::io::Result<()> {
    // Counts bytes, not pieces: those are as small as the sender's writes.
    let room = Arc::new(Semaphore::new(ON_THE_WAY));
    let mut buffer = vec![0; BUFFER];
    loop {
        let n = input.read(&mut buffer).await?;
        let (Ok(wanted), Some(bytes)) = (u32::try_from(n), buffer.get(..n)) else {
            return Ok(());
        };
        // The end takes as long as the bytes before it: it is the end of the queue.
        let due = Instant::now() + delay;
        let Ok(room) = Arc::clone(&room).acquire_many_owned(wanted).await else {
            return Ok(());
        };
        let bytes = bytes.to_vec();
        let piece = Piece {
            due,
            bytes,
            _room: room,
        };
        if pieces.send(piece).is_err() || n == 0 {
            return Ok(());
        }
    }
}

async fn give_out(
    mut pieces: mpsc::UnboundedReceiver<Piece>,
    mut output: OwnedWriteHalf,
) -> std::io::Result<()> {
    while let Some(piece) = pieces.recv().await {
        tokio::time::sleep_until(piece.due).await;
        output.write_all(&piece.bytes).await?;
    }
    output.shutdown().await
}

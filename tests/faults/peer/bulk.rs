//! A target that sends or receives as fast as the connection goes, and the client's side of it.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Where it is, on its machine.
pub(crate) const BULK_PORT: u16 = 7002;
/// Bytes of one read or write.
const BLOCK: usize = 64 << 10;

/// What the target is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// The target sends.
    Download,
    /// The target receives, and answers one byte at the end.
    Upload,
}

/// Serves until the process is killed.
pub(super) fn serve() {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, BULK_PORT)).expect("the port");
    println!("ready");
    for client in listener.incoming().map_while(Result::ok) {
        std::thread::spawn(move || answer(client));
    }
}

fn answer(mut client: TcpStream) -> io::Result<()> {
    let (mut what, mut length) = ([0; 1], [0; 8]);
    client.read_exact(&mut what)?;
    client.read_exact(&mut length)?;
    let mut left = u64::from_be_bytes(length);
    let mut block = vec![0x5a; BLOCK];
    while left > 0 {
        let count = left.min(BLOCK as u64);
        let part = &mut block[..usize::try_from(count).expect("a block")];
        match what {
            [0] => client.write_all(part)?,
            _ => client.read_exact(part)?,
        }
        left -= count;
    }
    if what == [1] {
        client.write_all(&[1])?;
    }
    client.shutdown(std::net::Shutdown::Write)
}

/// The client's side: moves `length` bytes over `stream`.
pub(crate) async fn transfer<S>(mut stream: S, direction: Direction, length: u64) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = vec![u8::from(direction == Direction::Upload)];
    request.extend(length.to_be_bytes());
    stream.write_all(&request).await?;
    stream.flush().await?;
    let mut block = vec![0x5a; BLOCK];
    let mut left = length;
    while left > 0 {
        let count = left.min(BLOCK as u64);
        let part = &mut block[..usize::try_from(count).map_err(io::Error::other)?];
        match direction {
            Direction::Download => drop(stream.read_exact(part).await?),
            Direction::Upload => stream.write_all(part).await?,
        }
        left -= count;
    }
    if direction == Direction::Upload {
        stream.flush().await?;
        stream.read_u8().await?;
    }
    stream.shutdown().await
}

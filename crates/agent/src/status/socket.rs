//! The status socket: a peer that may connect sends one end of a pair of streams, and reads one
//! [`Document`] from the other. Nothing else is taken from the peer, so nothing can be commanded
//! through it.
//!
//! It is a datagram socket because the sandbox of a gateway forbids to listen.

use std::fs::{self, Permissions};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram as BlockingDatagram, UnixStream as BlockingStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{UnixDatagram, UnixStream};
use tokio::time::timeout;

use super::document::Document;
use crate::net::unix_socket;

/// The name of the socket in a service's own runtime directory.
pub const SERVICE: &str = "status.sock";
/// Peers that are served at a time; further ones wait in the kernel's queue.
const PEERS: usize = 8;
/// How long a peer may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Bytes of a document that are read, at most.
const MAX_DOCUMENT: u64 = 16 << 20;
/// Pause after a failure, when descriptors are short for instance.
const PAUSE: Duration = Duration::from_millis(500);

/// A socket that cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the status socket {}", .path.display())]
pub struct Error {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// A socket that receives requests. Its file goes when this is dropped.
#[derive(Debug)]
pub struct StatusSocket {
    socket: UnixDatagram,
    path: PathBuf,
}

impl StatusSocket {
    /// Receives at `path`, which only its owner can connect to, and makes its directory. A socket
    /// that another process left there is replaced.
    ///
    /// # Errors
    /// The directory or the file cannot be made, or another process receives there.
    pub fn bind(path: PathBuf) -> Result<Self, Error> {
        let bound = bind(&path);
        match bound {
            Ok(socket) => Ok(Self { socket, path }),
            Err(source) => Err(Error { path, source }),
        }
    }

    /// Serves what `document` gives, each time newly made. Never ends.
    pub async fn serve(self, document: impl Fn() -> Document) {
        let mut peers = FuturesUnordered::new();
        loop {
            let received = tokio::select! {
                received = receive(&self.socket), if peers.len() < PEERS => received,
                Some(_) = peers.next(), if !peers.is_empty() => continue,
            };
            match received {
                Ok(None) => {}
                Ok(Some(peer)) => {
                    let text = serde_json::to_vec(&document()).unwrap_or_default();
                    peers.push(timeout(LIMIT, write(peer, text)));
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

impl Drop for StatusSocket {
    fn drop(&mut self) {
        // If it is gone already, so much the better.
        let _ = fs::remove_file(&self.path);
        // Directories of a service are the service manager's; the others go with the last socket.
        if self.path.file_name() != Some(SERVICE.as_ref()) {
            for directory in self.path.ancestors().skip(1).take(2) {
                let _ = fs::remove_dir(directory);
            }
        }
    }
}

fn bind(path: &Path) -> io::Result<UnixDatagram> {
    let is_alive =
        |path: &Path| BlockingDatagram::unbound().is_ok_and(|socket| socket.connect(path).is_ok());
    unix_socket::prepare(path, is_alive)?;
    let socket = UnixDatagram::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(socket)
}

/// The stream that the next peer sends; `None` if it sent none.
async fn receive(socket: &UnixDatagram) -> io::Result<Option<OwnedFd>> {
    let receiving = || {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut byte)],
            &mut ancillary,
            flags,
        )?;
        let mut sent = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        Ok(sent.next().and_then(|mut descriptors| descriptors.next()))
    };
    socket.async_io(Interest::READABLE, receiving).await
}

async fn write(peer: OwnedFd, text: Vec<u8>) -> io::Result<()> {
    let peer = BlockingStream::from(peer);
    peer.set_nonblocking(true)?;
    // What is no stream at all fails here or below.
    let mut peer = UnixStream::from_std(peer)?;
    peer.write_all(&text).await?;
    peer.shutdown().await
}

/// Reads the document that the socket `path` serves.
///
/// # Errors
/// There is none, it may not be read, or it is none that this version of the program understands.
pub async fn read(path: &Path) -> io::Result<Document> {
    let reading = async {
        let (ours, theirs) = UnixStream::pair()?;
        send(path, &theirs.into_std()?.into()).await?;
        let mut text = Vec::new();
        ours.take(MAX_DOCUMENT).read_to_end(&mut text).await?;
        Ok(serde_json::from_slice(&text)?)
    };
    let late = || io::Error::from(io::ErrorKind::TimedOut);
    timeout(LIMIT, reading).await.map_err(|_| late())?
}

/// Sends `stream` to the socket `path`.
async fn send(path: &Path, stream: &OwnedFd) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    let sending = || {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let streams = [stream.as_fd()];
        ancillary.push(SendAncillaryMessage::ScmRights(&streams));
        let sent = sendmsg(
            &socket,
            &[IoSlice::new(&[0])],
            &mut ancillary,
            SendFlags::DONTWAIT,
        );
        sent.map(drop).map_err(io::Error::from)
    };
    socket.async_io(Interest::WRITABLE, sending).await
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixDatagram as BlockingDatagram;

    use tokio::net::UnixDatagram;

    use super::{StatusSocket, read, send};
    use crate::status::document::{Document, Origin, Sessions};
    use crate::status::gateway;

    fn document() -> Document {
        let origin = Origin {
            role: "gateway".to_owned(),
            name: "edge-1".to_owned(),
            program_version: "1.2.3".to_owned(),
            pid: 7,
            configuration: None,
        };
        Document::new(origin, &gateway().1.report(), Sessions::default())
    }

    #[tokio::test]
    async fn each_peer_reads_the_document() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("gateways/edge-1.sock");
        let socket = StatusSocket::bind(path.clone()).expect("bound");
        let mode = path.metadata().expect("a socket").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let served = document();
        let given = served.clone();
        let reading = async {
            for _ in 0..20 {
                assert_eq!(read(&path).await.expect("a document"), served);
            }
        };
        tokio::select! {
            () = socket.serve(move || given.clone()) => panic!("it ended"),
            () = reading => {}
        }
        assert!(!path.exists(), "the file goes with the socket");
    }

    #[tokio::test]
    async fn strange_peers_delay_no_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("status.sock");
        let socket = StatusSocket::bind(path.clone()).expect("bound");
        let file = std::fs::File::open(directory.path()).expect("a descriptor");
        let reading = async {
            for _ in 0..32 {
                let peer = UnixDatagram::unbound().expect("a socket");
                peer.connect(&path).expect("connected");
                peer.send(b"no descriptor").await.expect("sent");
                send(&path, &file.try_clone().expect("another").into())
                    .await
                    .expect("sent");
            }
            read(&path).await.expect("a document")
        };
        tokio::select! {
            () = socket.serve(document) => panic!("it ended"),
            read = reading => assert_eq!(read.origin.name, "edge-1"),
        }
    }

    #[tokio::test]
    async fn stale_sockets_are_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("status.sock");
        drop(BlockingDatagram::bind(&path).expect("bound"));
        let first = StatusSocket::bind(path.clone()).expect("replaced");
        StatusSocket::bind(path.clone()).expect_err("in use");
        drop(first);
        StatusSocket::bind(path).expect("free again");
    }
}

//! The status socket: a peer that may connect reads one [`Document`] and the end. Nothing is read
//! from the peer, so nothing can be commanded through it.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::document::Document;

/// Peers that are served at a time; further ones wait in the kernel's queue.
const PEERS: usize = 8;
/// How long a peer may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Bytes of a document that are read, at most.
const MAX_DOCUMENT: u64 = 16 << 20;
/// Pause after a failed accept, when descriptors are short for instance.
const PAUSE: Duration = Duration::from_millis(500);

/// A socket that cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the status socket {}", .path.display())]
pub struct Error {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// A socket that listens. Its file goes when this is dropped.
#[derive(Debug)]
pub struct StatusSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl StatusSocket {
    /// Listens at `path`, which only its owner can connect to, and makes its directory. A socket
    /// that another process left there is replaced.
    ///
    /// # Errors
    /// The directory or the file cannot be made, or another process listens there.
    pub fn bind(path: PathBuf) -> Result<Self, Error> {
        let bound = listen(&path, 0o600);
        match bound {
            Ok(listener) => Ok(Self { listener, path }),
            Err(source) => Err(Error { path, source }),
        }
    }

    /// Serves what `document` gives, each time newly made. Never ends.
    pub async fn serve(self, document: impl Fn() -> Document) {
        let mut peers = FuturesUnordered::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept(), if peers.len() < PEERS => accepted,
                Some(_) = peers.next(), if !peers.is_empty() => continue,
            };
            match accepted {
                Ok((peer, _)) => {
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
    }
}

/// Listens at `path`, whose mode becomes `mode`; see [`StatusSocket::bind`].
///
/// # Errors
/// As there.
pub fn listen(path: &Path, mode: u32) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
        fs::create_dir_all(directory)?;
        fs::set_permissions(directory, Permissions::from_mode(0o700))?;
    }
    if fs::symlink_metadata(path).is_ok() {
        if BlockingStream::connect(path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(listener)
}

async fn write(mut peer: UnixStream, text: Vec<u8>) -> io::Result<()> {
    peer.write_all(&text).await?;
    peer.shutdown().await
}

/// Reads the document that the socket `path` serves.
///
/// # Errors
/// There is none, it may not be read, or it is none that this version of the program understands.
pub async fn read(path: &Path) -> io::Result<Document> {
    let reading = async {
        let peer = UnixStream::connect(path).await?;
        let mut text = Vec::new();
        peer.take(MAX_DOCUMENT).read_to_end(&mut text).await?;
        Ok(serde_json::from_slice(&text)?)
    };
    let late = || io::Error::from(io::ErrorKind::TimedOut);
    timeout(LIMIT, reading).await.map_err(|_| late())?
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixListener as BlockingListener;

    use super::{StatusSocket, read};
    use crate::status::document::{Document, Origin};
    use crate::status::gateway;

    fn document() -> Document {
        let origin = Origin {
            role: "gateway".to_owned(),
            name: "edge-1".to_owned(),
            program_version: "1.2.3".to_owned(),
            pid: 7,
        };
        Document::new(origin, &gateway().1.report(), Vec::new())
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
    async fn silent_peers_delay_no_one_for_long() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("status.sock");
        let socket = StatusSocket::bind(path.clone()).expect("bound");
        let reading = async {
            let mut silent = Vec::new();
            for _ in 0..64 {
                silent.push(
                    tokio::net::UnixStream::connect(&path)
                        .await
                        .expect("a peer"),
                );
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
        drop(BlockingListener::bind(&path).expect("bound"));
        let first = StatusSocket::bind(path.clone()).expect("replaced");
        StatusSocket::bind(path.clone()).expect_err("in use");
        drop(first);
        StatusSocket::bind(path).expect("free again");
    }
}

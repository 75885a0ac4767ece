//! The way of an entry to journald. Sending waits for as long as journald does not read, so the
//! sender must be one that no one waits for.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::libc;

use super::entry::Entry;

/// Where journald listens (systemd-journald.socket).
const SOCKET: &str = "/run/systemd/journal/socket";

/// The longest field of an entry that was too large, at first. The kernel takes about 200 KiB in
/// one datagram.
const LONG_FIELD: usize = 64 << 10;

/// A field shorter than this is not what makes an entry too large.
const SHORT_FIELD: usize = 256;

/// journald's socket.
#[derive(Debug)]
pub struct Socket {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Socket {
    /// The socket of this machine's journald.
    ///
    /// # Errors
    /// There is none, or no one listens to it.
    pub fn open() -> io::Result<Self> {
        Self::at(Path::new(SOCKET))
    }

    /// The socket at `path`.
    ///
    /// # Errors
    /// There is none, or no one listens to it.
    pub fn at(path: &Path) -> io::Result<Self> {
        // Connecting waits for no one, and sends nothing.
        UnixDatagram::unbound()?.connect(path)?;
        Ok(Self {
            // Not connected: a socket that was made again at the same place is found again.
            socket: UnixDatagram::unbound()?,
            path: path.to_owned(),
        })
    }

    /// Sends one entry, shortened if it is larger than a datagram: a larger one would have to be a
    /// file in memory, and the units refuse `memfd_create`. Waits while journald does not read.
    ///
    /// # Errors
    /// No one listens (any more).
    pub fn send(&self, entry: &Entry) -> io::Result<()> {
        let is_too_large = |error: &io::Error| error.raw_os_error() == Some(libc::EMSGSIZE);
        let mut sent = self.send_datagram(entry.as_bytes());
        let mut limit = LONG_FIELD;
        while limit >= SHORT_FIELD && sent.as_ref().is_err_and(is_too_large) {
            sent = self.send_datagram(entry.shortened(limit).as_bytes());
            limit /= 2;
        }
        sent
    }

    fn send_datagram(&self, bytes: &[u8]) -> io::Result<()> {
        loop {
            match self.socket.send_to(bytes, &self.path) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                sent => return sent.map(drop),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixDatagram;

    use tracing::Level;

    use super::{Entry, Socket};

    fn entry(fields: usize, length: usize) -> Entry {
        let mut entry = Entry::new(Level::INFO);
        for _ in 0..fields {
            entry.put("FIELD", "x".repeat(length).as_bytes());
        }
        entry.put("MESSAGE", "y".repeat(length).as_bytes());
        entry
    }

    #[test]
    fn entry_larger_than_a_datagram_is_shortened() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        let journald = UnixDatagram::bind(&path).expect("a socket");
        let socket = Socket::at(&path).expect("someone listens");
        let mut buffer = vec![0; 1 << 20];
        // One long field, and so many that only short ones fit.
        for (fields, length) in [(0, 10), (1, 500_000), (200, 3000)] {
            let entry = entry(fields, length);
            socket.send(&entry).expect("sent");
            let length = journald.recv(&mut buffer).expect("received");
            let text = String::from_utf8_lossy(&buffer[..length]);
            assert!(text.contains("PRIORITY=6\n"), "{text}");
            assert!(text.contains("\nMESSAGE=yyyyyyyyyy"), "{text}");
            assert_eq!(text.contains("(shortened)"), length > 1000, "{text}");
        }
    }

    #[test]
    fn recreated_socket_is_found_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        Socket::at(&path).expect_err("there is none");
        let first = UnixDatagram::bind(&path).expect("a socket");
        let socket = Socket::at(&path).expect("someone listens");
        drop(first);
        Socket::at(&path).expect_err("no one listens");
        socket.send(&entry(0, 1)).expect_err("no one listens");
        fs::remove_file(&path).expect("removed");
        let second = UnixDatagram::bind(&path).expect("a socket");
        socket.send(&entry(0, 1)).expect("sent");
        second.recv(&mut [0; 100]).expect("received");
    }
}

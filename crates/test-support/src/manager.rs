//! A service manager that only listens (sd_notify(3)).
//!
//! It takes every message at once, as the real one does: a queue of a few that no one empties would
//! block the daemon.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::Instant;

use super::PATIENCE;

/// Hears what one daemon says.
pub struct Manager {
    /// The other end is the thread that reads the socket; it ends with the process.
    messages: mpsc::Receiver<String>,
}

impl Manager {
    /// Listens at `path`, and tells `command` so.
    pub fn listen(path: &Path, command: &mut Command) -> Self {
        let socket = UnixDatagram::bind(path).expect("a socket");
        command.env("NOTIFY_SOCKET", path);
        let (sender, messages) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = socket.recv(&mut buffer) {
                let message = String::from_utf8_lossy(&buffer[..count]).into_owned();
                if sender.send(message + "\n").is_err() {
                    break;
                }
            }
        });
        Self { messages }
    }

    /// Receives until a message has a line that begins with `line`; gives everything said until
    /// then.
    pub fn wait_for(&self, line: &str) -> String {
        let end = Instant::now() + PATIENCE;
        let mut all = String::new();
        while !all.lines().any(|said| said.starts_with(line)) {
            let left = end.saturating_duration_since(Instant::now());
            match self.messages.recv_timeout(left) {
                Ok(message) => all.push_str(&message),
                Err(error) => panic!("{line} was not said ({error}), only:\n{all}"),
            }
        }
        all
    }
}

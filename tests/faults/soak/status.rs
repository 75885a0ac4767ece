//! What the gateway tells the service manager of itself: how many sessions it believes to have is
//! how many of their tasks live.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

/// The last status line.
pub(super) struct Status(Arc<Mutex<String>>);

impl Status {
    /// Listens at `path` and tells `command` so.
    pub(super) fn listen(path: &Path, command: &mut Command) -> Self {
        let socket = UnixDatagram::bind(path).expect("a socket");
        command.env("NOTIFY_SOCKET", path);
        let last = Arc::new(Mutex::new(String::new()));
        let told = Arc::clone(&last);
        // It ends with this process.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = socket.recv(&mut buffer) {
                let message = String::from_utf8_lossy(&buffer[..count]);
                let status = message
                    .lines()
                    .find_map(|line| line.strip_prefix("STATUS="));
                if let Some(status) = status {
                    status.clone_into(&mut told.lock().expect("not poisoned"));
                }
            }
        });
        Self(last)
    }

    pub(super) fn last(&self) -> String {
        self.0.lock().expect("not poisoned").clone()
    }
}

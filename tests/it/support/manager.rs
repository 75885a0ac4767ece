//! A service manager that only listens (sd_notify(3)).

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::PATIENCE;

/// Hears what one daemon says.
pub(crate) struct Manager(UnixDatagram);

impl Manager {
    /// Listens at `path`, and tells `command` so.
    pub(crate) fn listen(path: &Path, command: &mut Command) -> Self {
        let socket = UnixDatagram::bind(path).expect("a socket");
        command.env("NOTIFY_SOCKET", path);
        Self(socket)
    }

    /// Receives until a message has a line that begins with `line`; gives everything said until then.
    pub(crate) fn wait_for(&self, line: &str) -> String {
        self.0.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        let mut all = String::new();
        while !all.lines().any(|said| said.starts_with(line)) {
            let Some(message) = self.receive() else {
                panic!("{line} was not said, only:\n{all}");
            };
            all.push_str(&message);
        }
        all
    }

    /// What was said until now.
    pub(crate) fn rest(&self) -> String {
        let now = Some(Duration::from_millis(1));
        self.0.set_read_timeout(now).expect("a deadline");
        std::iter::from_fn(|| self.receive()).collect()
    }

    fn receive(&self) -> Option<String> {
        let mut buffer = [0; 4096];
        let count = self.0.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..count]).into_owned() + "\n")
    }
}

//! What a service manager is told (sd_notify(3)): readiness when a daemon can serve, its end when it ends.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::PATIENCE;
use crate::support::lab::Lab;
use crate::support::process::{Process, infisical};
use crate::support::ready_file;

/// A service manager that only listens.
struct Manager(UnixDatagram);

impl Manager {
    fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        Self(socket)
    }

    /// Receives until a message has `line` in it; gives everything said until then.
    fn wait_for(&self, line: &str) -> String {
        let mut all = String::new();
        let mut buffer = [0; 4096];
        loop {
            let count = self.0.recv(&mut buffer).unwrap_or_else(|error| {
                panic!("{line} was not said ({error}), only:\n{all}");
            });
            let message = String::from_utf8_lossy(&buffer[..count]).into_owned();
            let found = message.lines().any(|said| said == line);
            all.push_str(&message);
            all.push('\n');
            if found {
                return all;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn daemons_say_when_they_serve_and_when_they_stop() {
    let lab = Lab::new().await;
    let ready = lab.dir().join("platform-ready");
    let platform = {
        let mut command = infisical(lab.dir());
        command.args(["platform", "start", "--listen", &format!("{}:0", lab.host)]);
        command.arg("--state-dir").arg(lab.dir().join("state"));
        command.arg("--ready-file").arg(&ready);
        command
    };
    let commands = [
        ("platform", platform),
        ("relay", lab.relay_command().command(lab.dir())),
        ("gateway", lab.gateway_command().command(lab.dir())),
    ];
    let mut daemons = Vec::new();
    for (name, mut command) in commands {
        let path = lab.dir().join(format!("notify-{name}"));
        let manager = Manager::listen(&path);
        command.env("NOTIFY_SOCKET", &path);
        let daemon = Process::spawn(name, command);
        manager.wait_for("READY=1");
        daemons.push((name, manager, daemon));
    }
    ready_file(&ready).await;
    // The gateway last: the relay would have nothing to drain without it.
    for (name, manager, daemon) in daemons.iter().rev() {
        daemon.signal(Signal::SIGTERM);
        manager.wait_for("STOPPING=1");
        assert_eq!(daemon.exit_code().await, 0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_cannot_serve_is_not_ready() {
    let lab = Lab::new().await;
    let path = lab.dir().join("notify");
    let manager = Manager::listen(&path);
    let taken = std::net::TcpListener::bind((lab.host, 8443)).expect("the port");
    let mut command = lab.relay_command().command(lab.dir());
    command.env("NOTIFY_SOCKET", &path);
    let relay = Process::spawn("relay", command);
    assert_eq!(relay.exit_code().await, 69);
    drop(taken);
    let mut said = Vec::new();
    manager
        .0
        .set_read_timeout(Some(Duration::from_millis(1)))
        .expect("a deadline");
    let mut buffer = [0; 4096];
    while let Ok(count) = manager.0.recv(&mut buffer) {
        said.extend_from_slice(&buffer[..count]);
    }
    let said = String::from_utf8_lossy(&said);
    assert!(!said.contains("READY=1"), "{said}");
}

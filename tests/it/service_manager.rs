//! What a service manager receives (sd_notify(3)): readiness when a daemon can serve, how it is,
//! that it lives, its end when it ends.

use nix::sys::signal::Signal;

use crate::support::lab::{Lab, RELAY};
use crate::support::manager::Manager;
use crate::support::process::{Process, infisical};
use crate::support::ready_file;
use crate::support::session::echoes;
use crate::support::targets::Target;

#[tokio::test(flavor = "multi_thread")]
async fn daemons_report_readiness_and_stopping() {
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
        let manager = Manager::listen(&path, &mut command);
        let daemon = Process::spawn(name, command);
        let said = manager.wait_for("READY=1");
        // No one asked for it, here and below.
        assert!(!said.contains("WATCHDOG=1"), "{name}");
        daemons.push((name, manager, daemon));
    }
    ready_file(&ready).await;
    // The gateway last: the relay would have nothing to drain without it.
    for (name, manager, daemon) in daemons.iter().rev() {
        daemon.signal(Signal::SIGTERM);
        let said = manager.wait_for("STOPPING=1");
        assert_eq!(daemon.exit_code().await, 0, "{name}");
        assert!(!said.contains("WATCHDOG=1"), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn relay_unable_to_serve_is_not_ready() {
    let lab = Lab::new().await;
    let taken = std::net::TcpListener::bind((lab.host, 8443)).expect("the port");
    let mut command = lab.relay_command().command(lab.dir());
    let manager = Manager::listen(&lab.dir().join("notify"), &mut command);
    let relay = Process::spawn("relay", command);
    assert_eq!(relay.exit_code().await, 69);
    drop(taken);
    let said = manager.wait_for("STATUS=failed: ");
    assert!(!said.contains("READY=1"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_keeps_status_and_online_file_current() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let mut command = lab.gateway_command().command(lab.dir());
    command.env("RUNTIME_DIRECTORY", lab.dir());
    let manager = Manager::listen(&lab.dir().join("notify"), &mut command);
    let gateway = Process::spawn("gateway", command);
    let connected = format!("STATUS=connected to {RELAY}, ");
    let said = manager.wait_for(&connected);
    assert!(
        said.contains("0 sessions, certificate renews in "),
        "{said}"
    );
    manager.wait_for("READY=1");
    let online = lab.dir().join("online");
    assert_eq!(ready_file(&online).await, RELAY);

    let echo = Target::echo(lab.host).await;
    let mut session = lab.way(echo.address).tcp().await.expect("a way");
    echoes(&mut session, b"hello").await.expect("an echo");
    manager.wait_for(&format!("{connected}1 session, "));
    drop(session);
    manager.wait_for(&format!("{connected}0 sessions, "));

    relay.kill().await;
    let said = manager.wait_for("STATUS=not connected, next attempt in ");
    assert!(said.contains("the tunnel to relay "), "{said}");
    gateway.signal(Signal::SIGTERM);
    let said = manager.wait_for("STOPPING=1");
    manager.wait_for("EXTEND_TIMEOUT_USEC=");
    assert_eq!(gateway.exit_code().await, 0, "{said}");
    assert!(!online.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_without_network_is_ready_but_disconnected() {
    let lab = Lab::new().await;
    let mut command = lab.gateway_command();
    // No one listens there.
    command.domain = format!("http://{}:9", lab.host);
    let mut command = command.command(lab.dir());
    command.env("RUNTIME_DIRECTORY", lab.dir());
    let manager = Manager::listen(&lab.dir().join("notify"), &mut command);
    let gateway = Process::spawn("gateway", command);
    let said = manager.wait_for("READY=1");
    assert!(
        said.contains("STATUS=not connected, next attempt in "),
        "{said}"
    );
    assert!(!lab.dir().join("online").exists());
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.exit_code().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn watchdog_is_fed_on_request() {
    let lab = Lab::new().await;
    let commands = [
        ("relay", lab.relay_command().command(lab.dir())),
        ("gateway", lab.gateway_command().command(lab.dir())),
    ];
    let mut daemons = Vec::new();
    for (name, mut command) in commands {
        let path = lab.dir().join(format!("notify-{name}"));
        let manager = Manager::listen(&path, &mut command);
        command.env("WATCHDOG_USEC", "200000");
        let daemon = Process::spawn(name, command);
        for _ in 0..3 {
            manager.wait_for("WATCHDOG=1");
        }
        daemons.push(daemon);
    }
}

//! Two gateways for one target, and two relays, restarted one after the other while clients work
//! (docs/high-availability.md).

use std::io;
use std::sync::Arc;

use nix::sys::signal::Signal;

use crate::load_generator::during;
use crate::support::daemon::{GatewayCommand, RelayCommand};
use crate::support::loopback;
use crate::support::process::Process;
use crate::support::session::echoes;
use crate::support::stack::Stack;
use crate::support::targets::Target;

/// The gateways that lead to the target, as members of a pool.
const MEMBERS: [&str; 2] = ["member-one", "member-two"];
const OTHER_RELAY: &str = "relay-two";

/// A session through the first member that has a tunnel.
async fn session(stack: Arc<Stack>, ip: String, port: u16) -> io::Result<()> {
    let mut last = io::Error::other("no member");
    for member in MEMBERS {
        let way = stack.platform.way(member, &ip, port).await;
        match way.tcp().await {
            Ok(mut stream) => return echoes(&mut stream, b"hello").await,
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A gateway that chooses its relay, and is reachable.
async fn member(stack: &Stack, name: &str) -> (GatewayCommand, Process) {
    let token = stack.platform.identity_token(name).await;
    let keys = format!("INFISICAL_TOKEN={token}\n");
    let url = &stack.platform.url;
    let mut command = GatewayCommand::new(stack.dir(), name, url, "", &keys);
    command.relay = None;
    let gateway = command.spawn(stack.dir());
    gateway
        .wait_for_line("Gateway is reachable by Infisical")
        .await;
    (command, gateway)
}

#[tokio::test(flavor = "multi_thread")]
async fn rolling_restart_loses_no_session() {
    let stack = Arc::new(Stack::start().await);
    let token = stack.platform.identity_token("relay-two").await;
    let keys = format!("INFISICAL_TOKEN={token}\n");
    let url = &stack.platform.url;
    let other = RelayCommand::new(stack.dir(), OTHER_RELAY, loopback::address(), url, &keys);
    let other_relay = other.spawn(stack.dir());
    let reachable = "Relay is reachable by Infisical";
    other_relay.wait_for_line(reachable).await;
    let mut members = Vec::new();
    for name in MEMBERS {
        members.push(member(&stack, name).await);
    }
    let echo = Target::echo(stack.host).await;
    let (ip, port) = (echo.address.ip().to_string(), echo.address.port());
    let clients = Arc::clone(&stack);
    let open = move || session(Arc::clone(&clients), ip.clone(), port);

    let restarts = async {
        let mut running = Vec::new();
        for (command, gateway) in members {
            gateway.signal(Signal::SIGTERM);
            assert_eq!(gateway.exit_code().await, 0);
            let gateway = command.spawn(stack.dir());
            // Only then is it the next one's turn.
            gateway
                .wait_for_line("Gateway is reachable by Infisical")
                .await;
            running.push(gateway);
        }
        let mut relays = Vec::new();
        for (command, relay) in [(&stack.relay_command, &stack.relay), (&other, &other_relay)] {
            relay.signal(Signal::SIGTERM);
            assert_eq!(relay.exit_code().await, 0);
            let relay = command.spawn(stack.dir());
            relay.wait_for_line(reachable).await;
            relays.push(relay);
        }
        (running, relays)
    };
    let (_running, figures) = during(300, open, restarts).await;
    figures.print("rolling restart of two gateways and two relays");
    assert_eq!(figures.failures(), Vec::<&String>::new());
}

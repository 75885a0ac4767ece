//! Faults between the gateway's machine and the relay. For each the gateway is started under the
//! fault, and fails in its own way; the platform is well.

use std::net::SocketAddr;
use std::rc::Rc;

use infisical_runtime::events;
use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::doctor::{ABOVE_CERTIFICATE, ABOVE_SSH, Doctor, Expected, Matrix};
use crate::lab::{GatewayPlan, Lab, PATIENCE};
use crate::net::{Block, Machine};
use crate::runner::Outcome;
use crate::support::process::{Process, infisical};
use crate::support::stack::RELAY;
use crate::support::write_private;

/// The relay's name, which its clients find in /etc/hosts.
const HOST: &str = "relay.example.org";
const SSH: u16 = 2222;
const TLS: u16 = 8443;
/// Where a web server is.
const WEB: u16 = 8080;

/// Layers that need an address of the relay.
const ABOVE_DNS: &[&str] = &[
    "relay-ssh",
    "relay-tls",
    "host-certificate",
    "tunnel",
    "heartbeat",
];

pub(super) fn run(lab: &mut Lab) -> Outcome {
    let hosts = |name: &str| format!("127.0.0.1 localhost\n{} {name}\n", Machine::Relay.address());
    for machine in [Machine::Platform, Machine::Gateway] {
        lab.net.etc(machine, "hosts", &hosts(HOST));
    }
    lab.use_dns();
    let _dns = lab.start_dns();
    lab.start_platform();
    let relay = start_relay(lab);
    let _relay_two = lab.start_relay(Machine::RelayTwo);
    let gateway = start_gateway(lab, events::GATEWAY_REACHABLE.text);
    let doctor = Doctor::new(lab);
    Matrix::wait_healthy(lab, &doctor);
    let mut matrix = Matrix::new(lab, "relay");

    // The platform reaches the relay, so this machine need not reach port 8443.
    lab.net
        .block(Machine::Gateway, (Machine::Relay, TLS), Block::Drop);
    Matrix::wait_healthy(lab, &doctor);
    lab.net.heal();
    lab.kill(&gateway);

    let expected = |fault, (layer, dependents), cause| Expected {
        fault,
        layer,
        dependents,
        cause,
    };
    let closed = ("relay-ssh", ABOVE_SSH);
    let wrong = ("host-certificate", ABOVE_CERTIFICATE);
    for (fault, how, what, cause) in [
        (
            "a firewall drops packets to port 2222 of the relay",
            Block::Drop,
            closed,
            "drops",
        ),
        (
            "a firewall refuses connections to port 2222 of the relay",
            Block::Reset,
            closed,
            "Nothing listens",
        ),
        (
            "a firewall prohibits port 2222 of the relay with ICMP",
            Block::Prohibit,
            closed,
            "no route",
        ),
        (
            "a firewall resets connections to port 2222 once SSH begins",
            Block::Cut,
            wrong,
            "cuts",
        ),
    ] {
        lab.net.block(Machine::Gateway, (Machine::Relay, SSH), how);
        let gateway = start_gateway(lab, events::NOT_CONNECTED.text);
        matrix.check(lab, &doctor, expected(fault, what, cause));
        lab.net.heal();
        lab.kill(&gateway);
    }
    client_port(lab, &doctor, &mut matrix);

    // Something else answers on port 2222 in the relay's place.
    let web = SocketAddr::from((Machine::Client.address(), WEB));
    let _web = lab.ask(serve(web));
    for (fault, other, cause) in [
        (
            "what answers on port 2222 of the relay speaks no SSH",
            (Machine::Client, WEB),
            "ends the connection",
        ),
        (
            "another relay answers on port 2222 of the relay's address",
            (Machine::RelayTwo, SSH),
            "not the relay",
        ),
    ] {
        lab.net
            .divert(Machine::Gateway, (Machine::Relay, SSH), other);
        let gateway = start_gateway(lab, events::NOT_CONNECTED.text);
        matrix.check(lab, &doctor, expected(fault, wrong, cause));
        lab.net.detour(Machine::Gateway, false);
        lab.kill(&gateway);
    }

    relay.signal(Signal::SIGSTOP);
    let gateway = start_gateway(lab, events::NOT_CONNECTED.text);
    let silent = "the relay accepts connections and says nothing";
    matrix.check(lab, &doctor, expected(silent, wrong, "says nothing"));
    relay.signal(Signal::SIGCONT);
    lab.wait_up(&gateway);

    let mark = gateway.mark();
    lab.kill(&relay);
    lab.wait_line(&gateway, mark, events::NOT_CONNECTED.text, PATIENCE);
    let down = "the relay is not running";
    matrix.check(lab, &doctor, expected(down, closed, "Nothing listens"));

    lab.net.etc(Machine::Gateway, "hosts", &hosts("other"));
    let unknown = expected(
        "the relay's name does not exist",
        ("relay-dns", ABOVE_DNS),
        "name",
    );
    matrix.check(lab, &doctor, unknown);
    lab.net.etc(Machine::Gateway, "hosts", &hosts(HOST));
    let _relay = start_relay(lab);
    Matrix::wait_healthy(lab, &doctor);
    matrix.finish()
}

/// Of port 8443, for which the platform is the judge.
fn client_port(lab: &mut Lab, doctor: &Doctor, matrix: &mut Matrix) {
    for (fault, how, is_everywhere, layer, cause) in [
        (
            "a firewall drops packets to port 8443 of the relay",
            Block::Drop,
            true,
            "relay-tls",
            "drops",
        ),
        (
            "a firewall refuses connections to port 8443 of the relay",
            Block::Reset,
            true,
            "relay-tls",
            "Nothing listens",
        ),
        (
            "a firewall drops packets of the platform to port 8443 of the relay",
            Block::Drop,
            false,
            "heartbeat",
            "platform cannot reach",
        ),
        (
            "a firewall refuses connections of the platform to port 8443 of the relay",
            Block::Reset,
            false,
            "heartbeat",
            "platform cannot reach",
        ),
        (
            "a firewall resets connections of the platform to port 8443 once TLS begins",
            Block::Cut,
            false,
            "heartbeat",
            "platform cannot reach",
        ),
    ] {
        let relay = (Machine::Relay, TLS);
        lab.net.block(Machine::Platform, relay, how);
        if is_everywhere {
            lab.net.block(Machine::Gateway, relay, how);
        }
        let gateway = start_gateway(lab, events::HEARTBEAT_FAILED.text);
        let dependents: &[&str] = if is_everywhere { &["heartbeat"] } else { &[] };
        let expected = Expected {
            fault,
            layer,
            dependents,
            cause,
        };
        matrix.check(lab, doctor, expected);
        lab.net.heal();
        lab.kill(&gateway);
    }
}

/// Starts the gateway, and waits until it has `line` in its log.
fn start_gateway(lab: &Lab, line: &str) -> Rc<Process> {
    let gateway = lab.start_gateway(Machine::Gateway, &GatewayPlan::pinned());
    lab.wait_line(&gateway, 0, line, PATIENCE);
    gateway
}

/// The relay under its name.
fn start_relay(lab: &Lab) -> Rc<Process> {
    let home = lab.home(Machine::Relay);
    let keys = home.join("keys");
    if !keys.exists() {
        let token = lab.ask(lab.platform().identity_token("relay-identity"));
        write_private(&keys, &format!("INFISICAL_TOKEN={token}\n"));
    }
    let mut command = infisical(&home);
    command.args(["relay", "start", "--name", RELAY, "--host", HOST]);
    command.args(["--type", "org", "--domain", &lab.platform().url]);
    command.arg("--config").arg(&keys);
    command.env("SSL_CERT_FILE", lab.root_file());
    let relay = lab.spawn(RELAY, &lab.net.on(Machine::Relay, &command));
    lab.wait_line(&relay, 0, events::RELAY_STARTED.text, PATIENCE);
    relay
}

/// A web server, until dropped.
async fn serve(address: SocketAddr) -> JoinSet<()> {
    let listener = TcpListener::bind(address).await.expect("a free port");
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = client.read(&mut request).await;
            let answer = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
            let _ = client.write_all(answer.as_bytes()).await;
        }
    });
    tasks
}

//! Faults of a proxy to the platform.

use std::net::SocketAddr;

use infisical_runtime::events;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::doctor::{ABOVE_DNS, Doctor, Expected, Matrix, PASSWORD};
use crate::lab::{GatewayPlan, Lab, PATIENCE};
use crate::net::{Block, Machine};
use crate::runner::Outcome;

/// Where the proxies are, on the client's machine; beginning with this port.
const FIRST_PORT: u16 = 3128;

pub(super) fn run(lab: &mut Lab) -> Outcome {
    lab.use_dns();
    let _dns = lab.start_dns();
    let (_relay, gateway) = lab.start(&GatewayPlan::pinned());
    lab.wait_line(&gateway, 0, events::GATEWAY_REACHABLE.text, PATIENCE);
    let doctor = Doctor::new(lab);
    Matrix::wait_healthy(lab, &doctor);
    let mut matrix = Matrix::new(lab, "proxy");
    let through = |proxy: &str| doctor.clone().variable("HTTPS_PROXY", proxy);
    let expected = |fault, cause| Expected {
        fault,
        layer: "proxy",
        dependents: ABOVE_DNS,
        cause,
    };
    let address = |port: u16| SocketAddr::from((Machine::Client.address(), port));

    let url = format!("http://{}", address(FIRST_PORT));
    let refused = expected("the proxy is not running", "Nothing listens");
    matrix.check(lab, &through(&url), refused);
    let client = (Machine::Client, FIRST_PORT);
    lab.net.block(Machine::Gateway, client, Block::Drop);
    let dropped = expected("a firewall drops packets to the proxy", "drops");
    matrix.check(lab, &through(&url), dropped);
    lab.net.heal();
    let unknown = expected("the proxy's name does not exist", "name");
    matrix.check(lab, &through("http://proxy.example.org:3128"), unknown);

    let answers: [(_, Option<&'static str>, _); 4] = [
        (
            "the proxy wants a user name and a password",
            Some("407 Proxy Authentication Required"),
            "user name",
        ),
        (
            "the proxy forbids the platform",
            Some("403 Forbidden"),
            "does not let",
        ),
        (
            "the proxy cannot reach the platform",
            Some("502 Bad Gateway"),
            "cannot reach",
        ),
        (
            "the proxy accepts connections and says nothing",
            None,
            "hangs",
        ),
    ];
    for (port, (fault, answer, cause)) in (FIRST_PORT + 1..).zip(answers) {
        let address = address(port);
        let _server = lab.ask(serve(address, answer));
        let doctor = through(&format!("http://user:{PASSWORD}@{address}"));
        matrix.check(lab, &doctor, expected(fault, cause));
    }
    matrix.finish()
}

/// Answers each request with this status, or not at all, until dropped.
async fn serve(address: SocketAddr, status: Option<&'static str>) -> JoinSet<()> {
    let listener = TcpListener::bind(address).await.expect("a free port");
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut client, _)) = listener.accept().await {
            let mut request = [0; 4096];
            if let Some(status) = status {
                let _ = client.read(&mut request).await;
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                let _ = client.write_all(answer.as_bytes()).await;
            } else {
                held.push(client);
            }
        }
    });
    tasks
}

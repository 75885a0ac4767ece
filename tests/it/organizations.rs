//! What one organization can take of a relay, and what it leaves to the others: places for clients, and
//! memory for what its clients do not read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use infisical::config::settings::RelayLimits;
use infisical::ssh::client::Session;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use crate::support::eventually;
use crate::support::lab::Lab;
use crate::support::manager::Manager;
use crate::support::process::Process;
use crate::support::session::{Way, echoes};
use crate::support::targets::Target;
use crate::support::tls::{self, Outer};

/// The greedy organization, and its gateway.
const GREEDY: &str = "11111111-2222-4333-8444-555555555555";
const GREEDY_GATEWAY: &str = "0d7a2f54-9a53-4a0e-8c4e-1a2b3c4d5e6f";

impl Lab {
    /// A way to the greedy organization's gateway.
    fn greedy_way(&self) -> Way {
        self.way_of(GREEDY, GREEDY_GATEWAY, ("localhost", 1))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_organization_leaves_places_for_clients_of_others() {
    const PLACES: usize = 16;
    let lab = Lab::new().await;
    let mut command = lab.relay_command();
    command.more.push(format!("--max-clients={PLACES}"));
    let relay = command.spawn(lab.dir());
    relay
        .wait_for_line("Relay server started successfully")
        .await;
    let _gateway = lab.gateway(&relay).await;
    let greedy = Arc::new(lab.bare_gateway(GREEDY_GATEWAY).await);
    let served = Arc::new(AtomicU64::new(0));
    let (session, count) = (Arc::clone(&greedy), Arc::clone(&served));
    let serving = tokio::spawn(async move {
        let mut channels = Vec::new();
        while let Some(channel) = session.accept().await {
            channels.push(channel);
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let mut clients = Vec::new();
    for _ in 0..2 * PLACES {
        clients.push(lab.greedy_way().outer().await.expect("TLS 1"));
    }
    // Seven eighths: as many as there are without leaving none.
    eventually("the organization has its share", || {
        let served = served.load(Ordering::Relaxed);
        async move { (served == 14).then_some(()).ok_or(served) }
    })
    .await;
    relay
        .wait_for_line("its organization has as many clients at this relay as it may have")
        .await;
    let echo = Target::echo(lab.host).await;
    for _ in 0..2 {
        let mut stream = lab.way(echo.address).tcp().await.expect("a place");
        echoes(&mut stream, b"served").await.expect("an echo");
    }
    assert_eq!(served.load(Ordering::Relaxed), 14);
    serving.abort();
}

/// Sends on every channel as much as is taken; `sent` counts it.
fn pour(session: Arc<Session>, sent: Arc<AtomicU64>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let mut channels = JoinSet::new();
        while let Some(mut channel) = session.accept().await {
            let sent = Arc::clone(&sent);
            channels.spawn(async move {
                let block = [0x5a; 4096];
                while channel.write_all(&block).await.is_ok() {
                    sent.fetch_add(block.len() as u64, Ordering::Relaxed);
                }
            });
        }
    })
}

/// A client of `way` for which the kernel keeps little, so that the relay has to keep it.
async fn narrow(way: &Way) -> Outer {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(16 * 1024).expect("a size");
    let options = socket2::SockRef::from(&socket);
    options.set_tcp_mss(1024).expect("a segment's size");
    let tcp = socket.connect((way.relay_host, 8443).into()).await;
    let tcp = tcp.expect("the port");
    let outer = tls::outer_over(tcp, way.relay_host, Some(&way.relay), &way.relay_anchors);
    outer.await.expect("TLS 1")
}

/// MiB that the relay says it holds for clients and gateways.
fn buffered(status: &str) -> Option<usize> {
    let (before, _) = status.split_once(" MiB buffered")?;
    let (before, _) = before.rsplit_once(" of ")?;
    before.rsplit(' ').next()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_organization_leaves_memory_for_others() {
    const CLIENTS: usize = 160;
    const MIB: usize = 4;
    let lab = Lab::new().await;
    let mut relay = lab.relay_command();
    relay.more.push(format!("--max-buffer-mib={MIB}"));
    let mut command = relay.command(lab.dir());
    let manager = Manager::listen(&lab.dir().join("notify"), &mut command);
    let relay = Process::spawn("relay", command);
    relay
        .wait_for_line("Relay server started successfully")
        .await;
    let _gateway = lab.gateway(&relay).await;
    let greedy = Arc::new(lab.bare_gateway(GREEDY_GATEWAY).await);
    let sent = Arc::new(AtomicU64::new(0));
    let pouring = pour(Arc::clone(&greedy), Arc::clone(&sent));
    let before = relay.resident_kib();
    let way = lab.greedy_way();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(narrow(&way).await);
    }
    let (mut last, mut same) = (0, 0);
    eventually("every buffer is full", || {
        let now = sent.load(Ordering::Relaxed);
        same = if now > last { 0 } else { same + 1 };
        last = now;
        let is_full = same >= 40;
        async move { is_full.then_some(()).ok_or(now) }
    })
    .await;

    // The share, what each client may have beyond it, and what each takes by itself.
    let limits = RelayLimits {
        handshakes: 0,
        gateways: 2,
        clients: CLIENTS,
        buffer_mib: MIB,
        ..RelayLimits::default()
    };
    let taken = (relay.resident_kib() - before) / 1024;
    eprintln!("{CLIENTS} stalled clients: {taken} MiB");
    assert!(taken <= limits.memory_mib() - 64, "{taken} MiB");
    let most = (MIB * 1024 + CLIENTS * 36).div_ceil(1024);
    let mut status = String::new();
    while buffered(&status).is_none_or(|mib| mib < MIB - 1) {
        status = manager.wait_for("STATUS=serving ");
    }
    assert!(buffered(&status).is_some_and(|mib| mib <= most), "{status}");
    relay
        .wait_for_line("an organization uses its share of the memory for buffers")
        .await;

    // Another organization has what it needs, and not even the greedy one loses a session.
    let echo = Target::echo(lab.host).await;
    let mut stream = lab.way(echo.address).tcp().await.expect("a session");
    let message = vec![7; 1 << 20];
    echoes(&mut stream, &message).await.expect("an echo");
    for client in clients.iter_mut().step_by(CLIENTS / 8) {
        let mut bytes = vec![0; 400 * 1024];
        client.read_exact(&mut bytes).await.expect("still open");
        assert!(bytes.iter().all(|byte| *byte == 0x5a));
    }
    pouring.abort();
}

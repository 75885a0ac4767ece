//! What one organization can take of a relay, and what it leaves to the others: places for clients,
//! and memory for what its clients do not read.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use infisical_config::settings::RelayLimits;
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinSet;

use crate::support::eventually;
use crate::support::greedy::{self, Counts, GATEWAYS, ORGANIZATION, narrow};
use crate::support::lab::Lab;
use crate::support::manager::Manager;
use crate::support::process::Process;
use crate::support::session::{Way, echoes};
use crate::support::targets::Target;

/// An ordinary gateway at `relay`, and the greedy organization's, which sends without end until the
/// last one is dropped.
async fn gateways(lab: &Lab, relay: &Process) -> (Process, Arc<Counts>, JoinSet<()>) {
    relay
        .wait_for_line("Relay server started successfully")
        .await;
    let gateway = lab.gateway(relay).await;
    let counts = Arc::new(Counts::default());
    let session = lab.bare_gateway(GATEWAYS[0]).await;
    let pouring = greedy::pour(session, Arc::clone(&counts));
    (gateway, counts, pouring)
}

/// A way to the greedy organization's gateway.
fn greedy_way(lab: &Lab) -> Way {
    lab.way_of(ORGANIZATION, GATEWAYS[0], ("localhost", 1))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_organization_leaves_room_for_others() {
    const PLACES: usize = 16;
    let lab = Lab::new().await;
    let mut command = lab.relay_command();
    command.more.push(format!("--max-clients={PLACES}"));
    let relay = command.spawn(lab.dir());
    let (_gateway, counts, serving) = gateways(&lab, &relay).await;
    let mut clients = Vec::new();
    for _ in 0..2 * PLACES {
        clients.push(greedy_way(&lab).outer().await.expect("TLS 1"));
    }
    // Seven eighths: as many as there are without leaving none.
    eventually("the organization has its share", || {
        let served = counts.channels.load(Ordering::Relaxed);
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
    assert_eq!(counts.channels.load(Ordering::Relaxed), 14);
    drop(serving);
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
    let (_gateway, counts, pouring) = gateways(&lab, &relay).await;
    let before = relay.resident_kib();
    let way = greedy_way(&lab);
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(narrow(&way).await.expect("TLS 1"));
    }
    let (mut last, mut same) = (0, 0);
    eventually("every buffer is full", || {
        let now = counts.sent.load(Ordering::Relaxed);
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
    let taken = relay.resident_kib().saturating_sub(before) / 1024;
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
    drop(pouring);
}

//! What one peer can make a relay hold (docs/reliability.md): resident memory of the real program,
//! before and with many such peers.

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::eventually;
use crate::support::lab::Lab;
use crate::support::process::Process;
use crate::support::targets::Target;

/// A peer that has not proved itself, whatever it sends.
const NEWCOMER_KIB: usize = 128;
/// A gateway that carries nothing.
const IDLE_GATEWAY_KIB: usize = 96;
/// A client that has stopped reading, with the gateway's bytes for it.
const STALLED_CLIENT_KIB: usize = 512;

/// Fails if `relay` holds more than `most` KiB for each of `count` peers than it did `before`.
fn assert_holds(what: &str, relay: &Process, before: usize, count: usize, most: usize) {
    let each = relay.resident_kib().saturating_sub(before) / count;
    eprintln!("{what}: {each} KiB for each of {count}");
    assert!(each <= most, "{what}: {each} KiB each, {most} at most");
}

#[tokio::test(flavor = "multi_thread")]
async fn unauthenticated_peers_take_little_relay_memory() {
    // Within one source's share of the places.
    const COUNT: usize = 400;
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    // As much as may be sent without an answer, and never the end of it.
    let packet = [
        b"SSH-2.0-large\r\n\x00\x00\x7c\xfc\x04\x14".as_slice(),
        &[7; 30_000],
    ]
    .concat();
    let hello = [
        b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03".as_slice(),
        &[7; 16_000],
    ]
    .concat();
    // Kept, so that those of the second port find nothing that the others have left.
    let mut peers = Vec::new();
    for (what, port, bytes) in [("port 2222", 2222, packet), ("port 8443", 8443, hello)] {
        let before = relay.resident_kib();
        for _ in 0..COUNT {
            let mut peer = TcpStream::connect((lab.host, port)).await.expect("a port");
            peer.write_all(&bytes).await.expect("sent");
            peers.push(peer);
        }
        // The last of them is being served, and so the others are.
        let last = peers.last().expect("many");
        eventually("all is read", || async {
            match unread(last) {
                0 => Ok(()),
                bytes => Err(bytes),
            }
        })
        .await;
        assert_holds(what, &relay, before, COUNT, NEWCOMER_KIB);
    }
}

/// Bytes that the other side's kernel has not acknowledged or its program not read, as far as this
/// side knows.
fn unread(stream: &TcpStream) -> usize {
    let local = stream.local_addr().expect("an address");
    let peer = stream.peer_addr().expect("an address");
    let hex = |address: std::net::SocketAddr| match address {
        std::net::SocketAddr::V4(v4) => {
            let ip = u32::from_le_bytes(v4.ip().octets());
            format!("{ip:08X}:{:04X}", v4.port())
        }
        std::net::SocketAddr::V6(_) => panic!("loopback of IPv4"),
    };
    // The relay's end of the same connection, in the same network namespace.
    let wanted = (hex(peer), hex(local));
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the table of connections");
    table
        .lines()
        .find_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let is_it = fields.get(1) == Some(&wanted.0.as_str())
                && fields.get(2) == Some(&wanted.1.as_str());
            let queues = fields.get(4).filter(|_| is_it)?;
            let (_, receive) = queues.split_once(':')?;
            usize::from_str_radix(receive, 16).ok()
        })
        .unwrap_or(usize::MAX)
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_gateways_make_a_relay_hold_little() {
    const COUNT: usize = 100;
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let connect = async |number: usize| lab.bare_gateway(&format!("gateway-{number}")).await;
    let _first = connect(COUNT).await;
    let before = relay.resident_kib();
    let mut gateways = Vec::new();
    for number in 0..COUNT {
        gateways.push(connect(number).await);
    }
    assert_holds("an idle gateway", &relay, before, COUNT, IDLE_GATEWAY_KIB);
    assert!(gateways.iter().all(|gateway| !gateway.is_ended()));
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_clients_take_bounded_relay_memory() {
    const COUNT: usize = 32;
    const MIB: usize = 16;
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let gateway = lab.gateway(&relay).await;
    let (told, _heard) = tokio::sync::mpsc::unbounded_channel();
    let source = Target::exchange(lab.host, MIB, told).await;
    let way = lab.way(source.address);
    let before = relay.resident_kib();
    let mut stalled = Vec::new();
    for _ in 0..COUNT {
        stalled.push(way.tcp().await.expect("a way"));
    }
    // What is held grows until every buffer on the way is full.
    let mut last = 0;
    let mut same = 0;
    eventually("the buffers are full", || {
        let now = relay.resident_kib() + gateway.resident_kib();
        same = if now > last + 64 { 0 } else { same + 1 };
        last = last.max(now);
        let is_full = same >= 20;
        async move { is_full.then_some(()).ok_or(now) }
    })
    .await;
    assert_holds(
        "a stalled client",
        &relay,
        before,
        COUNT,
        STALLED_CLIENT_KIB,
    );
    assert_eq!(source.accepted(), COUNT);
}

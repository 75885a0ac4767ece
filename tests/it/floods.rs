//! Peers that come in great numbers and do nothing good, and one that does meanwhile.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::support::lab::Lab;
use crate::support::session::echoes;
use crate::support::targets::Target;
use crate::support::{loopback, soon};

/// What one source may hold of a port's 512 places, and a few more.
const SHARE: usize = 448;
const PEERS: usize = SHARE + 12;
/// Between two bytes of a peer that is slow on purpose.
const PAUSE: Duration = Duration::from_millis(500);

/// How slow peers begin, before they go on byte by byte: each stops in another part of a handshake.
const BEGINNINGS: [(u16, &[u8]); 6] = [
    // Nothing at all.
    (2222, b""),
    // In the middle of the version exchange.
    (2222, b"SSH-2.0-"),
    // In the middle of the key exchange: a packet of 32 KB that does not come to its end.
    (2222, b"SSH-2.0-slow\r\n\x00\x00\x7c\xfc\x04\x14"),
    (8443, b""),
    // In the middle of a record's header, and in a ClientHello of 4 KiB.
    (8443, b"\x16\x03"),
    (8443, b"\x16\x03\x01\x10\x00\x01\x00\x0f\xfc\x03\x03"),
];

async fn connect(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind((from, 0).into())
        .expect("an address of this machine");
    socket.connect(to).await.expect("the port is open")
}

/// A peer that begins and then sends a byte now and then, until it is cut.
async fn slow(mut stream: TcpStream, beginning: &[u8]) {
    if stream.write_all(beginning).await.is_err() {
        return;
    }
    let mut answer = [0; 1024];
    let mut pause = tokio::time::interval(PAUSE);
    loop {
        tokio::select! {
            _ = pause.tick() => {
                // Of a silent one nothing but its connection is known.
                if !beginning.is_empty() && stream.write_all(b"\x01").await.is_err() {
                    return;
                }
            }
            read = stream.read(&mut answer) => match read {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            },
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_peers_are_cut_on_both_ports() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let echo = Target::echo(lab.host).await;
    let hostile = loopback::address();
    let mut peers = JoinSet::new();
    for (port, beginning) in BEGINNINGS.into_iter().cycle().take(PEERS * 2) {
        let stream = connect(hostile, (lab.host, port).into()).await;
        peers.spawn(slow(stream, beginning));
    }
    // Gateway and client come from another address.
    let _gateway = lab.gateway(&relay).await;
    let way = lab.way(echo.address);
    for _ in 0..10 {
        let mut stream = way.tcp().await.expect("a way");
        echoes(&mut stream, b"served").await.expect("an echo");
    }
    // Each is cut, at the latest by its handshake's deadline, though it never stops sending.
    while let Some(peer) = soon("the cut", peers.join_next()).await {
        peer.expect("no panic");
    }
    let output = relay.output();
    let cut = output.matches("TLS handshake took too long").count();
    assert!(cut >= SHARE, "the flood was none: {cut}");
    // Lines about them are rationed, these are not all.
    assert!(
        output.contains("no SSH session within"),
        "the same on the other port"
    );
}

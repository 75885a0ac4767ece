//! Why the engine is our own: what russh does, on both ends, with the channel of a deployed relay and with a reader that
//! stalls. Where one of these fails with a newer russh, that reason is gone.

use std::borrow::Cow;
use std::time::Duration;

use russh::{cipher, mac};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::russh_peer::{self, Gateway, Plan, Relay};
use crate::support::ssh_sides::{Keyring, Kinds};

/// In virtual time, which passes only when nothing else can happen.
const LONG: Duration = Duration::from_secs(600);
const PIPE: usize = 64 * 1024;
/// RFC 4254 §5.1.
const CHANNEL_OPEN: u8 = 90;

/// russh in both roles. What is sent to the returned sender reaches the gateway as if the relay had sent it, which needs
/// packets in the clear.
struct Pair {
    gateway: Gateway,
    relay: Relay,
    forged: mpsc::UnboundedSender<Vec<u8>>,
    _between: JoinSet<()>,
}

async fn pair() -> Pair {
    let ring = Keyring::new();
    let sides = ring.sides(&Kinds::default());
    let plan = Plan {
        cipher: cipher::NONE,
        ..Plan::default()
    };
    let (mut client, mut server) = (plan.client_config(), plan.server_config(&sides));
    client.preferred.mac = Cow::Borrowed(&[mac::NONE]);
    server.preferred.mac = Cow::Borrowed(&[mac::NONE]);
    let (near, gateway_end) = tokio::io::duplex(PIPE);
    let (far, relay_end) = tokio::io::duplex(PIPE);
    let (forged, packets) = mpsc::unbounded_channel();
    let mut task = JoinSet::new();
    task.spawn(between(gateway_end, relay_end, packets));
    let (gateway, relay) = tokio::join!(
        russh_peer::gateway(near, &sides, client),
        russh_peer::relay(far, server),
    );
    Pair {
        gateway,
        relay,
        forged,
        _between: task,
    }
}

/// Carries what the two say to each other, and forged packets among it.
async fn between(
    gateway: DuplexStream,
    relay: DuplexStream,
    mut forged: mpsc::UnboundedReceiver<Vec<u8>>,
) {
    let (mut from_gateway, mut to_gateway) = tokio::io::split(gateway);
    let (mut from_relay, mut to_relay) = tokio::io::split(relay);
    let down = async {
        let mut buffer = vec![0; PIPE];
        loop {
            let bytes = tokio::select! {
                // First what is there already: a packet has no place within another.
                biased;
                read = from_relay.read(&mut buffer) => match read {
                    Ok(length) if length > 0 => buffer[..length].to_vec(),
                    _ => break,
                },
                Some(packet) = forged.recv() => packet,
            };
            if to_gateway.write_all(&bytes).await.is_err() {
                break;
            }
        }
    };
    let up = tokio::io::copy(&mut from_gateway, &mut to_relay);
    // The end of either is the end of both.
    tokio::select! {
        () = down => {}
        _ = up => {}
    }
}

/// A packet without encryption (RFC 4253 §6).
fn packet(payload: &[u8]) -> Vec<u8> {
    let padding = 4 + (8 - (4 + 1 + payload.len() + 4) % 8) % 8;
    let length = u32::try_from(1 + payload.len() + padding).expect("short");
    let mut packet = length.to_be_bytes().to_vec();
    packet.push(u8::try_from(padding).expect("short"));
    packet.extend_from_slice(payload);
    packet.resize(packet.len() + padding, 0);
    packet
}

fn string(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("short");
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

/// What opens a `direct-tcpip` channel, with its four fields (RFC 4254 §7.2) or, as deployed relays send it, without.
fn direct_tcpip(has_fields: bool) -> Vec<u8> {
    let mut payload = vec![CHANNEL_OPEN];
    payload.extend(string("direct-tcpip"));
    for number in [7_u32, 2 << 20, 32 << 10] {
        payload.extend(number.to_be_bytes());
    }
    if has_fields {
        for (host, port) in [("localhost", 0), ("192.0.2.1", 40_000_u32)] {
            payload.extend(string(host));
            payload.extend(port.to_be_bytes());
        }
    }
    packet(&payload)
}

#[tokio::test(start_paused = true)]
async fn the_channel_of_a_deployed_relay_ends_a_session_of_russh() {
    let mut pair = pair().await;
    pair.forged.send(direct_tcpip(true)).expect("sent");
    let opened = timeout(LONG, pair.gateway.opened.recv()).await;
    assert!(opened.expect("in time").is_some(), "forging does not work");

    let mut pair = self::pair().await;
    pair.forged.send(direct_tcpip(false)).expect("sent");
    let end = timeout(LONG, &mut pair.gateway.handle).await;
    let end = end.expect("the session goes on");
    assert!(matches!(end, Err(russh::Error::SshEncoding(_))), "{end:?}");
    assert!(pair.gateway.opened.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_stalled_reader_blocks_all_of_a_session_of_russh() {
    let mut pair = pair().await;
    let relay = &pair.relay.handle;
    let stalled_far = russh_peer::open(relay).await;
    let mut stalled = pair
        .gateway
        .opened
        .recv()
        .await
        .expect("open")
        .into_stream();
    let other_far = russh_peer::open(relay).await;
    let mut other = pair
        .gateway
        .opened
        .recv()
        .await
        .expect("open")
        .into_stream();

    // Far below the window, but more messages than russh keeps for a channel.
    for _ in 0..1000 {
        let sent = relay.data(stalled_far.id(), &b"few bytes"[..]).await;
        sent.expect("sent");
    }
    relay.data(other_far.id(), &b"!"[..]).await.expect("sent");
    let mut mark = [0];
    let read = timeout(LONG, other.read_exact(&mut mark)).await;
    assert!(read.is_err(), "another channel is not blocked: {read:?}");
    // The answer to any global request shows that the peer is alive.
    let ping = timeout(LONG, relay.forward_tcpip(String::new(), 0)).await;
    assert!(ping.is_err(), "keepalives are answered: {ping:?}");

    // Nothing but the reader was the cause.
    let mut all = vec![0; 1000 * b"few bytes".len()];
    let read = timeout(LONG, stalled.read_exact(&mut all)).await;
    read.expect("in time").expect("read");
    let read = timeout(LONG, other.read_exact(&mut mark)).await;
    read.expect("in time").expect("read");
    let ping = timeout(LONG, relay.forward_tcpip(String::new(), 0)).await;
    assert!(matches!(ping, Ok(Err(()))), "{ping:?}");
}

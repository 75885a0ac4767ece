//! Why the engine is our own: what russh does, on both ends, with the channel of a deployed relay,
//! with a reader that stalls, with much in both directions, and with keys to renew under load.
//! Where one of these fails with a newer russh, that reason is gone.

use std::borrow::Cow;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::join_all;
use russh::{Limits, cipher, mac};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::bytes::{receive, send, swap};
use super::russh_peer::{self, Gateway, Plan, Relay};
use crate::support::ssh_sides::{Keyring, Kinds};

/// In virtual time, which passes only when nothing else can happen.
const LONG: Duration = Duration::from_secs(600);
const PIPE: usize = 64 * 1024;
/// As rarely as russh can.
const NEVER: usize = 1 << 30;
/// More than all windows together.
const WIDE_PIPE: usize = 32 << 20;
/// russh's own, of each channel.
const WINDOW: usize = 2 << 20;
/// RFC 4254 §5.1.
const CHANNEL_OPEN: u8 = 90;

/// russh in both roles, and a hand on what the relay says to the gateway.
struct Pair {
    gateway: Gateway,
    relay: Relay,
    /// What reaches the gateway as if the relay had sent it, which needs packets in the clear.
    forged: mpsc::UnboundedSender<Vec<u8>>,
    /// Nothing passes while it is false.
    passes: watch::Sender<bool>,
    _between: JoinSet<()>,
}

/// Over a pipe that holds `pipe` bytes; the gateway renews keys after `rekey` bytes.
async fn pair(pipe: usize, rekey: usize) -> Pair {
    let ring = Keyring::new();
    let sides = ring.sides(&Kinds::default());
    let plan = Plan {
        cipher: cipher::NONE,
        ..Plan::default()
    };
    let (mut client, mut server) = (plan.client_config(), plan.server_config(&sides));
    client.limits = Limits::new(rekey, rekey, 2 * LONG);
    client.preferred.mac = Cow::Borrowed(&[mac::NONE]);
    server.preferred.mac = Cow::Borrowed(&[mac::NONE]);
    let (near, gateway_end) = tokio::io::duplex(pipe);
    let (far, relay_end) = tokio::io::duplex(pipe);
    let (forged, packets) = mpsc::unbounded_channel();
    let (passes, pass) = watch::channel(true);
    let mut task = JoinSet::new();
    task.spawn(between(gateway_end, relay_end, packets, pass));
    let (gateway, relay) = tokio::join!(
        russh_peer::gateway(near, &sides, client),
        russh_peer::relay(far, server),
    );
    Pair {
        gateway,
        relay,
        forged,
        passes,
        _between: task,
    }
}

/// Carries what the two say to each other, and forged packets among it.
async fn between(
    gateway: DuplexStream,
    relay: DuplexStream,
    mut forged: mpsc::UnboundedReceiver<Vec<u8>>,
    mut pass: watch::Receiver<bool>,
) {
    let (mut from_gateway, mut to_gateway) = tokio::io::split(gateway);
    let (mut from_relay, mut to_relay) = tokio::io::split(relay);
    let down = async {
        let mut buffer = vec![0; PIPE];
        while pass.wait_for(|passes| *passes).await.is_ok() {
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

/// What opens a `direct-tcpip` channel, with its four fields (RFC 4254 §7.2) or, as deployed relays
/// send it, without.
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
async fn deployed_relays_channel_ends_a_russh_session() {
    let mut pair = pair(PIPE, NEVER).await;
    pair.forged.send(direct_tcpip(true)).expect("sent");
    let opened = timeout(LONG, pair.gateway.opened.recv()).await;
    assert!(opened.expect("in time").is_some(), "forging does not work");

    let mut pair = self::pair(PIPE, NEVER).await;
    pair.forged.send(direct_tcpip(false)).expect("sent");
    let end = timeout(LONG, &mut pair.gateway.handle).await;
    let end = end.expect("the session goes on");
    assert!(matches!(end, Err(russh::Error::SshEncoding(_))), "{end:?}");
    assert!(pair.gateway.opened.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn stalled_reader_blocks_a_russh_session() {
    let mut pair = pair(PIPE, NEVER).await;
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

#[tokio::test(start_paused = true)]
async fn bulk_both_ways_blocks_a_russh_session() {
    let mut pair = pair(PIPE, NEVER).await;
    let far = russh_peer::open(&pair.relay.handle).await.into_stream();
    let near = pair
        .gateway
        .opened
        .recv()
        .await
        .expect("open")
        .into_stream();
    // Where one direction stands still for a while, both ends write until all is full, and neither
    // reads until it has written.
    pair.passes.send_replace(false);
    let mut swapping = pin!(swap(near, far, 2 * WINDOW));
    let swapped = timeout(LONG, &mut swapping).await;
    assert!(swapped.is_err(), "nothing stands still");
    pair.passes.send_replace(true);
    let swapped = timeout(LONG, &mut swapping).await;
    assert!(swapped.is_err(), "both directions go on");

    // One direction after the other is no trouble.
    let mut pair = self::pair(PIPE, NEVER).await;
    let mut far = russh_peer::open(&pair.relay.handle).await.into_stream();
    let mut near = pair
        .gateway
        .opened
        .recv()
        .await
        .expect("open")
        .into_stream();
    let one_way = async {
        tokio::join!(
            send(&mut far, 1, 2 * WINDOW),
            receive(&mut near, 1, 2 * WINDOW)
        )
    };
    timeout(LONG, one_way).await.expect("in time");
    let other_way = async {
        tokio::join!(
            send(&mut near, 2, 2 * WINDOW),
            receive(&mut far, 2, 2 * WINDOW)
        )
    };
    timeout(LONG, other_way).await.expect("in time");
}

#[tokio::test(start_paused = true)]
async fn rekey_with_busy_channels_ends_russh_session() {
    for (channels, ends) in [(1, false), (4, true)] {
        let mut pair = pair(WIDE_PIPE, 300_000).await;
        let (mut near, mut far) = (Vec::new(), Vec::new());
        for _ in 0..channels {
            far.push(russh_peer::open(&pair.relay.handle).await.into_stream());
            near.push(
                pair.gateway
                    .opened
                    .recv()
                    .await
                    .expect("open")
                    .into_stream(),
            );
        }
        // All of the windows is under way when the gateway asks for new keys.
        pair.passes.send_replace(false);
        let writing = far.iter_mut().map(|far| send(far, 1, WINDOW));
        timeout(LONG, join_all(writing)).await.expect("sent");
        let reading = near.iter_mut().map(|near| receive(near, 1, WINDOW));
        let mut reading = pin!(join_all(reading));
        let read = timeout(LONG, &mut reading).await;
        assert!(read.is_err(), "nothing stands still");
        pair.passes.send_replace(true);
        let reading = timeout(LONG, reading);
        tokio::select! {
            biased;
            end = &mut pair.gateway.handle => {
                assert!(ends && matches!(end, Err(russh::Error::Pending)), "{end:?}");
            }
            read = reading => {
                read.expect("in time");
                assert!(!ends, "the session goes on");
            }
        }
    }
}

//! The library russh against either side of ours: channels, renewed keys, keepalives.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use infisical_ssh::{Keepalive, client, server};
use russh::cipher;
use tokio::net::TcpStream;

use super::bytes::swap;
use super::russh_peer::{self, Gateway, Plan, Relay};
use crate::support::soon;
use crate::support::ssh_sides::{self, Keyring, Kinds, Sides, next};

const CHANNELS: usize = 4;
/// 64 MiB each way, in all channels.
const BYTES: usize = (64 << 20) / CHANNELS;
/// Keys are renewed after so many bytes, many times in all.
const REKEY: usize = 300_000;
/// More than a connection on loopback ever holds.
const WINDOW: u32 = 32 << 20;
/// At least at this interval. Both directions share an exchange.
const EXCHANGES: usize = 20;

fn originator() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 40_000))
}

/// Our client, and russh as its relay.
async fn our_client(sides: &Sides, ring: &Keyring, plan: &Plan) -> (client::Session, Relay) {
    let listener = ring.listen().await;
    let config = sides.client_config();
    let ours = async {
        let stream = TcpStream::connect((ring.host, 2222)).await;
        ssh_sides::connect(stream.expect("connected"), &config).await
    };
    let russh = async { russh_peer::relay(next(&listener).await, plan.server_config(sides)).await };
    let (ours, russh) = tokio::join!(ours, russh);
    (ours.expect("a session"), russh)
}

/// Our server, and russh as its gateway.
async fn our_server(
    ring: &Keyring,
    sides: &Sides,
    plan: &Plan,
    config: &server::Config,
) -> (server::Session, Gateway) {
    let listener = ring.listen().await;
    let russh = async {
        let stream = TcpStream::connect((ring.host, 2222)).await;
        russh_peer::gateway(stream.expect("connected"), sides, plan.client_config()).await
    };
    let ours = async { ssh_sides::accept(next(&listener).await, config).await };
    let (ours, russh) = tokio::join!(ours, russh);
    (ours.expect("a session"), russh)
}

#[tokio::test(flavor = "multi_thread")]
async fn our_client_carries_bulk_during_russh_rekeys() {
    let ring = Keyring::new();
    let sides = ring.sides(&Kinds::default());
    for cipher in [
        cipher::AES_128_GCM,
        cipher::AES_256_GCM,
        cipher::CHACHA20_POLY1305,
    ] {
        let plan = Plan {
            cipher,
            rekey: REKEY,
            keepalive: Some(Duration::from_millis(50)),
            window: WINDOW,
        };
        let (ours, relay) = our_client(&sides, &ring, &plan).await;
        let mut pairs = Vec::new();
        for _ in 0..CHANNELS {
            let (far, near) = tokio::join!(russh_peer::open(&relay.handle), ours.accept());
            pairs.push((far.into_stream(), near.expect("a channel")));
        }
        let swaps = pairs.into_iter().map(|(far, near)| swap(far, near, BYTES));
        soon(&format!("{cipher:?}"), join_all(swaps)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_server_carries_bulk_during_russh_rekeys() {
    let ring = Keyring::new();
    let sides = ring.sides(&Kinds::default());
    for cipher in [
        cipher::AES_128_GCM,
        cipher::AES_256_GCM,
        cipher::CHACHA20_POLY1305,
        cipher::AES_128_CTR,
        cipher::AES_192_CTR,
        cipher::AES_256_CTR,
    ] {
        let plan = Plan {
            cipher,
            rekey: REKEY,
            keepalive: Some(Duration::from_millis(50)),
            window: WINDOW,
        };
        let config = sides.server_config();
        let (ours, mut gateway) = our_server(&ring, &sides, &plan, &config).await;
        let mut pairs = Vec::new();
        for _ in 0..CHANNELS {
            let opening = ours.open(("localhost", 0), originator());
            let (near, far) = tokio::join!(opening, gateway.opened.recv());
            pairs.push((near.expect("a channel"), far.expect("open").into_stream()));
        }
        let swaps = pairs.into_iter().map(|(near, far)| swap(near, far, BYTES));
        soon(&format!("{cipher:?}"), join_all(swaps)).await;
        let exchanges = gateway.exchanges.load(Ordering::Relaxed);
        assert!(exchanges > EXCHANGES, "{cipher:?}: {exchanges} exchanges");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keepalives_are_answered_both_ways() {
    let ring = Keyring::new();
    let sides = ring.sides(&Kinds::default());
    let quick = Duration::from_millis(5);
    let plan = Plan {
        keepalive: Some(quick),
        ..Plan::default()
    };
    let config = server::Config {
        keepalive: Keepalive {
            interval: quick,
            unanswered: 1000,
        },
        ..sides.server_config()
    };
    let (ours, gateway) = our_server(&ring, &sides, &plan, &config).await;
    for _ in 0..50 {
        assert!(ours.ping(crate::support::PATIENCE).await);
        soon("russh's ping", gateway.handle.send_ping())
            .await
            .expect("an answer");
    }
    assert!(!ours.is_ended() && !gateway.handle.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_is_heard_on_either_side() {
    let ring = Keyring::new();
    let sides = ring.sides(&Kinds::default());
    let plan = Plan::default();
    let config = sides.server_config();
    let (ours, gateway) = our_server(&ring, &sides, &plan, &config).await;
    ours.close("enough").await;
    soon("the end", async { drop(gateway.handle.await) }).await;
    let (ours, relay) = our_client(&sides, &ring, &plan).await;
    let said = relay.handle.disconnect(
        russh::Disconnect::ByApplication,
        "a reason".to_owned(),
        String::new(),
    );
    said.await.expect("said");
    let end = soon("the end", ours.accept()).await;
    assert!(end.is_none());
    let end = ours.take_end().to_string();
    assert!(end.contains("a reason"), "{end}");
    drop(relay.session);
}

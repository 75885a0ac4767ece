//! Our gateway with the deployed relay, our relay with the deployed gateway (protocol.md §3): the
//! same library, the same settings.
//!
//! The last two cases send much; `INFISICAL_TEST_GIB=5 cargo test --locked --test it
//! carries_bulk_data` sends so much that both sides come to their own limits of 1 GiB for one set
//! of keys.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::go::{DeployedGateway, DeployedRelay, key_exchanges, program};
use crate::support::noise;
use crate::support::session::{Way, echoes};
use crate::support::targets::Target;
use crate::support::{PATIENCE, eventually, soon};

/// MiB that go through a tunnel whose keys last for one.
const MANY_KEYS: usize = 32;
/// That one.
const REKEY_OFTEN: [&str; 2] = ["-rekey", "1048576"];
const STREAMS: usize = 24;

/// What a service says; a deployed gateway ends without the end of TLS, so what comes after is not
/// looked at.
async fn first_line(way: &Way, service: &str) -> String {
    let mut stream = way.offer(&[service]).await.expect("the service");
    let mut line = Vec::new();
    let read = async {
        while line.last() != Some(&b'\n') {
            line.push(stream.read_u8().await.expect("a whole line"));
        }
    };
    soon("the line", read).await;
    String::from_utf8(line).expect("text")
}

async fn serves(way: &Way) {
    assert_eq!(first_line(way, "infisical-ping").await, "PONG\n");
    assert_eq!(
        first_line(way, "infisical-health").await,
        "{\"status\":\"ok\",\"heartbeatTTL\":180}\n"
    );
    let mut stream = way.tcp().await.expect("a way to the target");
    for length in [1, 40_000, 17] {
        echoes(&mut stream, &vec![7; length])
            .await
            .expect("an echo");
    }
}

/// Ends the client's direction first and wants the other to go on: `way` leads to
/// [`Target::count`].
async fn client_ends_first(way: &Way) {
    let mut stream = way.tcp().await.expect("a way to the target");
    stream.write_all(&[9; 100_000]).await.expect("sending");
    stream.shutdown().await.expect("our end");
    let mut count = String::new();
    soon("the count", stream.read_to_string(&mut count))
        .await
        .expect("an answer after our end");
    assert_eq!(count, "100000\n");
}

/// Streams that are all open at once, each with its own bytes: `way` leads to [`Target::echo`].
async fn side_by_side(way: &Way) {
    let mut streams = JoinSet::new();
    for number in 0..STREAMS {
        let way = way.clone();
        streams.spawn(async move {
            let mut stream = way.tcp().await.expect("a way to the target");
            let message = format!("stream {number} ").repeat(1000);
            for _ in 0..10 {
                echoes(&mut stream, message.as_bytes())
                    .await
                    .expect("an echo");
            }
            stream
        });
    }
    let mut open = Vec::new();
    while let Some(stream) = streams.join_next().await {
        open.push(stream.expect("a stream"));
    }
    for (number, stream) in open.iter_mut().enumerate() {
        echoes(stream, format!("still open: {number}").as_bytes())
            .await
            .expect("an echo");
    }
}

/// Sends `mib` MiB to [`Target::echo`] and back, both at once.
async fn there_and_back(way: &Way, mib: usize) {
    let stream = way.tcp().await.expect("a way to the target");
    let (reader, writer) = tokio::io::split(stream);
    let both = async { tokio::try_join!(noise::send(writer, 1, mib), noise::receive(reader)) };
    // A busy machine may need a second or two for each MiB.
    let limit = PATIENCE + PATIENCE * u32::try_from(mib / 30).expect("a size");
    let (sent, received) = tokio::time::timeout(limit, both)
        .await
        .expect("the transfer never ends")
        .expect("the whole exchange");
    assert_eq!(sent.bytes, mib << 20);
    assert_eq!(received, sent);
}

/// One exchange may do for both directions, and for what was on its way while it took place.
fn assert_many(exchanges: usize) {
    assert!(exchanges > MANY_KEYS / 4, "{exchanges} key exchanges");
}

#[tokio::test(flavor = "multi_thread")]
async fn our_gateway_serves_through_a_deployed_relay() {
    let Some(program) = program() else { return };
    let stack = DeployedRelay::start(program, &[]).await;
    let echo = Target::echo(stack.host).await;
    serves(&stack.way(&echo).await).await;
    // The platform comes through the relay too.
    stack
        .gateway
        .wait_for_line("Gateway is reachable by Infisical")
        .await;
    // Our choice of what it has.
    let agreed = stack.relay.wait_for_line("tunnel of").await;
    for best in ["kex=mlkem768x25519-sha256", "-gcm@openssh.com"] {
        assert!(agreed.contains(best), "{agreed}");
    }
    // One connection from the beginning to the end.
    assert_eq!(key_exchanges(&stack.relay), 1);
}

/// A deployed relay that has only these: what we require is among its defaults, in any order.
async fn our_gateway_gets_along_with(flags: &[&str], agreed: &str) {
    let Some(program) = program() else { return };
    let stack = DeployedRelay::start(program, flags).await;
    let echo = Target::echo(stack.host).await;
    serves(&stack.way(&echo).await).await;
    let line = stack.relay.wait_for_line("tunnel of").await;
    assert!(line.contains(agreed), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn our_gateway_accepts_curve25519_and_aes256_gcm() {
    let flags = [
        "-kex",
        "curve25519-sha256",
        "-ciphers",
        "aes256-gcm@openssh.com",
    ];
    our_gateway_gets_along_with(&flags, "kex=curve25519-sha256").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_gateway_accepts_nistp256_and_chacha20_poly1305() {
    let flags = [
        "-kex",
        "ecdh-sha2-nistp256",
        "-ciphers",
        "chacha20-poly1305@openssh.com",
    ];
    our_gateway_gets_along_with(&flags, "kex=ecdh-sha2-nistp256").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deployed_relays_client_may_end_first() {
    let Some(program) = program() else { return };
    let stack = DeployedRelay::start(program, &[]).await;
    let count = Target::count(stack.host).await;
    client_ends_first(&stack.way(&count).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deployed_relay_opens_many_streams_at_once() {
    let Some(program) = program() else { return };
    let stack = DeployedRelay::start(program, &[]).await;
    let echo = Target::echo(stack.host).await;
    side_by_side(&stack.way(&echo).await).await;
    assert_eq!(echo.accepted(), STREAMS);
}

#[tokio::test(flavor = "multi_thread")]
async fn deployed_relay_rekeys_under_load() {
    let Some(program) = program() else { return };
    let stack = DeployedRelay::start(program, &REKEY_OFTEN).await;
    let echo = Target::echo(stack.host).await;
    let way = stack.way(&echo).await;
    tokio::join!(there_and_back(&way, MANY_KEYS), side_by_side(&way));
    assert_many(key_exchanges(&stack.relay));
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_retries_while_deployed_relay_holds_it() {
    let Some(program) = program() else { return };
    let mut stack = DeployedRelay::start(program, &[]).await;
    let second = stack.spawn_gateway();
    let mark = stack.relay.mark();
    let closed = "second connection of";
    // More than once: it is refused, it waits, and it comes again.
    let find = |lines: &[String]| {
        let refusals = lines.iter().filter(|line| line.contains(closed)).count();
        (refusals >= 2).then_some(())
    };
    stack.relay.wait_for("two refusals", find).await;
    assert!(second.is_running());
    stack.gateway.kill().await;
    stack.gateway = second;
    stack.relay.wait_for_line_after(mark, "tunnel of").await;
    let echo = Target::echo(stack.host).await;
    let way = stack.way(&echo).await;
    let one_echo = || async {
        let mut stream = way.tcp().await?;
        echoes(&mut stream, b"the second one").await
    };
    eventually("the second one serves", one_echo).await;
}

/// Deployed gateways name three exchanges, but their library does not know the third, group 18, and
/// leaves it away.
async fn a_deployed_gateway_serves(kex: &str, cipher: &str, mac: &str) {
    let Some(program) = program() else { return };
    let flags = ["-kex", kex, "-ciphers", cipher, "-macs", mac];
    let flags = [&flags[..], &["-keepalive", "1s"]].concat();
    let peers = DeployedGateway::start(program, &flags).await;
    let agreed = peers.gateway.wait_for_line("tunnel opened").await;
    let both = format!("read={cipher}/{mac} write={cipher}/{mac}");
    for part in [&format!("kex={kex} host=rsa-sha2-"), &both] {
        assert!(agreed.contains(part.as_str()), "{agreed}");
    }
    let echo = Target::echo(peers.stack.host).await;
    serves(&peers.way(&echo).await).await;
    peers.gateway.wait_for_line("keepalive answered").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deployed_gateway_serves_group_14_and_aes128() {
    a_deployed_gateway_serves(
        "diffie-hellman-group14-sha256",
        "aes128-ctr",
        "hmac-sha2-256",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deployed_gateway_serves_group_14_and_aes192() {
    a_deployed_gateway_serves(
        "diffie-hellman-group14-sha256",
        "aes192-ctr",
        "hmac-sha2-512",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deployed_gateway_serves_group_14_and_aes256() {
    a_deployed_gateway_serves(
        "diffie-hellman-group14-sha256",
        "aes256-ctr",
        "hmac-sha2-512",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deployed_gateway_offers_all_its_algorithms() {
    let Some(program) = program() else { return };
    let peers = DeployedGateway::start(program, &[]).await;
    let agreed = peers.gateway.wait_for_line("tunnel opened").await;
    // The first of its lists: the client's wish decides (RFC 4253 §7.1).
    let first = "kex=diffie-hellman-group14-sha256 host=rsa-sha2-256-cert-v01@openssh.com \
                 read=aes128-ctr/hmac-sha2-256 write=aes128-ctr/hmac-sha2-256";
    assert!(agreed.contains(first), "{agreed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn deployed_gateways_second_connection_takes_over() {
    let Some(program) = program() else { return };
    let mut peers = DeployedGateway::start(program, &[]).await;
    let second = peers.again(program).await;
    peers.stack.relay.wait_for_line("takes over").await;
    peers.gateway.wait_for_line("closed the tunnel").await;
    peers.gateway = second;
    let echo = Target::echo(peers.stack.host).await;
    serves(&peers.way(&echo).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_client_delivers_all_from_deployed_gateway() {
    let Some(program) = program() else { return };
    let peers = DeployedGateway::start(program, &[]).await;
    let (told, _rest) = tokio::sync::mpsc::unbounded_channel();
    let target = Target::end_first(peers.stack.host, "end", told).await;
    let (_connect, address) = peers.connect(&target).await;
    let mut stream = TcpStream::connect(address).await.expect("the local port");
    let mut message = Vec::new();
    let end = soon("the end", stream.read_to_end(&mut message)).await;
    assert_eq!(
        (message.as_slice(), end.is_ok()),
        (&b"end"[..], true),
        "{end:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn deployed_gateways_client_sees_targets_end() {
    let Some(program) = program() else { return };
    let peers = DeployedGateway::start(program, &[]).await;
    let (told, _rest) = tokio::sync::mpsc::unbounded_channel();
    let target = Target::end_first(peers.stack.host, "end", told).await;
    let mut stream = peers.way(&target).await.tcp().await.expect("a way");
    let mut message = Vec::new();
    let end = soon("the end", stream.read_to_end(&mut message)).await;
    assert_eq!(message, b"end");
    // The channel is closed without EOF, but TLS 2 has ended in order.
    end.expect("deployed gateways end TLS 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_gateways_client_may_end_first() {
    let Some(program) = program() else { return };
    let peers = DeployedGateway::start(program, &["-half-close"]).await;
    let count = Target::count(peers.stack.host).await;
    client_ends_first(&peers.way(&count).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_relay_opens_many_streams_at_once() {
    let Some(program) = program() else { return };
    let peers = DeployedGateway::start(program, &[]).await;
    let echo = Target::echo(peers.stack.host).await;
    side_by_side(&peers.way(&echo).await).await;
    assert_eq!(echo.accepted(), STREAMS);
}

#[tokio::test(flavor = "multi_thread")]
async fn deployed_gateway_rekeys_under_load() {
    let Some(program) = program() else { return };
    let flags = [&["-half-close"], &REKEY_OFTEN[..]].concat();
    let peers = DeployedGateway::start(program, &flags).await;
    let echo = Target::echo(peers.stack.host).await;
    let way = peers.way(&echo).await;
    tokio::join!(there_and_back(&way, MANY_KEYS), side_by_side(&way));
    assert_many(key_exchanges(&peers.gateway));
}

#[tokio::test(flavor = "multi_thread")]
async fn deployed_peers_may_rekey_immediately() {
    const REKEY_ALWAYS: [&str; 2] = ["-rekey", "256"];
    let Some(program) = program() else { return };
    let stack = DeployedRelay::start(program, &REKEY_ALWAYS).await;
    let echo = Target::echo(stack.host).await;
    there_and_back(&stack.way(&echo).await, 1).await;
    let flags = [&["-half-close"], &REKEY_ALWAYS[..]].concat();
    let peers = DeployedGateway::start(program, &flags).await;
    let echo = Target::echo(peers.stack.host).await;
    there_and_back(&peers.way(&echo).await, 1).await;
}

/// MiB for each direction: little by default, since every run of the tests has to wait for it.
fn much() -> usize {
    match std::env::var("INFISICAL_TEST_GIB") {
        Ok(gib) => gib.parse::<usize>().expect("INFISICAL_TEST_GIB") << 10,
        Err(_) => 128,
    }
}

/// Both sides exchange keys again after 1 GiB in either direction.
fn assert_exchanged(exchanges: usize, mib: usize) {
    let expected = 1 + (mib - 1) / 1024;
    assert!(
        exchanges >= expected,
        "{exchanges} key exchanges for {mib} MiB, at least {expected} are due"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn deployed_relay_carries_bulk_data() {
    let Some(program) = program() else { return };
    let stack = DeployedRelay::start(program, &[]).await;
    let echo = Target::echo(stack.host).await;
    there_and_back(&stack.way(&echo).await, much()).await;
    assert_exchanged(key_exchanges(&stack.relay), much());
}

#[tokio::test(flavor = "multi_thread")]
async fn our_relay_carries_bulk_data() {
    let Some(program) = program() else { return };
    let peers = DeployedGateway::start(program, &["-half-close"]).await;
    let echo = Target::echo(peers.stack.host).await;
    there_and_back(&peers.way(&echo).await, much()).await;
    assert_exchanged(key_exchanges(&peers.gateway), much());
}

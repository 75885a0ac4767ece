//! Much at once.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::noise;
use crate::support::session::echoes;
use crate::support::stack::Stack;
use crate::support::targets::Target;
use crate::support::{PATIENCE, eventually, soon};

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_sessions_stay_apart() {
    const SESSIONS: usize = 200;
    let stack = Stack::start().await;
    let echo = Target::echo(stack.host).await;
    let (_connect, address) = stack.connect(&echo.address.to_string()).await;
    let mut sessions = JoinSet::new();
    let all_open = std::sync::Arc::new(tokio::sync::Barrier::new(SESSIONS));
    for number in 0..SESSIONS {
        let all_open = std::sync::Arc::clone(&all_open);
        sessions.spawn(async move {
            let mut stream = TcpStream::connect(address).await.expect("the local port");
            let message = format!("session {number} ").repeat(64);
            echoes(&mut stream, message.as_bytes())
                .await
                .expect("the first echo");
            // No one goes on before everyone has a working session.
            soon("all sessions", all_open.wait()).await;
            echoes(&mut stream, message.as_bytes())
                .await
                .expect("the second echo");
            stream.shutdown().await.expect("our end");
            let mut rest = Vec::new();
            soon("the end", stream.read_to_end(&mut rest))
                .await
                .expect("a clean end");
            assert!(
                rest.is_empty(),
                "session {number} was sent more than its echo"
            );
        });
    }
    while let Some(session) = sessions.join_next().await {
        session.expect("a session");
    }
    assert_eq!(echo.accepted(), SESSIONS);
}

const QUARTER_GIB: usize = 256;

/// Waits for a transfer of that size, which a busy machine may need some time for.
async fn in_time<F: Future>(transfer: F) -> F::Output {
    tokio::time::timeout(4 * PATIENCE, transfer)
        .await
        .expect("the transfer never ends")
}

#[tokio::test(flavor = "multi_thread")]
async fn quarter_gibibyte_goes_each_way_intact() {
    let stack = Stack::start().await;
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let target = Target::exchange(stack.host, QUARTER_GIB, told).await;
    let (_connect, address) = stack.connect(&target.address.to_string()).await;
    let stream = TcpStream::connect(address).await.expect("the local port");
    let (reader, writer) = stream.into_split();
    let both =
        async { tokio::try_join!(noise::send(writer, 1, QUARTER_GIB), noise::receive(reader)) };
    let (sent, received) = in_time(both).await.expect("the whole exchange");
    let (their_sent, their_received) = soon("the target's sums", heard.recv())
        .await
        .expect("the target lives");
    assert_eq!(their_received, sent);
    assert_eq!(received, their_sent);
    assert_eq!(received.bytes, QUARTER_GIB << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_echo_needs_no_client_patience() {
    let stack = Stack::start().await;
    let echo = Target::echo(stack.host).await;
    let (_connect, address) = stack.connect(&echo.address.to_string()).await;
    let stream = TcpStream::connect(address).await.expect("the local port");
    let (reader, writer) = stream.into_split();
    let both =
        async { tokio::try_join!(noise::send(writer, 1, QUARTER_GIB), noise::receive(reader)) };
    let (sent, received) = in_time(both).await.expect("the whole exchange");
    assert_eq!(received, sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_client_delays_no_one_else() {
    let stack = Stack::start().await;
    let (told, _heard) = tokio::sync::mpsc::unbounded_channel();
    let source = Target::exchange(stack.host, QUARTER_GIB, told).await;
    let echo = Target::echo(stack.host).await;
    let _stalled = stack.way(&source).await.tcp().await.expect("a way");
    let way = stack.way(&echo).await;
    // Long enough for every buffer on the stalled path to be full.
    for _ in 0..500 {
        let mut stream = way.tcp().await.expect("a way");
        echoes(&mut stream, &[1; 10_000]).await.expect("an echo");
    }
    assert!(stack.gateway.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_end_leave_nothing_behind() {
    let stack = Stack::start().await;
    let echo = Target::echo(stack.host).await;
    let (connect, address) = stack.connect(&echo.address.to_string()).await;
    let daemons = [&stack.relay, &stack.gateway, &connect];
    let descriptors = |pid: nix::unistd::Pid| {
        std::fs::read_dir(format!("/proc/{pid}/fd"))
            .expect("a running process")
            .count()
    };
    let one = async || {
        let mut stream = TcpStream::connect(address).await.expect("the local port");
        echoes(&mut stream, b"one of many").await.expect("an echo");
    };
    one().await;
    let before: Vec<usize> = daemons.iter().map(|d| descriptors(d.pid())).collect();
    for _ in 0..30 {
        one().await;
    }
    for (daemon, before) in daemons.iter().zip(before) {
        // A little slack for what belongs to the last session, none for thirty.
        eventually("the descriptors are given back", || async {
            let now = descriptors(daemon.pid());
            if now <= before + 3 {
                Ok(())
            } else {
                Err(format!("{now} open, {before} before"))
            }
        })
        .await;
    }
}

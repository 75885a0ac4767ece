//! Much at once.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::session::echoes;
use crate::support::stack::Stack;
use crate::support::targets::Target;
use crate::support::{eventually, soon};

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_sessions_at_once_keep_their_bytes_apart() {
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
            // Nobody goes on before everybody has a working session.
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

/// Bytes that differ everywhere, so that a lost, repeated or moved block shows.
struct Noise(u64);

impl Noise {
    fn fill(&mut self, block: &mut [u8]) {
        for chunk in block.chunks_mut(8) {
            // splitmix64
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes()[..chunk.len()]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarter_of_a_gibibyte_goes_both_ways_unharmed() {
    const BLOCKS: usize = 256;
    let stack = Stack::start().await;
    let echo = Target::echo(stack.host).await;
    let (_connect, address) = stack.connect(&echo.address.to_string()).await;
    let stream = TcpStream::connect(address).await.expect("the local port");
    let (mut reader, mut writer) = stream.into_split();
    let mut writing = JoinSet::new();
    writing.spawn(async move {
        let mut noise = Noise(1);
        let mut block = vec![0; MIB];
        let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        for _ in 0..BLOCKS {
            noise.fill(&mut block);
            digest.update(&block);
            writer.write_all(&block).await.expect("writing");
        }
        writer.shutdown().await.expect("our end");
        digest.finish()
    });
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let mut total = 0;
    let mut block = vec![0; MIB];
    loop {
        let count = soon("more bytes", reader.read(&mut block))
            .await
            .expect("reading");
        if count == 0 {
            break;
        }
        digest.update(&block[..count]);
        total += count;
    }
    let sent = writing
        .join_next()
        .await
        .expect("a writer")
        .expect("no panic");
    assert_eq!(total, BLOCKS * MIB);
    assert_eq!(digest.finish().as_ref(), sent.as_ref(), "the bytes differ");
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

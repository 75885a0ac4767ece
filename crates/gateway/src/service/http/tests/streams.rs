//! Bodies much larger than what may be held in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use super::support::{Setup, listen, read_head, soon};
use crate::scope::Scope;

const TOTAL: u64 = 64 * 1024 * 1024;
/// Above what the kernel holds for two sockets on loopback, and far below the whole.
const HELD: u64 = 32 * 1024 * 1024;
const PIECE: usize = 256 * 1024;

/// One piece of the test's body; each differs from its neighbours.
fn piece(number: u64) -> Vec<u8> {
    (0..PIECE as u64)
        .map(|at| (at.wrapping_mul(31) ^ number.wrapping_mul(7)).to_le_bytes()[0])
        .collect()
}

/// What is still to come of the body.
#[derive(Default)]
struct Expected {
    number: u64,
    rest: Vec<u8>,
}

impl Expected {
    /// Takes bytes as they come, cut anywhere.
    fn check(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.rest.is_empty() {
                self.rest = piece(self.number);
                self.number += 1;
            }
            let common = bytes.len().min(self.rest.len());
            assert!(
                bytes[..common] == self.rest[..common],
                "piece {} differs",
                self.number - 1
            );
            self.rest.drain(..common);
            bytes = &bytes[common..];
        }
    }

    fn finish(&self) {
        assert_eq!((self.number, self.rest.len()), (TOTAL / PIECE as u64, 0));
    }
}

/// Waits until `count` no longer moves while every task has had its turns.
async fn stalled(count: &AtomicU64) -> u64 {
    let (mut last, mut still) = (u64::MAX, 0);
    while still < 2000 {
        tokio::task::yield_now().await;
        let now = count.load(Ordering::Relaxed);
        still = if now == last { still + 1 } else { 0 };
        last = now;
    }
    last
}

#[tokio::test]
async fn a_slow_reader_holds_the_target_back() {
    for framing in ["Content-Length: 67108864", "Transfer-Encoding: chunked"] {
        let scope = Scope::new("test");
        let (listener, port) = listen().await;
        let written = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&written);
        scope.spawn("target", async move {
            let (tcp, _) = listener.accept().await.expect("a connection");
            let mut tcp = BufReader::new(tcp);
            read_head(&mut tcp).await.expect("a request");
            let head = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n");
            tcp.write_all(head.as_bytes()).await.expect("head");
            let chunked = framing.ends_with("chunked");
            for number in 0..TOTAL / PIECE as u64 {
                if chunked {
                    tcp.write_all(format!("{PIECE:x}\r\n").as_bytes())
                        .await
                        .expect("size");
                }
                tcp.write_all(&piece(number)).await.expect("body");
                if chunked {
                    tcp.write_all(b"\r\n").await.expect("end");
                }
                counter.fetch_add(PIECE as u64, Ordering::Relaxed);
            }
            if chunked {
                tcp.write_all(b"0\r\n\r\n").await.expect("the last chunk");
            }
        });
        let mut client = Setup::to("127.0.0.1", port).serve_plain(&scope).await;
        client.send("GET / HTTP/1.1\r\n\r\n").await;
        let head = client.head().await;
        let held = soon("a stall", stalled(&written)).await;
        assert!(held < HELD, "{held} bytes were taken from the target");
        let chunked = head.header("transfer-encoding").is_some();
        let mut expected = Expected::default();
        let mut left = if chunked { 0 } else { TOTAL };
        let mut buffer = vec![0; PIECE];
        loop {
            if left == 0 && chunked {
                let mut size = String::new();
                client.stream.read_line(&mut size).await.expect("a size");
                left = u64::from_str_radix(size.trim(), 16).expect("a size");
            }
            if left == 0 {
                break;
            }
            let most = buffer.len().min(usize::try_from(left).expect("a size"));
            let n = client
                .stream
                .read(&mut buffer[..most])
                .await
                .expect("the body");
            assert_ne!(n, 0, "the body ended early");
            expected.check(&buffer[..n]);
            left -= n as u64;
            if left == 0 && chunked {
                client
                    .stream
                    .read_line(&mut String::new())
                    .await
                    .expect("a chunk's end");
            } else if left == 0 {
                break;
            }
        }
        expected.finish();
        if chunked {
            client
                .stream
                .read_line(&mut String::new())
                .await
                .expect("the end");
        }
        client.finish().await.expect("a clean end");
    }
}

#[tokio::test]
async fn a_slow_target_holds_the_client_back() {
    for chunked in [false, true] {
        let scope = Scope::new("test");
        let (listener, port) = listen().await;
        let client = Setup::to("127.0.0.1", port).serve_plain(&scope).await;
        let (reader, mut writer) = tokio::io::split(client.stream.into_inner());
        let written = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&written);
        scope.spawn("uploader", async move {
            let framing = if chunked {
                "Transfer-Encoding: chunked".to_owned()
            } else {
                format!("Content-Length: {TOTAL}")
            };
            let head = format!("PUT / HTTP/1.1\r\n{framing}\r\n\r\n");
            writer.write_all(head.as_bytes()).await.expect("head");
            for number in 0..TOTAL / PIECE as u64 {
                if chunked {
                    writer
                        .write_all(format!("{PIECE:x}\r\n").as_bytes())
                        .await
                        .expect("size");
                }
                writer.write_all(&piece(number)).await.expect("body");
                if chunked {
                    writer.write_all(b"\r\n").await.expect("end");
                }
                counter.fetch_add(PIECE as u64, Ordering::Relaxed);
            }
            if chunked {
                writer
                    .write_all(b"0\r\n\r\n")
                    .await
                    .expect("the last chunk");
            }
            // Kept open for the answer.
            std::future::pending::<()>().await;
        });
        let (tcp, _) = soon("a connection", listener.accept())
            .await
            .expect("a connection");
        let mut tcp = BufReader::new(tcp);
        let head = soon("a head", read_head(&mut tcp)).await.expect("a head");
        let held = soon("a stall", stalled(&written)).await;
        assert!(held < HELD, "{held} bytes were taken from the client");
        let body = soon("the body", super::support::read_body(&mut tcp, &head)).await;
        let body = body.expect("the whole body");
        let mut expected = Expected::default();
        expected.check(&body);
        expected.finish();
        tcp.write_all(super::support::ok("thanks").as_bytes())
            .await
            .expect("answer");
        let mut reader = BufReader::new(reader);
        let head = soon("an answer", read_head(&mut reader))
            .await
            .expect("an answer");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    }
}

//! Long streams in which nothing can be lost, doubled or moved unseen.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The stream repeats after a prime number of bytes, which no packet or window divides.
const PERIOD: usize = 1_048_573;
/// From one byte to more than any packet holds.
const WRITES: [usize; 6] = [1, 17, 1000, 32_768, 40_001, 100_000];

/// An endless stream, which `seed` chooses.
struct Pattern {
    block: Vec<u8>,
    at: usize,
}

impl Pattern {
    fn new(seed: u64) -> Self {
        // Marsaglia's xorshift; it must not start with zero.
        let mut state = seed.wrapping_mul(2).wrapping_add(1);
        let mut block = Vec::with_capacity(PERIOD + 8);
        while block.len() < PERIOD {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            block.extend_from_slice(&state.to_le_bytes());
        }
        block.truncate(PERIOD);
        Self { block, at: 0 }
    }

    /// The next bytes, `most` at most.
    fn next(&mut self, most: usize) -> &[u8] {
        let start = self.at;
        let end = PERIOD.min(start + most);
        self.at = end % PERIOD;
        &self.block[start..end]
    }
}

/// Writes `total` bytes of a pattern in pieces of very different sizes, and ends the direction.
pub(crate) async fn send(writer: &mut (impl AsyncWrite + Unpin), seed: u64, total: usize) {
    let mut pattern = Pattern::new(seed);
    let mut sizes = WRITES.iter().cycle();
    let mut left = total;
    while left > 0 {
        let size = sizes.next().expect("endless");
        let piece = pattern.next(left.min(*size));
        left -= piece.len();
        let written = writer.write_all(piece).await;
        written.unwrap_or_else(|error| panic!("{left} bytes before the end: {error}"));
    }
    writer.shutdown().await.expect("an end");
}

/// Reads `total` bytes of a pattern, and the end.
pub(crate) async fn receive(reader: &mut (impl AsyncRead + Unpin), seed: u64, total: usize) {
    let mut pattern = Pattern::new(seed);
    let mut buffer = vec![0; 64 * 1024];
    let mut at = 0;
    loop {
        let read = reader.read(&mut buffer).await;
        let read = read.unwrap_or_else(|error| panic!("after {at} bytes: {error}"));
        if read == 0 {
            assert_eq!(at, total, "the stream ended early");
            return;
        }
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            let due = pattern.next(rest.len());
            let (piece, left) = rest.split_at(due.len());
            assert!(piece == due, "wrong bytes after {at}");
            at += piece.len();
            rest = left;
        }
        assert!(at <= total, "more bytes than were sent");
    }
}

/// `total` bytes each way at the same time.
pub(crate) async fn swap<A, B>(one: A, other: B, total: usize)
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (mut one_reader, mut one_writer) = tokio::io::split(one);
    let (mut other_reader, mut other_writer) = tokio::io::split(other);
    tokio::join!(
        send(&mut one_writer, 1, total),
        receive(&mut other_reader, 1, total),
        send(&mut other_writer, 2, total),
        receive(&mut one_reader, 2, total),
    );
}

/// `total` bytes to a peer that sends back what it gets.
pub(crate) async fn echo(stream: impl AsyncRead + AsyncWrite, total: usize) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    tokio::join!(send(&mut writer, 3, total), receive(&mut reader, 3, total));
}

#[tokio::test]
#[should_panic(expected = "wrong bytes after")]
async fn a_doubled_byte_is_seen() {
    let (mut near, mut far) = tokio::io::duplex(1 << 20);
    let mut pattern = Pattern::new(7);
    let sent = async {
        near.write_all(pattern.next(500)).await.expect("written");
        pattern.at -= 1;
        near.write_all(pattern.next(500)).await.expect("written");
    };
    tokio::join!(sent, receive(&mut far, 7, 1000));
}

//! A stream with a read buffer that exists only while there is something in it.
//!
//! Most tunnels are silent most of the time, so memory that waits for bytes is memory for nothing.
//! The buffer is taken when the stream is asked for bytes, and given back at once if there are
//! none, or else when the last of them has been consumed. What is given back goes to the next
//! stream of the same thread; a thread keeps [`KEPT`] at most.
//!
//! Anyone who reads in small pieces, as the TLS library does (4 KiB at a time), also saves system
//! calls.

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

use super::delegate::delegate_writing;
use super::progress::Progress;

/// Bytes of a buffer. As two TLS records they fill one SSH packet of 32 KiB and not a few bytes of
/// a second one: each has a header of 5 bytes, and at most 24 of nonce and tag (RFC 5246 §6.2.3.3,
/// RFC 8446 §5.2).
pub const BUFFER: usize = 32 * 1024 - 2 * (5 + 24);

/// Buffers that a thread keeps for its next streams. Few are in use at once: one for each stream
/// that waits for its bytes to be taken, and one for the stream that is being read.
const KEPT: usize = 4;

thread_local! {
    static SPARE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A stream that is read through a buffer of [`BUFFER`] bytes, and written without one.
#[derive(Debug)]
pub struct PooledBufReader<S> {
    inner: S,
    /// Never empty.
    unread: Option<Unread>,
}

impl<S> PooledBufReader<S> {
    /// Reads `inner` with a buffer that comes and goes.
    pub const fn new(inner: S) -> Self {
        Self {
            inner,
            unread: None,
        }
    }

    /// The stream itself. What is in the buffer has been read from it already.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// True while it has a buffer.
    #[cfg(test)]
    pub(crate) const fn holds_buffer(&self) -> bool {
        self.unread.is_some()
    }
}

/// A buffer, and where in it the bytes are that no one has taken yet.
struct Unread {
    /// Given back by [`Drop`] alone.
    buffer: Box<[u8]>,
    range: Range<usize>,
}

impl Unread {
    /// A buffer with nothing in it.
    fn take() -> Self {
        let spare = SPARE.try_with(|spare| spare.borrow_mut().pop());
        let buffer = spare.ok().flatten();
        Self {
            buffer: buffer.unwrap_or_else(|| vec![0; BUFFER].into_boxed_slice()),
            range: 0..0,
        }
    }

    fn bytes(&self) -> &[u8] {
        self.buffer.get(self.range.clone()).unwrap_or_default()
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        // A thread that ends needs none any more.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < KEPT {
                spare.push(buffer);
            }
        });
    }
}

impl std::fmt::Debug for Unread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not what is in it.
        f.debug_tuple("Unread").field(&self.range.len()).finish()
    }
}

impl<S: Progress> Progress for PooledBufReader<S> {
    fn progress(&self) -> u64 {
        self.inner.progress()
    }
}

impl<S: AsyncRead + Unpin> AsyncBufRead for PooledBufReader<S> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        if this.unread.is_none() {
            let mut unread = Unread::take();
            let mut buffer = ReadBuf::new(&mut unread.buffer);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut buffer))?;
            let filled = buffer.filled().len();
            if filled > 0 {
                unread.range = 0..filled;
                this.unread = Some(unread);
            }
        }
        Poll::Ready(Ok(this.unread.as_ref().map_or(&[], Unread::bytes)))
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        if let Some(unread) = &mut self.unread {
            unread.range.start = unread.range.start.saturating_add(amount);
            if unread.range.is_empty() {
                self.unread = None;
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PooledBufReader<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.is_none() && buffer.remaining() >= BUFFER {
            return Pin::new(&mut self.inner).poll_read(cx, buffer);
        }
        let bytes = ready!(self.as_mut().poll_fill_buf(cx))?;
        let (taken, _) = bytes
            .split_at_checked(buffer.remaining())
            .unwrap_or((bytes, &[]));
        buffer.put_slice(taken);
        let amount = taken.len();
        self.consume(amount);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PooledBufReader<S> {
    delegate_writing!();

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::{BUFFER, KEPT, PooledBufReader, SPARE, Unread};
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, duplex};

    #[tokio::test]
    async fn buffer_exists_only_while_it_holds_bytes() {
        let (mut far, near) = duplex(64);
        let mut near = PooledBufReader::new(near);
        assert!(futures_util::poll!(std::pin::pin!(near.fill_buf())).is_pending());
        assert!(!near.holds_buffer(), "while it waits");

        far.write_all(b"abcdef").await.expect("written");
        assert_eq!(near.fill_buf().await.expect("bytes"), b"abcdef");
        near.consume(2);
        assert!(near.holds_buffer(), "while some are left");
        assert_eq!(near.fill_buf().await.expect("the rest"), b"cdef");
        near.consume(4);
        assert!(!near.holds_buffer(), "once all are consumed");

        drop(far);
        assert_eq!(near.fill_buf().await.expect("the end"), b"");
        assert!(!near.holds_buffer(), "at the end");
    }

    #[tokio::test]
    async fn small_reads_keep_order() {
        let text: Vec<u8> = (0..=255).cycle().take(1000).collect();
        let mut reader = PooledBufReader::new(&text[..]);
        let mut piece = [0; 7];
        let mut all = Vec::new();
        loop {
            let n = reader.read(&mut piece).await.expect("readable");
            if n == 0 {
                break;
            }
            all.extend_from_slice(&piece[..n]);
            assert!(reader.get_ref().is_empty(), "all was read at once");
        }
        assert_eq!(all, text);
    }

    #[tokio::test]
    async fn buffer_sized_read_needs_no_buffer() {
        let text = vec![7; BUFFER + 1];
        let mut reader = PooledBufReader::new(&text[..]);
        let mut piece = vec![0; BUFFER];
        assert_eq!(reader.read(&mut piece).await.expect("readable"), BUFFER);
        assert_eq!(reader.get_ref().len(), 1);
        assert!(!reader.holds_buffer());
    }

    #[test]
    fn a_thread_keeps_few_buffers() {
        let many: Vec<Unread> = (0..2 * KEPT).map(|_| Unread::take()).collect();
        drop(many);
        assert_eq!(SPARE.with_borrow(Vec::len), KEPT);
        let one = Unread::take();
        assert_eq!(SPARE.with_borrow(Vec::len), KEPT - 1);
        assert!(!format!("{one:?}").contains(", 0"), "no content is shown");
    }
}

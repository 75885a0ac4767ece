//! One channel as a byte stream. Data are copied once on their way out, into the packet that is
//! sealed in place, and not at all on their way in: they are read where they were decrypted
//! ([`AsyncBufRead`]).

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::poll_proceed;

use super::connection::{ChannelId, Reading, Room, data_packet};
use super::driver::Shared;
use super::packet::Payload;
use super::wire::Write as _;
use crate::net::progress::Progress;

/// Bytes wanted at once at most: what one packet holds.
const MAX_WRITE: usize = 32 * 1024;
/// So many bytes that were read are reported to the session, even in the middle of what it gave.
const TELL_READ: usize = 64 * 1024;

/// Places for received packets that an idle channel keeps: few bytes, and no allocation for each
/// packet.
const KEPT_CHUNKS: usize = 8;

/// The right to a channel; the channel is closed when it is dropped.
pub(super) struct Handle {
    shared: Arc<Shared>,
    id: ChannelId,
}

impl Handle {
    pub(super) fn new(shared: Arc<Shared>, id: ChannelId) -> Self {
        Self { shared, id }
    }

    /// Takes in what the peer sends, until it has closed the channel or the session has ended.
    fn poll_closed(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.shared.lock();
        let mut received = VecDeque::new();
        state.connection.take_received(self.id, &mut received);
        let bytes = received.iter().map(|chunk| chunk.len()).sum();
        if state.connection.read(self.id, bytes) {
            self.shared.transmit();
        }
        if state.connection.is_closed(self.id) {
            return Poll::Ready(());
        }
        state.wait_to_read(self.id, cx.waker());
        Poll::Pending
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.forget(self.id);
        state.connection.release(self.id);
        drop(state);
        self.shared.transmit();
    }
}

/// An open channel. Shutting down the write side sends EOF and leaves the other direction open;
/// dropping it closes the channel. Writing to a channel that the peer has closed is an error,
/// shutting it down is not. Reading from a channel whose session ended before the channel did is an
/// error.
pub struct ChannelStream {
    handle: Arc<Handle>,
    /// Received and not yet read; the first one may have been read in part.
    chunks: VecDeque<Payload>,
    /// Read, and not yet told to the session.
    read: usize,
    /// Taken from us to be sent, ever; the peer's window bounds it.
    written: u64,
    shut_down: bool,
    requires_eof: bool,
}

/// Keeps a channel that was shut down and dropped open until its peer has closed it, so that what
/// was written last is with the peer then.
pub struct CloseWait(Arc<Handle>);

impl CloseWait {
    /// Waits until the peer has closed the channel, `limit` at most, and takes in what it still
    /// sends.
    pub async fn wait(self, limit: Duration) {
        let closing = std::future::poll_fn(|cx| self.0.poll_closed(cx));
        let _ = tokio::time::timeout(limit, closing).await;
    }
}

impl ChannelStream {
    pub(super) fn new(handle: Handle) -> Self {
        Self {
            handle: Arc::new(handle),
            chunks: VecDeque::new(),
            read: 0,
            written: 0,
            shut_down: false,
            requires_eof: false,
        }
    }

    /// The one who holds what is returned keeps the channel open beyond the drop of this, if it was
    /// shut down.
    #[must_use]
    pub fn close_wait(&self) -> CloseWait {
        CloseWait(Arc::clone(&self.handle))
    }

    /// From now on reading from a channel that the peer closed without EOF ends with an error.
    /// Relays send EOF when a client has ended, and CLOSE alone when they have lost it. (Deployed
    /// gateways end every session with CLOSE alone.)
    pub fn require_eof(&mut self) {
        self.requires_eof = true;
    }

    /// Makes the first chunk one with something to read; without any if nothing more will come.
    fn poll_chunk(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if !self.chunks.is_empty() && self.read < TELL_READ {
            return Poll::Ready(Ok(()));
        }
        let Handle { shared, id } = &*self.handle;
        let mut state = shared.lock();
        let has_credit =
            self.read > 0 && state.connection.read(*id, std::mem::take(&mut self.read));
        let poll = if self.chunks.is_empty() {
            match state.connection.take_received(*id, &mut self.chunks) {
                Reading::Closed if self.requires_eof => {
                    Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
                }
                Reading::Data | Reading::Ended | Reading::Closed => Poll::Ready(Ok(())),
                Reading::Pending => {
                    state.wait_to_read(*id, cx.waker());
                    Poll::Pending
                }
                Reading::Cut => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
            }
        } else {
            Poll::Ready(Ok(()))
        };
        drop(state);
        if has_credit {
            shared.transmit();
        }
        poll
    }

    fn advance(&mut self, bytes: usize) {
        let Some(first) = self.chunks.front_mut() else {
            return;
        };
        let bytes = bytes.min(first.len());
        first.advance(bytes);
        self.read = self.read.saturating_add(bytes);
        if first.is_empty() {
            self.chunks.pop_front();
            if self.chunks.is_empty() && self.chunks.capacity() > KEPT_CHUNKS {
                // What an idle channel need not keep.
                self.chunks = VecDeque::new();
            }
        }
    }
}

impl Drop for ChannelStream {
    fn drop(&mut self) {
        let Handle { shared, id } = &*self.handle;
        if self.shut_down {
            // No one will read it: a close wait takes in what comes, as long as the peer may send
            // it.
            let unread = self.chunks.iter().map(|chunk| chunk.len());
            let bytes = unread.fold(self.read, usize::saturating_add);
            shared.lock().connection.read(*id, bytes);
        } else {
            shared.lock().connection.close(*id);
        }
        shared.transmit();
    }
}

impl std::fmt::Debug for CloseWait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CloseWait")
            .field("id", &self.0.id)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ChannelStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChannelStream")
            .field("id", &self.handle.id)
            .finish_non_exhaustive()
    }
}

impl Progress for ChannelStream {
    fn progress(&self) -> u64 {
        self.written
    }
}

impl AsyncBufRead for ChannelStream {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        let turn = ready!(poll_proceed(cx));
        ready!(this.poll_chunk(cx))?;
        turn.made_progress();
        Poll::Ready(Ok(this.chunks.front().map_or(&[], |chunk| chunk)))
    }

    fn consume(self: Pin<&mut Self>, bytes: usize) {
        self.get_mut().advance(bytes);
    }
}

impl AsyncRead for ChannelStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let turn = ready!(poll_proceed(cx));
        ready!(this.poll_chunk(cx))?;
        turn.made_progress();
        // As many chunks as there is room for.
        while let Some(first) = this.chunks.front() {
            let bytes = first.len().min(buffer.remaining());
            if bytes == 0 {
                break;
            }
            buffer.put_slice(first.get(..bytes).unwrap_or_default());
            this.advance(bytes);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ChannelStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buffer)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wanted = buffers
            .iter()
            .map(|buffer| buffer.len())
            .fold(0, usize::saturating_add)
            .min(MAX_WRITE);
        if wanted == 0 {
            return Poll::Ready(Ok(0));
        }
        let turn = ready!(poll_proceed(cx));
        let Handle { shared, id } = &*self.handle;
        let mut state = shared.lock();
        let (length, recipient) = match state.connection.reserve(*id, wanted) {
            Room::Bytes { length, recipient } => (length, recipient),
            Room::Pending => {
                state.wait_to_write(*id, cx.waker());
                return Poll::Pending;
            }
            Room::Closed => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        };
        drop(state);
        turn.made_progress();
        // Copied without holding anyone up.
        let mut packet = data_packet(recipient, length);
        let mut left = length;
        for buffer in buffers {
            let part = buffer.get(..left).unwrap_or(buffer);
            packet.put(part);
            left = left.saturating_sub(part.len());
        }
        shared.lock().connection.submit(*id, packet);
        shared.transmit();
        self.written = self.written.saturating_add(length as u64);
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What was written is on its way already.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut_down = true;
        self.handle.shared.lock().connection.finish(self.handle.id);
        self.handle.shared.transmit();
        Poll::Ready(Ok(()))
    }
}

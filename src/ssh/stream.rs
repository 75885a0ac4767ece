//! One channel as a byte stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use russh::ChannelStream as RusshStream;
use russh::{client, server};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// An open channel. Shutting down the write side sends EOF and leaves the other direction open; dropping
/// it closes the channel. Writing to a channel that the peer has closed is an error, shutting it down is
/// not.
pub struct ChannelStream {
    side: Side,
    /// Resolves when the peer closes the channel or the session ends.
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
}

enum Side {
    Accepted(RusshStream<client::Msg>),
    Opened(RusshStream<server::Msg>),
}

impl ChannelStream {
    pub(super) fn accepted(
        channel: russh::Channel<client::Msg>,
        closed: CancellationToken,
    ) -> Self {
        Self::new(Side::Accepted(channel.into_stream()), closed)
    }

    pub(super) fn opened(channel: russh::Channel<server::Msg>, closed: CancellationToken) -> Self {
        Self::new(Side::Opened(channel.into_stream()), closed)
    }

    fn new(side: Side, closed: CancellationToken) -> Self {
        Self {
            side,
            closed: Box::pin(closed.cancelled_owned()),
        }
    }

    /// True once the peer has closed the channel; registers for it otherwise.
    fn is_closed(&mut self, cx: &mut Context<'_>) -> bool {
        Future::poll(self.closed.as_mut(), cx).is_ready()
    }
}

impl std::fmt::Debug for ChannelStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChannelStream").finish_non_exhaustive()
    }
}

impl AsyncRead for ChannelStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.side {
            Side::Accepted(stream) => Pin::new(stream).poll_read(cx, buffer),
            Side::Opened(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for ChannelStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_closed(cx) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        match &mut self.side {
            Side::Accepted(stream) => Pin::new(stream).poll_write(cx, buffer),
            Side::Opened(stream) => Pin::new(stream).poll_write(cx, buffer),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_closed(cx) {
            return Poll::Ready(Ok(()));
        }
        match &mut self.side {
            Side::Accepted(stream) => Pin::new(stream).poll_flush(cx),
            Side::Opened(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_closed(cx) {
            return Poll::Ready(Ok(()));
        }
        match &mut self.side {
            Side::Accepted(stream) => Pin::new(stream).poll_shutdown(cx),
            Side::Opened(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

//! One channel as a byte stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use russh::ChannelStream as RusshStream;
use russh::{client, server};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// An open channel. Shutting down the write side sends EOF and leaves the other direction open; dropping
/// it closes the channel. Writing to a channel that the peer has closed is an error, shutting it down is
/// not.
pub struct ChannelStream {
    /// Taken by [`Drop`] alone.
    side: Option<Side>,
    /// Resolves when the peer closes the channel or the session ends.
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    token: CancellationToken,
    /// The other end is a [`Farewell`], which receives what is left once EOF was sent.
    farewell: Option<oneshot::Sender<Self>>,
    shut_down: bool,
}

/// Keeps a channel that was shut down and dropped open until its peer has closed it. What was written last is with the
/// peer then: the engine itself lets the end of a session overtake it.
#[derive(Debug)]
pub struct Farewell {
    channel: oneshot::Receiver<ChannelStream>,
    closed: CancellationToken,
}

impl Farewell {
    /// Waits until the peer has closed the channel, `limit` at most, and takes in what it still sends; at once if the
    /// channel was dropped without being shut down. Starts when the channel is dropped.
    pub async fn wait(self, limit: Duration) {
        let Ok(mut channel) = self.channel.await else {
            return;
        };
        let closing = async {
            let _ = tokio::io::copy(&mut channel, &mut tokio::io::sink()).await;
            self.closed.cancelled().await;
        };
        let _ = tokio::time::timeout(limit, closing).await;
    }
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
            side: Some(side),
            token: closed.clone(),
            closed: Box::pin(closed.cancelled_owned()),
            farewell: None,
            shut_down: false,
        }
    }

    /// Whoever waits for what is returned keeps the channel open beyond the drop of this.
    pub fn farewell(&mut self) -> Farewell {
        let (sender, channel) = oneshot::channel();
        self.farewell = Some(sender);
        let closed = self.token.clone();
        Farewell { channel, closed }
    }

    /// True once the peer has closed the channel; registers for it otherwise.
    fn is_closed(&mut self, cx: &mut Context<'_>) -> bool {
        Future::poll(self.closed.as_mut(), cx).is_ready()
    }
}

impl Drop for ChannelStream {
    fn drop(&mut self) {
        let (Some(farewell), Some(side)) = (self.farewell.take(), self.side.take()) else {
            return;
        };
        if self.shut_down {
            // If nobody waits it comes back, and is closed by being dropped.
            let _ = farewell.send(Self::new(side, self.token.clone()));
        }
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
            Some(Side::Accepted(stream)) => Pin::new(stream).poll_read(cx, buffer),
            Some(Side::Opened(stream)) => Pin::new(stream).poll_read(cx, buffer),
            None => Poll::Ready(Ok(())),
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
            Some(Side::Accepted(stream)) => Pin::new(stream).poll_write(cx, buffer),
            Some(Side::Opened(stream)) => Pin::new(stream).poll_write(cx, buffer),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_closed(cx) {
            return Poll::Ready(Ok(()));
        }
        match &mut self.side {
            Some(Side::Accepted(stream)) => Pin::new(stream).poll_flush(cx),
            Some(Side::Opened(stream)) => Pin::new(stream).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_closed(cx) {
            return Poll::Ready(Ok(()));
        }
        let done = match &mut self.side {
            Some(Side::Accepted(stream)) => Pin::new(stream).poll_shutdown(cx),
            Some(Side::Opened(stream)) => Pin::new(stream).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        };
        self.shut_down |= matches!(done, Poll::Ready(Ok(())));
        done
    }
}

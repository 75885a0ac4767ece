//! One channel as a byte stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use russh::ChannelStream as RusshStream;
use russh::{client, server};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// An open channel. Shutting down the write side sends EOF and leaves the other direction open; dropping
/// it closes the channel.
pub struct ChannelStream(Side);

enum Side {
    Accepted(RusshStream<client::Msg>),
    Opened(RusshStream<server::Msg>),
}

impl ChannelStream {
    pub(super) fn accepted(channel: russh::Channel<client::Msg>) -> Self {
        Self(Side::Accepted(channel.into_stream()))
    }

    pub(super) fn opened(channel: russh::Channel<server::Msg>) -> Self {
        Self(Side::Opened(channel.into_stream()))
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
        match &mut self.0 {
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
        match &mut self.0 {
            Side::Accepted(stream) => Pin::new(stream).poll_write(cx, buffer),
            Side::Opened(stream) => Pin::new(stream).poll_write(cx, buffer),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Side::Accepted(stream) => Pin::new(stream).poll_flush(cx),
            Side::Opened(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Side::Accepted(stream) => Pin::new(stream).poll_shutdown(cx),
            Side::Opened(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

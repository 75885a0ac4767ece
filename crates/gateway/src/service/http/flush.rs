//! An answer that breaks off ends the client's connection at once, and with it whatever the HTTP
//! library has not written yet. So the failure is held back until the connection has been flushed:
//! the client has all that came before.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::traffic::Traffic;

/// Shared by the client's connection and the answer that is on its way. Both are polled by the same
/// task.
#[derive(Debug, Default)]
pub(super) struct Flushed {
    /// Bytes were given to the library since the connection was flushed.
    is_pending: AtomicBool,
    /// The answer waits for a flush.
    is_awaited: AtomicBool,
}

impl Flushed {
    /// Bytes were given to the library.
    pub(super) fn begin(&self) {
        self.is_pending.store(true, Ordering::Relaxed);
    }

    /// Ready once they are written. The task is woken then.
    pub(super) fn poll(&self) -> Poll<()> {
        if self.is_pending.load(Ordering::Relaxed) {
            self.is_awaited.store(true, Ordering::Relaxed);
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

/// The client's connection.
#[derive(Debug)]
pub(super) struct Flushing<'a, S> {
    inner: S,
    flushed: Arc<Flushed>,
    traffic: &'a Traffic,
}

impl<'a, S> Flushing<'a, S> {
    pub(super) fn new(inner: S, flushed: Arc<Flushed>, traffic: &'a Traffic) -> Self {
        Self {
            inner,
            flushed,
            traffic,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Flushing<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let bytes = buffer.filled().len().saturating_sub(before);
        self.traffic.add_a_to_b(bytes);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Flushing<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
        self.traffic.add_b_to_a(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, slices))?;
        self.traffic.add_b_to_a(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    /// The library flushes when it has written all that it has.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        self.flushed.is_pending.store(false, Ordering::Relaxed);
        if self.flushed.is_awaited.swap(false, Ordering::Relaxed) {
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }
}

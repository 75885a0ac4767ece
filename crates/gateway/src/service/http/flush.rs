//! An answer that breaks off ends the client's connection at once, and with it whatever the HTTP
//! library has not written yet. So the failure is held back until the connection has been flushed:
//! the client has all that came before.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::delegate::delegate_writing;

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
pub(super) struct Flushing<S> {
    inner: S,
    flushed: Arc<Flushed>,
}

impl<S> Flushing<S> {
    pub(super) fn new(inner: S, flushed: Arc<Flushed>) -> Self {
        Self { inner, flushed }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Flushing<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Flushing<S> {
    delegate_writing!();

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

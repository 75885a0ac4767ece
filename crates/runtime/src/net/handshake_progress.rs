//! How far a connection is that has not authenticated yet.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::delegate::delegate_writing;

/// What a complete request counts, against bytes of incomplete ones.
const COMPLETE_REQUEST: u64 = 1 << 32;

/// How far a handshake is; comparable among those of one port.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Position>);

#[derive(Debug, Default)]
struct Position {
    steps: AtomicU64,
    /// How many complete requests are being answered.
    answering: AtomicUsize,
}

/// While it lives, a complete request is answered, and its connection does not give way.
#[derive(Debug)]
pub struct Answering(Progress);

impl Progress {
    /// Notes that the handshake has come further, by `steps`.
    pub fn add(&self, steps: u64) {
        self.0.steps.fetch_add(steps, Ordering::Relaxed);
    }

    /// A request has come completely: its connection does not give way until it is answered, and
    /// then only after those that have sent none.
    pub fn answer(&self) -> Answering {
        self.0.answering.fetch_add(1, Ordering::Relaxed);
        Answering(self.clone())
    }

    /// True if a complete request has come.
    pub fn has_been_answered(&self) -> bool {
        self.is_answering() || self.value() >= COMPLETE_REQUEST
    }

    pub(super) fn value(&self) -> u64 {
        self.0.steps.load(Ordering::Relaxed)
    }

    pub(super) fn is_answering(&self) -> bool {
        self.0.answering.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.add(COMPLETE_REQUEST);
        self.0.0.answering.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts the bytes read as progress.
#[derive(Debug)]
pub struct Counted<R> {
    inner: R,
    progress: Progress,
}

impl<R> Counted<R> {
    /// Counts what is read from `inner`.
    pub fn new(inner: R, progress: Progress) -> Self {
        Self { inner, progress }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Counted<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        let read = buffer.filled().len().saturating_sub(before);
        self.progress.add(u64::try_from(read).unwrap_or(u64::MAX));
        polled
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Counted<W> {
    delegate_writing!();

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }
}

//! Bodies on their way through, one frame at a time: nothing is collected.
//!
//! [`Upload`] goes to the target and tells, through [`Progress`], how far it is. [`Download`] goes
//! to the client and does not wait forever for a silent target.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use super::flush::Flushed;
use super::headers;

/// How far an upload is; the other holders are the waiting forwarder and the [`Download`].
#[derive(Debug, Default)]
pub(super) struct Progress {
    frames: AtomicU64,
    finished: AtomicBool,
}

impl Progress {
    /// Frames that the connection to the target has taken.
    pub(super) fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    /// True once it took the last one.
    pub(super) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Relaxed)
    }
}

/// A request's body.
#[derive(Debug)]
pub(super) struct Upload {
    body: Option<Incoming>,
    progress: Arc<Progress>,
}

impl Upload {
    pub(super) fn new(body: Incoming) -> Self {
        if body.is_end_stream() {
            return Self::empty();
        }
        Self {
            body: Some(body),
            progress: Arc::default(),
        }
    }

    /// No body.
    pub(super) fn empty() -> Self {
        let progress = Progress::default();
        progress.finished.store(true, Ordering::Relaxed);
        Self {
            body: None,
            progress: Arc::new(progress),
        }
    }

    /// True for a request without a body.
    pub(super) fn is_empty(&self) -> bool {
        self.body.is_none()
    }

    pub(super) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Reads and forgets at most `most` bytes for at most `deadline`, so that the next request on
    /// the client's connection can be read.
    pub(super) async fn discard(mut self, most: u64, deadline: Duration) {
        let reading = async {
            let mut left = most;
            while let Some(Ok(frame)) =
                std::future::poll_fn(|cx| Pin::new(&mut self).poll_frame(cx)).await
            {
                let taken = frame.data_ref().map_or(0, |data| data.len() as u64);
                match left.checked_sub(taken) {
                    Some(rest) => left = rest,
                    None => break,
                }
            }
        };
        // Too much or too slow: the client's connection then ends after the answer.
        let _ = tokio::time::timeout(deadline, reading).await;
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let mut frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        if let Some(trailers) = frame
            .as_mut()
            .and_then(|frame| frame.as_mut().ok()?.trailers_mut())
        {
            headers::strip_trailers(trailers);
        }
        let ended = body.is_end_stream();
        self.progress.frames.fetch_add(1, Ordering::Relaxed);
        if ended || frame.is_none() {
            self.progress.finished.store(true, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// Why a response's body ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum DownloadError {
    #[error("the target's answer broke off")]
    Broken(#[source] hyper::Error),
    #[error("the target sent nothing for {} s", .0.as_secs())]
    Stalled(Duration),
}

/// A response's body.
#[derive(Debug)]
pub(super) struct Download {
    body: Incoming,
    /// Longest wait for a frame.
    idle: Duration,
    /// Runs from the moment that a frame is waited for.
    silence: Option<Pin<Box<Sleep>>>,
    upload: Arc<Progress>,
    /// Ends the connection to the target, whose task holds the other end.
    cut: CancellationToken,
    /// Whether the client has what was given to its connection.
    flushed: Arc<Flushed>,
    /// How it failed, while that is awaited.
    failure: Option<DownloadError>,
}

impl Download {
    pub(super) fn new(
        body: Incoming,
        idle: Duration,
        upload: Arc<Progress>,
        cut: CancellationToken,
        flushed: Arc<Flushed>,
    ) -> Self {
        // The head is on its way.
        flushed.begin();
        Self {
            body,
            idle,
            silence: None,
            upload,
            cut,
            flushed,
            failure: None,
        }
    }

    /// Gives the next frame, or fails.
    fn poll_target(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, DownloadError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.silence = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(DownloadError::Broken)));
        }
        ready!(self.poll_silence(cx));
        Poll::Ready(Some(Err(DownloadError::Stalled(self.idle))))
    }

    /// Ready once nothing has happened for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let idle = self.idle;
        let silence = self
            .silence
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + idle)));
        silence.as_mut().poll(cx)
    }
}

impl Drop for Download {
    /// A target that has answered while it does not take the rest of the request would hold the
    /// client's connection forever.
    fn drop(&mut self) {
        if !self.upload.is_finished() {
            self.cut.cancel();
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = DownloadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, DownloadError>>> {
        let this = self.get_mut();
        if this.failure.is_none() {
            match ready!(this.poll_target(cx)) {
                Some(Err(error)) => {
                    this.failure = Some(error);
                    this.silence = None;
                }
                frame => {
                    this.flushed.begin();
                    return Poll::Ready(frame);
                }
            }
        }
        // A client that does not take what came before has as long as the target had.
        if this.flushed.poll().is_pending() {
            ready!(this.poll_silence(cx));
        }
        Poll::Ready(this.failure.take().map(Err))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

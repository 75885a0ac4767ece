//! The client who wants a session: tries repeatedly, each time for a short while only, and notes
//! when one works.
//!
//! Attempts overlap, since one that was begun too soon may hang, and must not hide that the next
//! one works.

use std::future::Future;
use std::io;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;

use crate::support::session::Way;

/// Between two attempts.
const EVERY: Duration = Duration::from_millis(20);
/// An attempt that takes longer is given up.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Attempts under way at once: a relay lets clients whose gateway is away wait for it.
const AT_ONCE: usize = 40;

/// Tries until it is dropped, or has succeeded.
pub(crate) struct Probe {
    /// When the first attempt succeeded; the other end is the thread.
    success: mpsc::Receiver<Instant>,
    /// Ends the thread when dropped.
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Probe {
    /// Begins; from the network in which the calling thread is.
    pub(crate) fn start(way: &Way) -> Self {
        let (tell, success) = mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let way = way.clone();
        std::thread::spawn(move || {
            block_on(async {
                tokio::select! {
                    at = first_success(&way) => {
                        // The one who asked may have gone.
                        let _ = tell.send(at);
                    }
                    _ = stopped => {}
                }
            });
        });
        Self {
            success,
            _stop: stop,
        }
    }

    /// Waits for the first success, `limit` at most; gives the time from `since` until then.
    #[track_caller]
    pub(crate) fn success_since(self, since: Instant, limit: Duration) -> Duration {
        match self.success.recv_timeout(limit) {
            Ok(at) => at.saturating_duration_since(since),
            Err(_) => panic!("no session worked within {} s", limit.as_secs()),
        }
    }
}

async fn first_success(way: &Way) -> Instant {
    let mut attempts = JoinSet::new();
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            _ = ticks.tick(), if attempts.len() < AT_ONCE => {
                let way = way.clone();
                attempts.spawn(async move {
                    let worked = tokio::time::timeout(ATTEMPT, echo(&way)).await;
                    worked.ok().and_then(Result::ok)
                });
            }
            Some(Ok(Some(at))) = attempts.join_next() => return at,
            else => {}
        }
    }
}

/// One session with the echo; gives the time at which it had worked.
async fn echo(way: &Way) -> io::Result<Instant> {
    let mut stream = way.tcp().await?;
    crate::support::session::echoes(&mut stream, b"does it work?").await?;
    let worked = Instant::now();
    // Ended as it should be: a session that is cut off is a failure in the gateway's eyes.
    stream.shutdown().await?;
    Ok(worked)
}

/// One session with the echo, within `limit`.
pub(crate) fn once(way: &Way, limit: Duration) -> io::Result<()> {
    block_on(async { tokio::time::timeout(limit, echo(way)).await? }).map(|_| ())
}

/// Runs `future` on the calling thread, and so in its network.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(future)
}

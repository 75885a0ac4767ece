//! How long a peer may take for what was written before an abnormal end: for as long as it takes
//! some of it, within a bound. The same for a socket's own queue
//! ([`delivered`](super::reset::delivered)) and for what TLS holds above one
//! (`abort` of the stream in `pki`).

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::tcp_info::TcpInfo;

/// How long before an abnormal end the peer may take nothing of what was written.
pub const DELIVERY: Duration = Duration::from_secs(5);
/// How long it may take all in all, while it goes on taking some.
pub const DELIVERY_AT_MOST: Duration = Duration::from_secs(120);
/// Between two looks at the progress; nothing announces it.
pub const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A stream that tells how far its peer has taken what was written.
pub trait Progress {
    /// A number that changes whenever the peer has taken some.
    fn progress(&self) -> u64;
}

impl Progress for TcpStream {
    fn progress(&self) -> u64 {
        TcpInfo::of(self).map_or(0, |info| info.bytes_acknowledged)
    }
}

impl<S: Progress> Progress for tokio_rustls::client::TlsStream<S> {
    fn progress(&self) -> u64 {
        self.get_ref().0.progress()
    }
}

impl<S: Progress> Progress for tokio_rustls::server::TlsStream<S> {
    fn progress(&self) -> u64 {
        self.get_ref().0.progress()
    }
}

#[cfg(any(test, feature = "testing"))]
impl Progress for tokio::io::DuplexStream {
    fn progress(&self) -> u64 {
        0
    }
}

/// [`DELIVERY`] after each progress, and [`DELIVERY_AT_MOST`] in all.
#[derive(Debug)]
pub struct ProgressTimeout {
    end: Instant,
    /// How far the stream was when it was last looked at.
    progress: Option<u64>,
    since: Instant,
}

impl ProgressTimeout {
    /// It begins now. The layers of one stream may share it, one after the other.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it reads the clock")]
    pub fn new() -> Self {
        let since = Instant::now();
        Self {
            end: since + DELIVERY_AT_MOST,
            progress: None,
            since,
        }
    }

    /// True if a stream that is so far now has had its time.
    pub fn is_over(&mut self, progress: u64) -> bool {
        let now = Instant::now();
        if self.progress.replace(progress) != Some(progress) {
            self.since = now;
        }
        now >= self.end || now.saturating_duration_since(self.since) >= DELIVERY
    }
}

#[cfg(test)]
mod tests {
    use super::{DELIVERY, DELIVERY_AT_MOST, ProgressTimeout};
    use std::time::Duration;
    use tokio::time::{Instant, advance};

    #[tokio::test(start_paused = true)]
    async fn it_ends_without_progress() {
        let mut timeout = ProgressTimeout::new();
        assert!(!timeout.is_over(7));
        advance(DELIVERY - Duration::from_millis(1)).await;
        assert!(!timeout.is_over(7));
        assert!(!timeout.is_over(8), "that was progress");
        advance(DELIVERY - Duration::from_millis(1)).await;
        assert!(!timeout.is_over(8));
        advance(Duration::from_millis(1)).await;
        assert!(timeout.is_over(8));
    }

    #[tokio::test(start_paused = true)]
    async fn progress_extends_it_up_to_a_bound() {
        let mut timeout = ProgressTimeout::new();
        let begin = Instant::now();
        let mut progress = 0;
        while !timeout.is_over(progress) {
            advance(DELIVERY / 2).await;
            progress += 1;
        }
        assert_eq!(begin.elapsed(), DELIVERY_AT_MOST);
    }
}

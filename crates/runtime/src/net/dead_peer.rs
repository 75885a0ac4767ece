//! Peers that vanished: their machine is off, or the network in between loses everything, and no
//! packet says so.
//!
//! An idle connection is probed by the kernel ([`probe_when_idle`]). That does nothing for one on
//! which bytes are on their way: the kernel repeats those for a quarter of an hour. Its option for
//! that, `TCP_USER_TIMEOUT`, also ends connections whose peer is there, answers each probe, and
//! keeps its window at zero for as long as the timeout (`net/ipv4/tcp_timer.c`, `tcp_probe_timer`;
//! measured with Linux 6.18: after 10.0 and 26.0 s with timeouts of 10 and 25 s, and not within
//! 75 s without). A program that does not read for minutes holds the window so, rightly. So
//! [`DeadPeerDetector`] ends a connection only if nothing at all is acknowledged, however often it
//! is repeated.
//!
//! A process that stands still is none of this: its kernel goes on answering.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::progress::Progress;
use super::tcp_info::TcpInfo;

/// When an idle connection is probed, and how often before it is given up.
#[derive(Debug, Clone, Copy)]
pub struct Probing {
    after: Duration,
    interval: Duration,
    probes: u32,
}

/// A peer that vanished is noticed within a minute.
pub(crate) const USUAL: Probing = Probing {
    after: Duration::from_secs(30),
    interval: Duration::from_secs(10),
    probes: 3,
};

/// Within 25 s, about as fast as a gateway notices that it lost its relay.
const FAST: Probing = Probing {
    after: Duration::from_secs(10),
    interval: Duration::from_secs(5),
    probes: 3,
};

/// How long bytes may be on their way without any acknowledgement.
const SILENCE: Duration = Duration::from_secs(20);
/// Repetitions that must have gone unanswered in that time: one that is alone may be late, for the
/// kernel waits up to two minutes between two of them.
const REPETITIONS: u32 = 3;
/// Between two looks at a connection that waits.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Has the kernel probe the connection while nothing is on its way. It works without, too.
pub(crate) fn probe_when_idle(stream: &TcpStream, probing: &Probing) {
    let keepalive = TcpKeepalive::new()
        .with_time(probing.after)
        .with_interval(probing.interval)
        .with_retries(probing.probes);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

/// A connection whose operations fail (`TimedOut`) once its peer has vanished, whether bytes are on
/// their way or not: within half a minute, or after three probes of a window that was zero before.
/// Reading and writing must be done by one task.
#[derive(Debug)]
pub struct DeadPeerDetector {
    tcp: TcpStream,
    acknowledgements: Acknowledgements,
    look: Pin<Box<Sleep>>,
    is_dead: bool,
}

impl DeadPeerDetector {
    /// Watches `tcp` from now on.
    #[must_use]
    pub fn new(tcp: TcpStream) -> Self {
        probe_when_idle(&tcp, &FAST);
        Self {
            tcp,
            acknowledgements: Acknowledgements::default(),
            look: Box::pin(tokio::time::sleep(LOOK_AGAIN)),
            is_dead: false,
        }
    }

    /// What an operation comes to that waits otherwise.
    fn poll_dead<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        while !self.is_dead {
            if self.look.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            let info = TcpInfo::of(&self.tcp).unwrap_or_default();
            self.is_dead = self.acknowledgements.are_missing(&info, now);
            self.look.as_mut().reset(now + LOOK_AGAIN);
        }
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("nothing was acknowledged for {} s", SILENCE.as_secs()),
        )))
    }

    fn or_dead<T>(
        &mut self,
        cx: &mut Context<'_>,
        operation: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if !self.is_dead
            && let Poll::Ready(result) = operation(Pin::new(&mut self.tcp), cx)
        {
            return Poll::Ready(result);
        }
        self.poll_dead(cx)
    }
}

/// What is known of a peer's acknowledgements.
#[derive(Debug, Default)]
struct Acknowledgements {
    /// Since when bytes have been on their way.
    under_way_since: Option<Instant>,
    /// When the last one came, as far as is known, and what had been sent again until then.
    last: Option<(Instant, u32)>,
}

impl Acknowledgements {
    /// True if they have been missing for so long that the peer is gone.
    fn are_missing(&mut self, info: &TcpInfo, now: Instant) -> bool {
        let last = now.checked_sub(info.since_acknowledgement).unwrap_or(now);
        // The kernel counts in milliseconds.
        let is_same = |known: Instant| last <= known + Duration::from_millis(50);
        let before = match self.last {
            Some((known, before)) if is_same(known) => before,
            _ => {
                self.last = Some((last, info.retransmitted));
                info.retransmitted
            }
        };
        if info.unacknowledged == 0 && info.probes == 0 {
            self.under_way_since = None;
            return false;
        }
        let since = *self.under_way_since.get_or_insert(now);
        let silence = now.saturating_duration_since(since.max(last));
        let repeated = info.retransmitted.wrapping_sub(before);
        silence >= SILENCE && repeated.max(info.probes.into()) >= REPETITIONS
    }
}

impl Progress for DeadPeerDetector {
    fn progress(&self) -> u64 {
        self.tcp.progress()
    }
}

impl AsyncRead for DeadPeerDetector {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.or_dead(cx, |tcp, cx| tcp.poll_read(cx, buffer))
    }
}

impl AsyncWrite for DeadPeerDetector {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.or_dead(cx, |tcp, cx| tcp.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.or_dead(cx, |tcp, cx| tcp.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.or_dead(cx, |tcp, cx| tcp.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.or_dead(cx, |tcp, cx| tcp.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::{Acknowledgements, LOOK_AGAIN, SILENCE, TcpInfo};
    use std::time::Duration;
    use tokio::time::Instant;

    /// Looks every [`LOOK_AGAIN`] at what `info` says after so many seconds, for `seconds`; gives
    /// the second in which the peer was given up.
    fn given_up(seconds: u64, info: impl Fn(u64) -> TcpInfo) -> Option<u64> {
        let begin = Instant::now();
        let mut acknowledgements = Acknowledgements::default();
        let step = usize::try_from(LOOK_AGAIN.as_secs()).expect("a few");
        (0..=seconds).step_by(step).find(|second| {
            let now = begin + Duration::from_secs(*second);
            acknowledgements.are_missing(&info(*second), now)
        })
    }

    const HOUR: u64 = 3600;

    #[test]
    fn unacknowledged_bytes_end_the_connection() {
        // After an hour without a byte, ten seconds more, and then packets that are repeated at
        // ever longer intervals.
        let silent = |second: u64| TcpInfo {
            since_acknowledgement: Duration::from_secs(HOUR + second),
            unacknowledged: u32::from(second > 10),
            retransmitted: second.saturating_sub(10).checked_ilog2().unwrap_or(0),
            ..TcpInfo::default()
        };
        let at = given_up(HOUR, silent).expect("it is given up");
        assert!((10 + SILENCE.as_secs()..=40).contains(&at), "{at}");
    }

    #[test]
    fn long_zero_window_is_no_reason() {
        // Each probe is answered; two minutes pass between them.
        let stalled = |second: u64| TcpInfo {
            since_acknowledgement: Duration::from_secs(second % 120),
            probes: u8::from(second % 120 == 115),
            ..TcpInfo::default()
        };
        assert_eq!(given_up(HOUR, stalled), None);
        // And the same of a receiver that took back the window of what was on its way.
        let shrunk = |second: u64| TcpInfo {
            since_acknowledgement: Duration::from_secs(second % 120),
            unacknowledged: 1,
            retransmitted: u32::try_from(second / 120).expect("few"),
            ..TcpInfo::default()
        };
        assert_eq!(given_up(HOUR, shrunk), None);
    }

    #[test]
    fn vanished_peer_is_given_up_after_probes() {
        let vanished = |second: u64| TcpInfo {
            since_acknowledgement: Duration::from_secs(second),
            probes: u8::try_from(second / 60).expect("few"),
            ..TcpInfo::default()
        };
        assert_eq!(given_up(HOUR, vanished), Some(180));
    }

    #[test]
    fn idle_and_busy_connections_are_left_alone() {
        let idle = |second: u64| TcpInfo {
            since_acknowledgement: Duration::from_secs(second),
            ..TcpInfo::default()
        };
        assert_eq!(given_up(HOUR, idle), None);
        let busy = |second: u64| TcpInfo {
            unacknowledged: 10,
            retransmitted: u32::try_from(second).expect("few"),
            since_acknowledgement: Duration::from_millis(200),
            ..TcpInfo::default()
        };
        assert_eq!(given_up(HOUR, busy), None);
    }
}

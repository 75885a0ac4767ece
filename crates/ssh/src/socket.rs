//! What a session needs of its TCP connection, besides the bytes.

use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;

/// The kernel gives up on unacknowledged data after this long, so that a dead peer is noticed
/// even by a session that is blocked on writing.
pub(super) const USER_TIMEOUT: Duration = Duration::from_secs(28);
/// Bytes that the kernel takes before it can send them, at least. What it has taken nothing can
/// overtake, so on a slow path keepalives, key exchanges and other channels' packets would wait
/// behind megabytes of a bulk transfer.
const LEAST_UNSENT: u32 = 128 * 1024;
/// The same, at most, however fast and long the path is.
const MOST_UNSENT: u32 = 1024 * 1024;
/// The part of a round trip's bytes that may wait, at least; with rounding it is up to twice that.
const PART: u64 = 4;
/// How long the rate is measured before a new limit is set.
const MEASURED: Duration = Duration::from_millis(100);

/// Prepares a connection to carry a session. What the system does not know is left out: keepalives
/// remain.
pub fn prepare(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    let result = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
    report("TCP_USER_TIMEOUT", result);
    limit_unsent(stream, LEAST_UNSENT);
}

fn limit_unsent(stream: &TcpStream, bytes: u32) {
    let result = socket2::SockRef::from(stream).set_tcp_notsent_lowat(bytes);
    report("TCP_NOTSENT_LOWAT", result);
}

fn report(option: &str, result: std::io::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, option, "cannot set a socket option");
    }
}

/// The half of a session's connection that is written to.
pub trait Writer: AsyncWrite + Unpin + Send + 'static {
    /// Sets how many bytes the kernel takes before it can send them; does nothing where there is
    /// no kernel in between.
    fn limit_unsent(&self, _bytes: u32) {}
}

impl Writer for OwnedWriteHalf {
    fn limit_unsent(&self, bytes: u32) {
        limit_unsent(self.as_ref(), bytes);
    }
}

impl<S: AsyncRead + AsyncWrite + Send + 'static> Writer for WriteHalf<S> {}

/// How much may wait for the network: a part of what it carries in a round trip, so that congestion
/// control, which sends in bursts and sometimes faster than the path, always finds something to
/// send. With less it takes the sender for one that has little to say, and never finds out how fast
/// the path is.
#[derive(Debug)]
pub(super) struct Unsent {
    limit: u32,
    bytes: u64,
    since: Instant,
}

impl Unsent {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            limit: LEAST_UNSENT,
            bytes: 0,
            since: now,
        }
    }

    /// So many bytes were written, on a path with this round trip: the new limit, if it changes.
    pub(super) fn written(
        &mut self,
        bytes: usize,
        path: Option<Duration>,
        now: Instant,
    ) -> Option<u32> {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        let time = now.saturating_duration_since(self.since);
        if time < MEASURED {
            return None;
        }
        let path = path.unwrap_or_default().as_micros();
        let product = u128::from(self.bytes).saturating_mul(path) / time.as_micros().max(1);
        let part = u64::try_from(product / u128::from(PART)).unwrap_or(u64::MAX);
        let part = u32::try_from(part).unwrap_or(u32::MAX).min(MOST_UNSENT);
        let limit = part.next_power_of_two().max(LEAST_UNSENT);
        (self.bytes, self.since) = (0, now);
        let has_changed = limit != self.limit;
        self.limit = limit;
        has_changed.then_some(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::{LEAST_UNSENT, MOST_UNSENT, Unsent};
    use std::time::{Duration, Instant};

    const MIB: usize = 1024 * 1024;

    /// The limit after a second in which so many bytes were written.
    fn after(bytes: usize, path: Duration) -> u32 {
        let mut now = Instant::now();
        let mut unsent = Unsent::new(now);
        let mut limit = LEAST_UNSENT;
        for _ in 0..100 {
            now += Duration::from_millis(10);
            limit = unsent
                .written(bytes / 100, Some(path), now)
                .unwrap_or(limit);
        }
        limit
    }

    #[test]
    fn part_of_a_round_trip_stays_unsent() {
        let ms = Duration::from_millis;
        assert_eq!(after(MIB, ms(50)), LEAST_UNSENT);
        assert_eq!(after(400 * MIB, Duration::from_micros(200)), LEAST_UNSENT);
        assert_eq!(after(36 * MIB, ms(50)), 512 * 1024);
        assert_eq!(after(4000 * MIB, ms(300)), MOST_UNSENT);
    }

    #[test]
    fn the_limit_falls_with_the_rate() {
        let mut now = Instant::now();
        let mut unsent = Unsent::new(now);
        let path = Some(Duration::from_millis(50));
        now += Duration::from_millis(100);
        assert_eq!(unsent.written(4 * MIB, path, now), Some(512 * 1024));
        assert_eq!(unsent.written(4 * MIB, path, now), None);
        now += Duration::from_secs(10);
        assert_eq!(unsent.written(0, path, now), Some(LEAST_UNSENT));
        now += Duration::from_secs(1);
        assert_eq!(unsent.written(100 * MIB, None, now), None);
    }
}

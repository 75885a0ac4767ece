//! Outbound TCP connections with a deadline, and errors that say which host and why.
//!
//! A name is looked up at each call (`resolve`), and its addresses race (`race`): the first that
//! connects wins, and the others are closed.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::dead_peer;
use super::happy_eyeballs::{Begin, Race, alternate};
use super::resolve::{self, LookupClass};

/// Sockets of all races that repeat an attempt which is still open. Many sessions may wait for a
/// target that is gone, and must not use up the descriptors that others need, nor the places of our
/// own races.
static TARGETS_SPARE: Semaphore = Semaphore::const_new(224);
static OUR_SPARE: Semaphore = Semaphore::const_new(32);

fn spare(class: LookupClass) -> &'static Semaphore {
    match class {
        LookupClass::Own => &OUR_SPARE,
        LookupClass::Target => &TARGETS_SPARE,
    }
}

/// The address behind a name, in brackets; nothing beside an address.
fn beside(host: &str, address: SocketAddr) -> String {
    match host.parse::<IpAddr>() {
        Ok(_) => String::new(),
        Err(_) => format!(" ({})", address.ip()),
    }
}

/// Why a connection could not be made. The text names host and port; the class of failure is the
/// variant.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum Error {
    #[error("cannot resolve {host}")]
    Resolve {
        host: String,
        #[source]
        source: io::Error,
    },
    #[error("{host} resolves to no address")]
    NoAddress { host: String },
    /// There are addresses, and none of them may be dialled.
    #[error("no address of {host} may be connected to")]
    NotPermitted { host: String },
    /// Every address failed; this is the most telling error.
    #[error("cannot connect to {host}:{port}{}", beside(.host, *.address))]
    Connect {
        host: String,
        port: u16,
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("no connection to {host}:{port} within {} s", .after.as_secs())]
    TimedOut {
        host: String,
        port: u16,
        after: Duration,
        /// What became of an address that did answer, if one did.
        #[source]
        source: Option<Box<Failure>>,
    },
    /// The deadline passed; a connection was made, and its peer did not say the first word as it
    /// should.
    #[error("{host}:{port} accepts connections but said nothing within {} s", .after.as_secs())]
    Silent {
        host: String,
        port: u16,
        after: Duration,
    },
}

impl Error {
    /// What it is, in one word for metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Resolve { .. } | Self::NoAddress { .. } => "dns",
            Self::NotPermitted { .. } => "not_permitted",
            Self::Connect { source, .. } => match source.kind() {
                io::ErrorKind::ConnectionRefused => "refused",
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "unreachable",
                io::ErrorKind::TimedOut => "timeout",
                _ => "other",
            },
            Self::TimedOut { .. } | Self::Silent { .. } => "timeout",
        }
    }
}

/// What became of one address.
#[derive(Debug, thiserror::Error)]
#[error("{address}")]
pub struct Failure {
    /// The address.
    pub address: SocketAddr,
    /// Its error.
    #[source]
    pub source: io::Error,
}

/// Connects to `host` (a name or an address; IPv6 without brackets) within `deadline`, resolution
/// included. Fails before that once every address has refused.
///
/// # Errors
/// See [`Error`].
pub async fn connect(host: &str, port: u16, deadline: Duration) -> Result<TcpStream, Error> {
    Box::pin(reach(
        host,
        port,
        deadline,
        Goal::Connected,
        LookupClass::Own,
        &|_| true,
    ))
    .await
}

/// The same on behalf of a session, of which there may be any number. Only those addresses are
/// dialled for which `may_dial` holds; the name is looked up once.
///
/// # Errors
/// See [`Error`].
pub async fn connect_target(
    host: &str,
    port: u16,
    deadline: Duration,
    may_dial: &MayDial<'_>,
) -> Result<TcpStream, Error> {
    Box::pin(reach(
        host,
        port,
        deadline,
        Goal::Connected,
        LookupClass::Target,
        may_dial,
    ))
    .await
}

/// Connects like [`connect`] to a peer that speaks first, as SSH servers may and ours do (RFC 4253
/// §4.2), and counts a connection as made when its first byte is there to be read. A peer that
/// accepts and is silent, because it hangs or someone between holds the connection, does not keep
/// us from trying again.
///
/// # Errors
/// See [`Error`].
pub async fn connect_speaking(
    host: &str,
    port: u16,
    deadline: Duration,
) -> Result<TcpStream, Error> {
    Box::pin(reach(
        host,
        port,
        deadline,
        Goal::Speaking,
        LookupClass::Own,
        &|_| true,
    ))
    .await
}

/// Sets what every connection of this program wants: no Nagle delay, and probes of an idle peer.
/// Failures are ignored: the connection works without.
pub(crate) fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    dead_peer::probe_when_idle(stream, &dead_peer::USUAL);
}

/// Says of an address whether it may be dialled.
pub type MayDial<'a> = dyn Fn(SocketAddr) -> bool + Sync + 'a;

/// When an attempt has won.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    Connected,
    Speaking,
}

async fn reach(
    host: &str,
    port: u16,
    deadline: Duration,
    goal: Goal,
    class: LookupClass,
    may_dial: &MayDial<'_>,
) -> Result<TcpStream, Error> {
    let end = Instant::now() + deadline;
    let addresses = tokio::time::timeout_at(end, resolve::lookup_for(class, host, port))
        .await
        .unwrap_or_else(|_| {
            let text = format!(
                "no answer from the resolver within {} s",
                deadline.as_secs()
            );
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        })
        .map_err(|source| Error::Resolve {
            host: host.to_owned(),
            source,
        })?;
    if addresses.is_empty() {
        return Err(Error::NoAddress {
            host: host.to_owned(),
        });
    }
    let mut addresses = addresses;
    addresses.retain(|address| may_dial(*address));
    if addresses.is_empty() {
        return Err(Error::NotPermitted {
            host: host.to_owned(),
        });
    }
    let mut seen = Seen::default();
    let addresses = alternate(&addresses);
    let racing = race(&addresses, goal, spare(class), &mut seen);
    let outcome = tokio::time::timeout_at(end, racing).await;
    let host = host.to_owned();
    match (outcome, seen.failure, seen.is_silent) {
        (Ok(Some(stream)), _, _) => {
            prepare(&stream);
            Ok(stream)
        }
        (Ok(None), Some(Failure { address, source }), _) => Err(Error::Connect {
            host,
            port,
            address,
            source,
        }),
        (Ok(None), None, _) => Err(Error::NoAddress { host }),
        (Err(_), _, true) => Err(Error::Silent {
            host,
            port,
            after: deadline,
        }),
        (Err(_), source, false) => Err(Error::TimedOut {
            host,
            port,
            after: deadline,
            source: source.map(Box::new),
        }),
    }
}

/// What a race has to tell if no one wins.
#[derive(Debug, Default)]
struct Seen {
    failure: Option<Failure>,
    /// True once one has connected that should speak first.
    is_silent: bool,
}

impl Seen {
    /// Keeps the most telling failure, and of equal ones the latest.
    fn failed(&mut self, address: SocketAddr, source: io::Error) {
        let known = self.failure.as_ref();
        if known.is_none_or(|known| telling(&source) >= telling(&known.source)) {
            self.failure = Some(Failure { address, source });
        }
    }
}

/// How much an error says about the host: anyone who answered knows more than the network, and the
/// network more than this machine, which often has one of the two families only.
fn telling(error: &io::Error) -> u8 {
    match error.kind() {
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::UnexpectedEof => 3,
        io::ErrorKind::HostUnreachable | io::ErrorKind::TimedOut => 2,
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable => 0,
        _ => 1,
    }
}

/// The winner, or `None` when every address has failed. For as long as neither is decided it goes
/// on forever.
async fn race(
    addresses: &[SocketAddr],
    goal: Goal,
    spare: &'static Semaphore,
    seen: &mut Seen,
) -> Option<TcpStream> {
    let mut plan = Race::new(addresses.len(), Instant::now());
    let mut attempts: Vec<Attempt> = Vec::new();
    while !plan.is_lost() {
        tokio::select! {
            biased;
            (place, result) = poll_fn(|cx| poll_any(&mut attempts, goal, seen, cx)) => {
                let attempt = attempts.swap_remove(place);
                match result {
                    Ok(stream) => return Some(stream),
                    Err(error) => {
                        seen.failed(attempt.address, error);
                        plan.failed(attempt.number, Instant::now());
                    }
                }
            }
            () = tokio::time::sleep_until(plan.due()) => {
                let now = Instant::now();
                let Begin { attempt, address, is_first, instead_of } = plan.begin(now);
                attempts.retain(|open| Some(open.number) != instead_of);
                let place = if is_first { None } else { spare.try_acquire().ok() };
                match addresses.get(address) {
                    Some(address) if is_first || place.is_some() || attempts.is_empty() => {
                        attempts.push(Attempt::new(attempt, *address, place));
                    }
                    _ => plan.failed(attempt, now),
                }
            }
        }
    }
    None
}

/// The first attempt that has ended, by its place.
fn poll_any(
    attempts: &mut [Attempt],
    goal: Goal,
    seen: &mut Seen,
    cx: &mut Context<'_>,
) -> Poll<(usize, io::Result<TcpStream>)> {
    for (place, attempt) in attempts.iter_mut().enumerate() {
        if let Poll::Ready(result) = attempt.poll(goal, seen, cx) {
            return Poll::Ready((place, result));
        }
    }
    Poll::Pending
}

/// One socket on its way.
struct Attempt {
    number: u64,
    address: SocketAddr,
    stage: Stage,
    /// Given back with the socket.
    _place: Option<SemaphorePermit<'static>>,
}

enum Stage {
    Connecting(Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>),
    /// Connected; the peer's first byte is waited for.
    Silent(TcpStream),
    Over,
}

impl Attempt {
    fn new(number: u64, address: SocketAddr, place: Option<SemaphorePermit<'static>>) -> Self {
        Self {
            number,
            address,
            stage: Stage::Connecting(Box::pin(TcpStream::connect(address))),
            _place: place,
        }
    }

    fn poll(
        &mut self,
        goal: Goal,
        seen: &mut Seen,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<TcpStream>> {
        if let Stage::Connecting(connecting) = &mut self.stage {
            let stream = ready!(connecting.as_mut().poll(cx))?;
            if goal == Goal::Connected {
                self.stage = Stage::Over;
                return Poll::Ready(Ok(stream));
            }
            seen.is_silent = true;
            self.stage = Stage::Silent(stream);
        }
        if let Stage::Silent(stream) = &mut self.stage {
            let mut byte = [0];
            let n = ready!(stream.poll_peek(cx, &mut ReadBuf::new(&mut byte)))?;
            if n == 0 {
                let text = "the connection was closed without a word";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, text)));
            }
        }
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Silent(stream) => Poll::Ready(Ok(stream)),
            Stage::Connecting(_) | Stage::Over => Poll::Pending,
        }
    }
}

#[cfg(test)]
#[path = "dial_tests.rs"]
mod tests;

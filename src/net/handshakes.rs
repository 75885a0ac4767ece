//! Connections of one port that have not authenticated yet: how many each source may have, and which
//! one gives way when a source has too many.
//!
//! A source with too many unfinished handshakes keeps no newcomer of its own out: behind one address
//! may be a NAT or a load balancer. The handshake of that source with the least progress ends instead,
//! and its places go to the newcomer at once. The same holds for an IPv6 network of 48 bits, whose holder
//! has 65,536 sources.
//!
//! A server of requests counts a connection as unfinished for as long as it lives, but for the time in
//! which a complete request is answered ([`Progress::answer`]).

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::failures::Failures;
use super::limits::{Counters, Slot, Source};
use crate::log_throttle::LogThrottle;

/// A source may hold so many times as many of a port's places for handshakes as are free. One alone
/// gets seven eighths, which is enough for a burst of a platform or of a crowd behind one address; two
/// get seven fifteenths each; and however many hold what they can get, one that has none finds a free
/// place.
pub(crate) const TIMES_WHAT_IS_FREE: usize = 7;
/// A handshake that began so lately gives way only if all others did too: its first bytes may still be
/// on their way.
const GRACE: Duration = Duration::from_secs(1);

/// What a complete request counts, against bytes of incomplete ones.
const COMPLETE_REQUEST: u64 = 1 << 32;

/// Connections of one port that have not authenticated yet.
#[derive(Debug)]
pub(crate) struct Handshakes {
    counters: Counters<Source>,
    /// Of IPv6 networks of 48 bits.
    networks: Counters<Source>,
    places: usize,
    unfinished: Arc<Mutex<Unfinished>>,
    failures: Option<Arc<Failures>>,
    /// For lines about them: a flood at one port hides nothing about the other.
    pub(crate) log: LogThrottle,
}

#[derive(Debug, Default)]
struct Unfinished {
    next_id: u64,
    /// By network, or by source where that has none.
    of: HashMap<Source, Vec<Entry>>,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    source: Source,
    since: Instant,
    progress: Progress,
    evicted: CancellationToken,
    places: Places,
}

/// What a connection is counted against.
#[derive(Debug)]
struct Places {
    /// All connections of its source.
    connection: Slot<Source>,
    /// The unfinished handshakes of its source at this port.
    _handshake: Slot<Source>,
    /// Those of its network.
    _network: Option<Slot<Source>>,
}

/// How far a handshake is; comparable among those of one port.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress(Arc<Position>);

#[derive(Debug, Default)]
struct Position {
    steps: AtomicU64,
    /// How many complete requests are being answered.
    answering: AtomicUsize,
}

/// While it lives, a complete request is answered, and its connection does not give way.
#[derive(Debug)]
pub(crate) struct Answering(Progress);

impl Progress {
    /// Notes that the handshake has come further, by `steps`.
    pub(crate) fn add(&self, steps: u64) {
        self.0.steps.fetch_add(steps, Ordering::Relaxed);
    }

    /// A request has come completely: its connection does not give way until it is answered, and then
    /// only after those that have sent none.
    pub(crate) fn answer(&self) -> Answering {
        self.0.answering.fetch_add(1, Ordering::Relaxed);
        Answering(self.clone())
    }

    /// True if a complete request has come.
    pub(crate) fn has_been_answered(&self) -> bool {
        self.is_answering() || self.value() >= COMPLETE_REQUEST
    }

    fn value(&self) -> u64 {
        self.0.steps.load(Ordering::Relaxed)
    }

    fn is_answering(&self) -> bool {
        self.0.answering.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.add(COMPLETE_REQUEST);
        self.0.0.answering.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An unfinished handshake; dropped, its places are free.
#[derive(Debug)]
pub(crate) struct Handshake {
    unfinished: Arc<Mutex<Unfinished>>,
    source: Source,
    id: u64,
    progress: Progress,
    evicted: CancellationToken,
    failures: Option<Arc<Failures>>,
    is_finished: bool,
}

/// Why a connection may not begin a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Its source has too many connections.
    TooMany,
    /// Too many handshakes of its source failed lately.
    TooManyFailed,
}

impl Handshakes {
    /// So many places in all.
    pub(crate) fn new(places: usize) -> Self {
        Self {
            counters: Counters::new(places),
            networks: Counters::new(places),
            failures: None,
            places,
            unfinished: Arc::default(),
            log: LogThrottle::for_peers(),
        }
    }

    /// The same, which charges handshakes that fail to their source.
    pub(crate) fn charging(places: usize) -> Self {
        Self {
            failures: Some(Arc::default()),
            ..Self::new(places)
        }
    }

    /// Counts a new connection of `source`, here and in `sources`. If that is too many, it gets the
    /// place of the unfinished handshake of the same source, or else network, with the least progress.
    ///
    /// # Errors
    /// There is none, or too many handshakes of the source failed.
    pub(crate) fn begin(
        &self,
        sources: &Counters<Source>,
        source: Source,
    ) -> Result<Handshake, Refusal> {
        let now = Instant::now();
        let failures = self.failures.as_ref();
        if failures.is_some_and(|failures| !failures.may_begin(source, now)) {
            return Err(Refusal::TooManyFailed);
        }
        let mut unfinished = lock(&self.unfinished);
        let places = match self.places(sources, source) {
            Some(places) => places,
            None => {
                unfinished.evict(source, now).ok_or(Refusal::TooMany)?;
                self.places(sources, source).ok_or(Refusal::TooMany)?
            }
        };
        let (progress, evicted) = (Progress::default(), CancellationToken::new());
        let id = unfinished.next_id;
        unfinished.next_id = id.wrapping_add(1);
        unfinished.of.entry(group(source)).or_default().push(Entry {
            id,
            source,
            since: now,
            progress: progress.clone(),
            evicted: evicted.clone(),
            places,
        });
        Ok(Handshake {
            unfinished: Arc::clone(&self.unfinished),
            source,
            id,
            progress,
            evicted,
            failures: self.failures.clone(),
            is_finished: false,
        })
    }

    fn places(&self, sources: &Counters<Source>, source: Source) -> Option<Places> {
        let share = |taken| {
            let free = self.places.saturating_sub(taken);
            free.saturating_mul(TIMES_WHAT_IS_FREE)
        };
        let network = match source.network() {
            None => None,
            Some(network) => {
                let taken = self.counters.all();
                Some(self.networks.take_within(network, |_| share(taken))?)
            }
        };
        Some(Places {
            connection: sources.take(source)?,
            _handshake: self.counters.take_within(source, share)?,
            _network: network,
        })
    }

    /// Charges `source` for so many handshakes that failed.
    pub(crate) fn charge(&self, source: Source, handshakes: u32) {
        for _ in 0..handshakes {
            if let Some(failures) = &self.failures {
                failures.charge(source, u64::MAX, Instant::now());
            }
        }
    }

    /// How many sources hold a place.
    #[cfg(test)]
    pub(crate) fn sources(&self) -> usize {
        self.counters.keys()
    }
}

impl Unfinished {
    /// Ends the handshake of `source`, or else of its network, with the least progress, the oldest of
    /// several; `None` if there is none.
    fn evict(&mut self, source: Source, now: Instant) -> Option<()> {
        let entries = self.of.get(&group(source))?;
        let rank = |entry: &Entry| {
            let is_other = entry.source != source;
            let is_young = now.saturating_duration_since(entry.since) < GRACE;
            let progress = entry.progress.value();
            (is_other, is_young, progress, entry.since, entry.id)
        };
        let idle = entries
            .iter()
            .filter(|entry| !entry.progress.is_answering());
        let id = idle.min_by_key(|entry| rank(entry))?.id;
        let entry = self.remove(source, id)?;
        entry.evicted.cancel();
        Some(())
    }

    fn remove(&mut self, source: Source, id: u64) -> Option<Entry> {
        let entries = self.of.get_mut(&group(source))?;
        let at = entries.iter().position(|entry| entry.id == id)?;
        let entry = entries.swap_remove(at);
        if entries.is_empty() {
            self.of.remove(&group(source));
        }
        Some(entry)
    }
}

impl Handshake {
    /// To be told how far the handshake is.
    pub(crate) fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Runs `handshake`; `None` once it has to give way to another one of its source.
    pub(crate) async fn run<F: Future>(&self, handshake: F) -> Option<F::Output> {
        self.evicted.run_until_cancelled(handshake).await
    }

    /// The peer has authenticated: what is left is the place of its connection. `None` if it had to
    /// give way in the same moment.
    pub(crate) fn finish(mut self) -> Option<Slot<Source>> {
        self.is_finished = true;
        if let Some(failures) = &self.failures {
            failures.refund(self.source, Instant::now());
        }
        let entry = lock(&self.unfinished).remove(self.source, self.id)?;
        Some(entry.places.connection)
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        lock(&self.unfinished).remove(self.source, self.id);
        if let Some(failures) = self.failures.as_ref().filter(|_| !self.is_finished) {
            failures.charge(self.source, self.progress.value(), Instant::now());
        }
    }
}

/// What handshakes of `source` are listed under.
fn group(source: Source) -> Source {
    source.network().unwrap_or(source)
}

fn lock(unfinished: &Mutex<Unfinished>) -> MutexGuard<'_, Unfinished> {
    unfinished.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts the bytes read as progress.
#[derive(Debug)]
pub(crate) struct Counted<R> {
    inner: R,
    progress: Progress,
}

impl<R> Counted<R> {
    pub(crate) fn new(inner: R, progress: Progress) -> Self {
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
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::{GRACE, Handshake, Handshakes, Refusal};
    use crate::net::limits::{Counters, Source};
    use std::future::pending;
    use std::net::IpAddr;

    fn source(text: &str) -> Source {
        Source::from(text.parse::<IpAddr>().expect("an address"))
    }

    /// The handshakes that `source` can have without ending one of its own.
    fn fill(handshakes: &Handshakes, sources: &Counters<Source>, text: &str) -> Vec<Handshake> {
        let mut held: Vec<Handshake> = Vec::new();
        while held
            .iter()
            .all(|handshake| !handshake.evicted.is_cancelled())
        {
            let Ok(handshake) = handshakes.begin(sources, source(text)) else {
                return held;
            };
            held.push(handshake);
        }
        held.retain(|handshake| !handshake.evicted.is_cancelled());
        held
    }

    #[test]
    fn one_source_leaves_places_for_others() {
        let (handshakes, sources) = (Handshakes::new(256), Counters::new(1000));
        let mut all = fill(&handshakes, &sources, "192.0.2.1");
        assert_eq!(all.len(), 224, "seven eighths");
        // What one held before others came it keeps, and gets no more.
        for (number, expected) in [(2, 28), (3, 4)] {
            let held = fill(&handshakes, &sources, &format!("192.0.2.{number}"));
            assert_eq!(held.len(), expected, "{number}");
            all.extend(held);
        }
        drop(all);
        assert_eq!(handshakes.sources(), 0);
        assert_eq!(sources.keys(), 0);
    }

    #[test]
    fn one_without_places_finds_one_among_many_sources() {
        let (handshakes, sources) = (Handshakes::new(256), Counters::new(1000));
        let mut held = Vec::new();
        for _ in 0..20 {
            for number in 1..=30 {
                let hostile = source(&format!("192.0.2.{number}"));
                held.extend(handshakes.begin(&sources, hostile));
            }
        }
        let newcomer = handshakes.begin(&sources, source("198.51.100.1"));
        assert!(newcomer.is_ok(), "{}", held.len());
    }

    #[tokio::test(start_paused = true)]
    async fn least_progress_of_the_same_source_gives_way() {
        let (handshakes, sources) = (Handshakes::new(8), Counters::new(1000));
        let begin = || {
            handshakes
                .begin(&sources, source("192.0.2.1"))
                .expect("a place")
        };
        let held: Vec<_> = (0..7).map(|_| begin()).collect();
        for (index, handshake) in held.iter().enumerate().filter(|(index, _)| *index != 3) {
            handshake
                .progress()
                .add(u64::try_from(index).expect("small") + 1);
        }
        let evicted = || {
            let is_evicted = |handshake: &Handshake| handshake.evicted.is_cancelled();
            let evicted = held.iter().enumerate().filter(|(_, held)| is_evicted(held));
            evicted.map(|(index, _)| index).collect::<Vec<_>>()
        };
        tokio::time::advance(GRACE).await;
        let first = begin();
        assert_eq!(evicted(), [3], "the silent one");
        assert_eq!(held.get(3).expect("there").run(pending::<()>()).await, None);
        // The newcomer has said nothing either, but it has just come.
        let second = begin();
        assert_eq!(evicted(), [0, 3]);
        assert!(!first.evicted.is_cancelled());
        // Another source is not asked to give way.
        let other = handshakes.begin(&sources, source("192.0.2.2"));
        assert!(other.is_ok());
        assert_eq!(evicted(), [0, 3]);
        let place = second.finish().expect("its connection's place");
        assert_eq!((sources.all(), handshakes.sources()), (8, 2));
        drop((held, first, other, place));
        assert_eq!((sources.all(), handshakes.sources()), (0, 0));
    }

    #[test]
    fn a_connection_that_is_answered_does_not_give_way() {
        let (handshakes, sources) = (Handshakes::new(100), Counters::new(2));
        let address = source("192.0.2.1");
        let begin = || handshakes.begin(&sources, address);
        let busy = begin().expect("a place");
        let idle = begin().expect("a place");
        idle.progress().add(1000);
        let answering = busy.progress().answer();
        let third = begin().expect("the idle one's place");
        assert!(idle.evicted.is_cancelled() && !busy.evicted.is_cancelled());
        let second_answering = third.progress().answer();
        assert!(begin().is_err(), "both are answered");
        drop(answering);
        begin().expect("the place of the one that is answered");
        assert!(busy.evicted.is_cancelled());
        drop(second_answering);
    }

    #[test]
    fn a_network_of_48_bits_leaves_places_for_others() {
        let (handshakes, sources) = (Handshakes::new(256), Counters::new(1000));
        let mut held = Vec::new();
        for number in 0..2000 {
            let hostile = source(&format!("2001:db8:0:{number:x}::1"));
            held.push(
                handshakes
                    .begin(&sources, hostile)
                    .expect("another's place"),
            );
        }
        held.retain(|handshake| !handshake.evicted.is_cancelled());
        assert_eq!(held.len(), 224, "seven eighths");
        let newcomer = handshakes.begin(&sources, source("2001:db8:1::1"));
        assert!(newcomer.is_ok());
        drop((held, newcomer));
        assert_eq!((sources.all(), handshakes.sources()), (0, 0));
    }

    #[test]
    fn failed_handshakes_are_charged_and_completed_ones_are_not() {
        let (handshakes, sources) = (Handshakes::charging(8), Counters::new(1000));
        let begin = |text| handshakes.begin(&sources, source(text));
        for _ in 0..10_000 {
            let completed = begin("192.0.2.1").expect("allowed");
            completed.progress().add(4000);
            assert!(completed.finish().is_some());
        }
        let mut failed = 0;
        while let Ok(handshake) = begin("192.0.2.2") {
            handshake.progress().add(1000);
            failed += 1;
        }
        assert!((1000..3000).contains(&failed), "{failed}");
        assert_eq!(
            begin("192.0.2.2").expect_err("refused"),
            Refusal::TooManyFailed
        );
        assert!(begin("192.0.2.1").is_ok());
    }

    #[test]
    fn the_limit_of_connections_ends_unfinished_handshakes_only() {
        let (handshakes, sources) = (Handshakes::new(8), Counters::new(2));
        let address = source("192.0.2.1");
        let begin = || handshakes.begin(&sources, address);
        let authenticated = begin().ok().and_then(Handshake::finish);
        let authenticated = authenticated.expect("authenticated");
        let silent = begin().expect("a place");
        let newcomer = begin().expect("the silent one's place");
        assert!(silent.evicted.is_cancelled());
        assert!(silent.finish().is_none());
        let second = newcomer.finish().expect("authenticated");
        assert!(begin().is_err(), "nothing unfinished is left to give way");
        drop((authenticated, second));
    }
}

//! Connections of one port that have not authenticated yet: how many each source may have, and
//! which one gives way when a source has too many.
//!
//! A source with too many unfinished handshakes keeps no newcomer of its own out: behind one
//! address may be a NAT or a load balancer. The handshake of that source with the least progress
//! ends instead, and its permits go to the newcomer at once. The same holds for an IPv6 network of
//! 48 bits, whose holder has 65,536 sources.
//!
//! At the ports of a relay a source also has a budget of CPU time (`cpu_budget`).
//!
//! A server of requests counts a connection as unfinished for as long as it lives, but for the time
//! in which a complete request is answered ([`Progress::answer`]).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::handshake_cpu::{CpuPool, HandshakeCpu, Queue};
use super::handshake_progress::Progress;
use super::limits::{Counters, Slot, Source};
use crate::log_throttle::LogThrottle;

/// A source may hold so many times as many of a port's permits for handshakes as are free. One
/// alone gets seven eighths, which is enough for a burst of a platform or of a crowd behind one
/// address; two get seven fifteenths each; and however many hold what they can get, one that has
/// none finds a free place.
pub const TIMES_WHAT_IS_FREE: usize = 7;
/// A handshake that began so lately gives way only if all others did too: its first bytes may still
/// be on their way.
const GRACE: Duration = Duration::from_secs(1);

/// Connections of one port that have not authenticated yet.
#[derive(Debug)]
pub struct Handshakes {
    counters: Counters<Source>,
    /// Of IPv6 networks of 48 bits.
    networks: Counters<Source>,
    permits: usize,
    unfinished: Arc<Mutex<Unfinished>>,
    /// Where handshakes compute in turn.
    pool: Option<Arc<CpuPool>>,
    /// For lines about them: a flood at one port hides nothing about the other.
    pub log: LogThrottle,
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
    permits: HandshakePermits,
    /// Where those of its source wait for their turn to compute, and those of its network.
    queue: Arc<Queue>,
    network_queue: Arc<Queue>,
}

/// What a connection is counted against.
#[derive(Debug)]
struct HandshakePermits {
    /// All connections of its source.
    connection: Slot<Source>,
    /// The unfinished handshakes of its source at this port.
    _handshake: Slot<Source>,
    /// Those of its network.
    _network: Option<Slot<Source>>,
}

/// An unfinished handshake; dropped, its permits are free.
#[derive(Debug)]
pub struct Handshake {
    unfinished: Arc<Mutex<Unfinished>>,
    source: Source,
    id: u64,
    progress: Progress,
    evicted: CancellationToken,
    cpu: HandshakeCpu,
    is_finished: bool,
}

/// Why a connection may not begin a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Its source has too many connections.
    TooMany,
    /// Too many handshakes of its source failed lately.
    TooManyFailed,
}

impl Handshakes {
    /// So many permits in all.
    pub fn new(permits: usize) -> Self {
        Self {
            counters: Counters::new(permits),
            networks: Counters::new(permits),
            pool: None,
            permits,
            unfinished: Arc::default(),
            log: LogThrottle::for_peers(),
        }
    }

    /// The same, where handshakes compute in turn, within the budget of their source in `pool`.
    pub fn metered(permits: usize, pool: Arc<CpuPool>) -> Self {
        Self {
            pool: Some(pool),
            ..Self::new(permits)
        }
    }

    /// Counts a new connection of `source`, here and in `sources`. If that is too many, it gets the
    /// place of the unfinished handshake of the same source, or else network, with the least
    /// progress.
    ///
    /// # Errors
    /// There is none, or too many handshakes of the source failed.
    pub fn begin(&self, sources: &Counters<Source>, source: Source) -> Result<Handshake, Refusal> {
        let now = Instant::now();
        let pool = self.pool.as_ref();
        if pool.is_some_and(|pool| pool.budget().is_refused(source, now)) {
            return Err(Refusal::TooManyFailed);
        }
        let mut unfinished = lock(&self.unfinished);
        let permits = match self.permits(sources, source) {
            Some(permits) => permits,
            None => {
                unfinished.evict(source, now).ok_or(Refusal::TooMany)?;
                self.permits(sources, source).ok_or(Refusal::TooMany)?
            }
        };
        let (progress, evicted) = (Progress::default(), CancellationToken::new());
        let id = unfinished.next_id;
        unfinished.next_id = id.wrapping_add(1);
        let entries = unfinished.of.entry(source.site()).or_default();
        let same_source = entries.iter().find(|entry| entry.source == source);
        let queue = same_source.map(|entry| Arc::clone(&entry.queue));
        let queue = queue.unwrap_or_default();
        let network_queue = entries
            .first()
            .map(|entry| Arc::clone(&entry.network_queue));
        let network_queue = network_queue.unwrap_or_default();
        let queues = vec![Arc::clone(&queue), Arc::clone(&network_queue)];
        let cpu = pool.map_or_else(HandshakeCpu::default, |pool| {
            HandshakeCpu::new(Arc::clone(pool), source, queues, progress.clone())
        });
        entries.push(Entry {
            id,
            source,
            since: now,
            progress: progress.clone(),
            evicted: evicted.clone(),
            permits,
            queue,
            network_queue,
        });
        Ok(Handshake {
            unfinished: Arc::clone(&self.unfinished),
            source,
            id,
            progress,
            evicted,
            cpu,
            is_finished: false,
        })
    }

    fn permits(&self, sources: &Counters<Source>, source: Source) -> Option<HandshakePermits> {
        let share = |taken| {
            let free = self.permits.saturating_sub(taken);
            free.saturating_mul(TIMES_WHAT_IS_FREE)
        };
        let network = match source.network() {
            None => None,
            Some(network) => {
                let taken = self.counters.all();
                Some(self.networks.take_within(network, |_| share(taken))?)
            }
        };
        Some(HandshakePermits {
            connection: sources.take(source)?,
            _handshake: self.counters.take_within(source, share)?,
            _network: network,
        })
    }

    /// Charges `source` for CPU time that one of its peers took after its handshake.
    pub fn charge(&self, source: Source, time: Duration) {
        if let Some(pool) = &self.pool {
            pool.budget().charge(source, time, Instant::now());
        }
    }

    /// How many sources hold a place.
    #[cfg(any(test, feature = "testing"))]
    pub fn sources(&self) -> usize {
        self.counters.keys()
    }
}

impl Unfinished {
    /// Ends the handshake of `source`, or else of its network, with the least progress, the oldest
    /// of several; `None` if there is none.
    fn evict(&mut self, source: Source, now: Instant) -> Option<()> {
        let entries = self.of.get(&source.site())?;
        let young = now.checked_sub(GRACE).unwrap_or(now);
        let rank = |entry: &Entry| {
            let is_other = entry.source != source;
            let is_young = entry.since > young;
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
        let entries = self.of.get_mut(&source.site())?;
        let at = entries.iter().position(|entry| entry.id == id)?;
        let entry = entries.swap_remove(at);
        if entries.is_empty() {
            self.of.remove(&source.site());
        }
        Some(entry)
    }
}

impl Handshake {
    /// To be told how far the handshake is.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// By which its steps are measured.
    pub fn cpu(&self) -> HandshakeCpu {
        self.cpu.clone()
    }

    /// Runs `handshake`; `None` once it has to give way to another one of its source.
    pub async fn run<F: Future>(&self, handshake: F) -> Option<F::Output> {
        self.evicted.run_until_cancelled(handshake).await
    }

    /// The peer has authenticated: what is left is the place of its connection. `None` if it had to
    /// give way in the same moment.
    pub fn finish(mut self) -> Option<Slot<Source>> {
        self.is_finished = true;
        self.cpu.complete();
        let entry = lock(&self.unfinished).remove(self.source, self.id)?;
        Some(entry.permits.connection)
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        lock(&self.unfinished).remove(self.source, self.id);
        if !self.is_finished {
            self.cpu.fail();
        }
    }
}

fn lock(unfinished: &Mutex<Unfinished>) -> MutexGuard<'_, Unfinished> {
    unfinished.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{GRACE, Handshake, Handshakes, Refusal};
    use crate::net::handshake_cpu::CpuPool;
    use crate::net::limits::{Counters, Source};
    use std::future::pending;
    use std::net::IpAddr;
    use std::sync::Arc;

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
    fn new_source_finds_a_permit() {
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
    async fn least_progress_of_a_source_gives_way() {
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
    fn answered_connection_does_not_give_way() {
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
    fn network_of_48_bits_leaves_permits() {
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
    fn only_failed_handshakes_are_charged() {
        let (handshakes, sources) = (
            Handshakes::metered(8, Arc::new(CpuPool::new())),
            Counters::new(1000),
        );
        let begin = |text| handshakes.begin(&sources, source(text));
        for _ in 0..10_000 {
            let completed = begin("192.0.2.1").expect("allowed");
            completed.progress().add(4000);
            assert!(completed.finish().is_some());
            // One that fails is paid for by one that does not.
            drop(begin("192.0.2.1").expect("allowed"));
        }
        let mut failed = 0;
        while begin("192.0.2.2").is_ok() {
            failed += 1;
        }
        assert!((1000..10_000).contains(&failed), "{failed}");
        assert_eq!(
            begin("192.0.2.2").expect_err("refused"),
            Refusal::TooManyFailed
        );
        assert!(begin("192.0.2.1").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn one_sources_handshakes_compute_serially() {
        let pool = Arc::new(CpuPool::with_permits(4));
        let (handshakes, sources) = (Handshakes::metered(64, pool), Counters::new(1000));
        let computing = async |text: &str| {
            let handshake = handshakes.begin(&sources, source(text)).expect("a place");
            let permit = tokio::time::timeout(GRACE, handshake.cpu().permit()).await;
            permit.ok().map(|permit| (handshake, permit))
        };
        let first = computing("192.0.2.1").await;
        assert!(first.is_some());
        assert!(computing("192.0.2.1").await.is_none());
        let mut others = Vec::new();
        for text in ["192.0.2.2", "2001:db8::1"] {
            others.push(computing(text).await.expect("another source"));
        }
        assert!(computing("2001:db8:0:7::1").await.is_none(), "the same /48");
        drop(first);
        assert!(computing("192.0.2.1").await.is_some());
    }

    #[test]
    fn connection_limit_ends_unfinished_handshakes_only() {
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

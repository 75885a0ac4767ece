//! The CPU time of one handshake: measured, charged to its source (`cpu_budget`), and waited for.
//!
//! Before an expensive step a handshake waits for a permit, in this order:
//!
//! 1. among the handshakes of its source, until the source owes little enough; for IPv6 then the
//!    same among those of its network of 48 bits;
//! 2. among the sources, for one of the permits of the [`CpuPool`].
//!
//! Only one handshake of a source comes to the second queue at a time, and that queue is first
//! come, first served, so all sources take turns, however many handshakes one has. In the first
//! queue the newest handshake is first: when a source has more than can be served before their
//! deadlines, the oldest would only fail a moment later, and so would all after it.
//!
//! A step runs on a thread of the runtime, but never on more than half of them, so that others are
//! free for sessions, even when thousands of sources flood the port.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use super::cpu_budget::{CpuBudget, Debtor};
use super::handshake_progress::{Answering, Progress};
use super::limits::Source;
use crate::threads;

/// What the handshakes of all ports of a process share.
#[derive(Debug)]
pub struct CpuPool {
    budget: CpuBudget,
    permits: Arc<Semaphore>,
}

impl CpuPool {
    /// For half of the threads that run tasks.
    #[expect(clippy::new_without_default, reason = "it counts this machine's CPUs")]
    pub fn new() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::with_permits((cpus.min(threads::MAX_WORKERS) / 2).max(1))
    }

    /// For so many steps at once.
    pub(super) fn with_permits(permits: usize) -> Self {
        Self {
            budget: CpuBudget::default(),
            permits: Arc::new(Semaphore::new(permits)),
        }
    }

    /// What each source owes.
    pub(super) fn budget(&self) -> &CpuBudget {
        &self.budget
    }
}

/// The handshakes of one source, or network, that wait for their turn.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// A handshake of the source has ended.
    ended: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    is_taken: bool,
    /// The newest is the last.
    handshakes: Vec<oneshot::Sender<HandshakeSlot>>,
}

/// Its handshake is the one of its source that may go on; the next one is, when this is dropped.
#[derive(Debug)]
struct HandshakeSlot(Arc<Queue>);

impl Queue {
    async fn turn(self: &Arc<Self>) -> HandshakeSlot {
        let receiver = {
            let mut waiting = self.waiting();
            if !waiting.is_taken {
                waiting.is_taken = true;
                return HandshakeSlot(Arc::clone(self));
            }
            let (sender, receiver) = oneshot::channel();
            waiting.handshakes.retain(|other| !other.is_closed());
            waiting.handshakes.push(sender);
            receiver
        };
        // The sender is in the queue for as long as the turn is taken.
        receiver
            .await
            .unwrap_or_else(|_| HandshakeSlot(Arc::clone(self)))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for HandshakeSlot {
    fn drop(&mut self) {
        let next = {
            let mut waiting = self.0.waiting();
            let next = waiting.handshakes.pop();
            waiting.is_taken = next.is_some();
            next
        };
        if let Some(next) = next {
            // One that waits no more drops the turn, which comes here again.
            drop(next.send(Self(Arc::clone(&self.0))));
        }
    }
}

/// The CPU time of one handshake. The default charges no source and never waits.
#[derive(Debug, Clone, Default)]
pub struct HandshakeCpu(Option<Arc<Account>>);

#[derive(Debug)]
struct Account {
    pool: Arc<CpuPool>,
    source: Source,
    /// That of the source and, behind it, that of its network.
    queues: Vec<Arc<Queue>>,
    progress: Progress,
    spent: AtomicU64,
}

/// The right to take one expensive step.
#[derive(Debug, Default)]
pub struct StepPermit {
    turns: Vec<HandshakeSlot>,
    permit: Option<OwnedSemaphorePermit>,
    answering: Option<Answering>,
}

impl HandshakeCpu {
    pub(super) fn new(
        pool: Arc<CpuPool>,
        source: Source,
        queues: Vec<Arc<Queue>>,
        progress: Progress,
    ) -> Self {
        Self(Some(Arc::new(Account {
            pool,
            source,
            queues,
            progress,
            spent: AtomicU64::new(0),
        })))
    }

    /// Waits until the handshake may take an expensive step. Cancel-safe. It does not give way to
    /// another one meanwhile: it is not the peer that is slow.
    pub async fn permit(&self) -> StepPermit {
        let mut permit = StepPermit::default();
        let Some(account) = &self.0 else {
            return permit;
        };
        permit.answering = Some(account.progress.answer());
        for (debtor, queue) in Debtor::of(account.source).zip(&account.queues) {
            permit.turns.push(queue.turn().await);
            while let Some(wait) = account.pool.budget.wait(debtor, Instant::now()) {
                // Whether time or the end of a handshake has changed that is asked again.
                let _ = tokio::time::timeout(wait, queue.ended.notified()).await;
            }
        }
        let permits = Arc::clone(&account.pool.permits);
        // It is never closed.
        permit.permit = permits.acquire_owned().await.ok();
        permit
    }

    /// Does a part of the handshake and measures it.
    pub fn measure<T>(&self, work: impl FnOnce() -> T) -> T {
        let Some(account) = &self.0 else {
            return work();
        };
        let begin = thread_time();
        let result = work();
        let time = thread_time().saturating_sub(begin);
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        account.spent.fetch_add(nanos, Ordering::Relaxed);
        let now = Instant::now();
        account.pool.budget.begin(account.source, time, now);
        result
    }

    /// Polls `part` of the handshake and measures it.
    pub async fn measured<F: Future + Unpin>(&self, part: F) -> F::Output {
        let permit = None;
        let cpu = self;
        Measured { part, permit, cpu }.await
    }

    /// The same for a part that begins with an expensive step: waits for a permit first.
    pub async fn measured_with_permit<F: Future + Unpin>(&self, part: F) -> F::Output {
        let permit = Some(self.permit().await);
        let cpu = self;
        Measured { part, permit, cpu }.await
    }

    /// The handshake has completed.
    pub(super) fn complete(&self) {
        if let Some(account) = &self.0 {
            let (spent, now) = (account.spent(), Instant::now());
            account.pool.budget.complete(account.source, spent, now);
            account.tell();
        }
    }

    /// The handshake has failed, or was abandoned.
    pub(super) fn fail(&self) {
        if let Some(account) = &self.0 {
            let (spent, now) = (account.spent(), Instant::now());
            account.pool.budget.fail(account.source, spent, now);
            account.tell();
        }
    }
}

impl Account {
    /// What was measured since the last call.
    fn spent(&self) -> Duration {
        Duration::from_nanos(self.spent.swap(0, Ordering::Relaxed))
    }

    fn tell(&self) {
        for queue in &self.queues {
            queue.ended.notify_one();
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        // What a task of the handshake took after its end.
        let spent = self.spent();
        let now = Instant::now();
        self.pool.budget.complete_late(self.source, spent, now);
    }
}

/// CPU time of this thread; it stands still where the kernel does not say.
fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

struct Measured<'a, F> {
    part: F,
    /// For the first poll only: what comes after it waits for the peer.
    permit: Option<StepPermit>,
    cpu: &'a HandshakeCpu,
}

impl<F: Future + Unpin> Future for Measured<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let cpu = self.cpu;
        let polled = cpu.measure(|| Pin::new(&mut self.part).poll(context));
        self.permit = None;
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::{CpuPool, HandshakeCpu, Queue, thread_time};
    use crate::net::handshake_progress::Progress;
    use crate::net::limits::Source;
    use std::net::IpAddr;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::task::JoinSet;
    use tokio::time::Instant;

    /// More than a source may owe.
    const TOO_MUCH: Duration = Duration::from_millis(400);

    struct Port(Arc<CpuPool>);

    impl Port {
        fn new() -> Self {
            Self(Arc::new(CpuPool::with_permits(1)))
        }

        fn handshake(&self, source: Source, queue: &Arc<Queue>) -> HandshakeCpu {
            let queues = vec![Arc::clone(queue)];
            HandshakeCpu::new(Arc::clone(&self.0), source, queues, Progress::default())
        }
    }

    fn source(text: &str) -> Source {
        Source::from(text.parse::<IpAddr>().expect("an address"))
    }

    #[test]
    fn failed_handshake_is_charged() {
        let port = Port::new();
        let address = source("192.0.2.1");
        let waits = || {
            let debtor = super::Debtor::Source(address);
            port.0.budget.wait(debtor, Instant::now()).is_some()
        };
        for completes in [true, false] {
            let cpu = port.handshake(address, &Arc::default());
            let begin = thread_time();
            cpu.measure(|| while thread_time() < begin + TOO_MUCH {});
            assert!(waits(), "it is under way");
            if completes {
                cpu.complete();
            } else {
                cpu.fail();
            }
            drop(cpu);
            assert_eq!(waits(), !completes);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn source_in_debt_waits_alone() {
        let port = Port::new();
        let (hostile, queue) = (source("192.0.2.1"), Arc::default());
        port.0.budget.charge(hostile, TOO_MUCH, Instant::now());
        let mut waiting = JoinSet::new();
        for _ in 0..10 {
            let cpu = port.handshake(hostile, &queue);
            waiting.spawn(async move { drop(cpu.permit().await) });
        }
        tokio::task::yield_now().await;
        let begin = Instant::now();
        let other = port.handshake(source("192.0.2.2"), &Arc::default());
        drop(other.permit().await);
        assert_eq!(begin.elapsed(), Duration::ZERO);
        waiting.join_next().await;
        // What it owed above 150 ms is forgiven at a tenth of the time.
        assert!(begin.elapsed() >= Duration::from_millis(2500));
    }

    #[tokio::test(start_paused = true)]
    async fn completed_handshake_releases_the_next() {
        let port = Port::new();
        let (address, queue) = (source("192.0.2.1"), Arc::default());
        let first = port.handshake(address, &queue);
        port.0.budget.begin(address, TOO_MUCH, Instant::now());
        let account = first.0.as_ref().expect("charged");
        let nanos = u64::try_from(TOO_MUCH.as_nanos()).expect("short");
        account.spent.store(nanos, super::Ordering::Relaxed);
        let second = port.handshake(address, &queue);
        let begin = Instant::now();
        let mut waiting = JoinSet::new();
        waiting.spawn(async move { drop(second.permit().await) });
        tokio::task::yield_now().await;
        assert!(waiting.try_join_next().is_none());
        first.complete();
        let waited = waiting.join_next().await.expect("it waits");
        waited.expect("no panic");
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn sources_take_turns_newest_first() {
        let port = Port::new();
        let held = Arc::clone(&port.0.permits).acquire_owned().await;
        let (order, mut turns) = tokio::sync::mpsc::unbounded_channel();
        let mut waiting = JoinSet::new();
        for (text, handshakes) in [("192.0.2.1", 4), ("192.0.2.2", 2)] {
            let queue = Arc::default();
            for number in 0..handshakes {
                let (cpu, order) = (port.handshake(source(text), &queue), order.clone());
                waiting.spawn(async move {
                    let permit = cpu.permit().await;
                    order.send((text, number)).expect("heard");
                    drop(permit);
                });
                tokio::task::yield_now().await;
            }
        }
        drop((held, order));
        while waiting.join_next().await.is_some() {}
        let mut took = Vec::new();
        turns.recv_many(&mut took, 10).await;
        let numbers = |source| -> Vec<i32> {
            let of_source = took.iter().filter(|(text, _)| *text == source);
            of_source.map(|(_, number)| *number).collect()
        };
        // The first of each had its turn before others came.
        assert_eq!(numbers("192.0.2.1"), [0, 3, 2, 1]);
        assert_eq!(numbers("192.0.2.2"), [0, 1]);
        let other = took.iter().rposition(|(text, _)| *text == "192.0.2.2");
        assert!(other.is_some_and(|at| at <= 4), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn cancelled_waiter_passes_its_turn_on() {
        let port = Port::new();
        let (address, queue) = (source("192.0.2.1"), Arc::default());
        let first = port.handshake(address, &queue).permit().await;
        let (mut oldest, mut newer) = (JoinSet::new(), JoinSet::new());
        for number in 0..3 {
            let cpu = port.handshake(address, &queue);
            let waiting = if number == 0 { &mut oldest } else { &mut newer };
            waiting.spawn(async move { drop(cpu.permit().await) });
            tokio::task::yield_now().await;
        }
        newer.shutdown().await;
        drop(first);
        let waited = oldest.join_next().await.expect("it waits");
        waited.expect("its turn");
    }
}

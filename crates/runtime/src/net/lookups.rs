//! Lookups of names, shared by all who wait for the same name.
//!
//! The system's resolver repeats a lost question only after seconds. So when an answer does not
//! come soon, the question is asked again beside the first one, and the first success wins: a
//! network that came back is used at once. Each open question holds a permit and counts for its
//! name until the resolver is done with it, even if all callers have left.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tokio::time::Instant;

use crate::threads::ADVICE;

/// How long the resolver may take before it is asked again. Its own interval is five seconds
/// (resolv.conf(5)).
const HEDGE_DELAY: Duration = Duration::from_millis(1500);
/// How long to wait where the question cannot be asked again, because there is no permit or too
/// many are open.
const RECHECK: Duration = Duration::from_millis(500);

/// Numbers of callers. A name that is answered is forgotten, and may be asked for again before all
/// who waited for it have left: they must not take a new caller's place with them.
static NEXT_CALLER: AtomicU64 = AtomicU64::new(0);

/// Bounds the questions that are open at once.
#[derive(Debug)]
pub(super) struct LookupPermits {
    /// For the first question of a name.
    first: Semaphore,
    /// For those beside the first: names that do not resolve use these up without taking the
    /// others' first ones.
    repeat: Semaphore,
    max_per_name: usize,
}

impl LookupPermits {
    /// So many at once, a third of them for repeated questions.
    pub(super) const fn new(total: usize, max_per_name: usize) -> Self {
        let repeat = total / 3;
        Self {
            first: Semaphore::const_new(total - repeat),
            repeat: Semaphore::const_new(repeat),
            max_per_name,
        }
    }
}

/// A resolver that blocks.
pub(super) trait Ask: std::fmt::Debug + Send + Sync {
    /// Lets `question` be answered on another thread; drops it if there is none.
    fn ask(&self, question: Question);
}

/// The lookups of one class.
#[derive(Debug)]
pub(super) struct Lookups {
    permits: LookupPermits,
    resolver: &'static dyn Ask,
    /// Names with an open question or a caller.
    names: Mutex<BTreeMap<Arc<str>, Name>>,
}

/// What is going on for one name.
#[derive(Debug, Default)]
struct Name {
    /// Questions of this round that are open.
    open: usize,
    /// Those of earlier rounds: another question was answered before them.
    overdue: usize,
    /// Rounds end with a success.
    round: u64,
    /// When the last question began.
    asked_at: Option<Instant>,
    callers: BTreeMap<u64, oneshot::Sender<Answer>>,
}

/// For all callers; an error of the system cannot be cloned.
#[derive(Debug, Clone)]
struct Answer {
    asked_at: Instant,
    found: Result<Arc<[SocketAddr]>, (io::ErrorKind, Arc<str>)>,
}

/// One question on its way.
#[derive(Debug)]
pub(super) struct Question {
    lookups: &'static Lookups,
    name: Arc<str>,
    round: u64,
    asked_at: Instant,
    is_answered: bool,
    /// Given back with the thread.
    _permit: SemaphorePermit<'static>,
}

/// A caller's place among those who wait for a name; given up when dropped.
struct Waiting {
    lookups: &'static Lookups,
    name: Arc<str>,
    number: u64,
    answer: oneshot::Receiver<Answer>,
}

/// What a caller may do now.
enum Step {
    /// Ask the first question of a round.
    First,
    /// Wait until then.
    Wait(Instant),
}

impl Lookups {
    pub(super) const fn new(permits: LookupPermits, resolver: &'static dyn Ask) -> Self {
        Self {
            permits,
            resolver,
            names: Mutex::new(BTreeMap::new()),
        }
    }

    /// The addresses of `name`, with port 0. Cancel-safe.
    pub(super) async fn lookup(&'static self, name: &str) -> io::Result<Vec<SocketAddr>> {
        let name: Arc<str> = Arc::from(name);
        let begin = Instant::now();
        loop {
            let answer = self.answer(&name).await?;
            match answer.found {
                Ok(addresses) => return Ok(addresses.to_vec()),
                // Asked before this call; the network may have come back since.
                Err(_) if answer.asked_at < begin => {}
                Err((kind, text)) => return Err(io::Error::new(kind, &*text)),
            }
        }
    }

    async fn answer(&'static self, name: &Arc<str>) -> io::Result<Answer> {
        let mut waiting = self.join(name);
        loop {
            match self.step(name) {
                Step::First => tokio::select! {
                    biased;
                    answer = &mut waiting.answer => return answer.map_err(io::Error::other),
                    permit = self.permits.first.acquire() => {
                        self.begin(name, permit.map_err(io::Error::other)?);
                    }
                },
                Step::Wait(until) => tokio::select! {
                    biased;
                    answer = &mut waiting.answer => return answer.map_err(io::Error::other),
                    () = tokio::time::sleep_until(until) => {}
                },
            }
        }
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Name>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(&'static self, name: &Arc<str>) -> Waiting {
        let (sender, answer) = oneshot::channel();
        let mut names = self.names();
        let state = names.entry(Arc::clone(name)).or_default();
        let number = NEXT_CALLER.fetch_add(1, Ordering::Relaxed);
        state.callers.insert(number, sender);
        drop(names);
        Waiting {
            lookups: self,
            name: Arc::clone(name),
            number,
            answer,
        }
    }

    /// What to do now; repeats the question if it is time for that.
    fn step(&'static self, name: &Arc<str>) -> Step {
        let now = Instant::now();
        let mut names = self.names();
        let Some(state) = names.get_mut(name) else {
            // The answer has been sent.
            return Step::Wait(now + RECHECK);
        };
        let is_full = state.open + state.overdue >= self.permits.max_per_name;
        if state.open == 0 && !is_full {
            return Step::First;
        }
        let due = state
            .asked_at
            .map_or(now, |asked_at| asked_at + HEDGE_DELAY);
        if now < due {
            return Step::Wait(due);
        }
        let permit = self.permits.repeat.try_acquire();
        let Some(permit) = permit.ok().filter(|_| !is_full && state.open > 0) else {
            return Step::Wait(now + RECHECK);
        };
        let question = self.question(name, state, permit);
        drop(names);
        self.resolver.ask(question);
        Step::Wait(now + HEDGE_DELAY)
    }

    /// Asks the first question of a round, unless another caller has.
    fn begin(&'static self, name: &Arc<str>, permit: SemaphorePermit<'static>) {
        let mut names = self.names();
        let Some(state) = names.get_mut(name) else {
            return;
        };
        if state.open > 0 || state.overdue >= self.permits.max_per_name {
            return;
        }
        let question = self.question(name, state, permit);
        drop(names);
        self.resolver.ask(question);
    }

    fn question(
        &'static self,
        name: &Arc<str>,
        state: &mut Name,
        permit: SemaphorePermit<'static>,
    ) -> Question {
        let now = Instant::now();
        state.open += 1;
        state.asked_at = Some(now);
        Question {
            lookups: self,
            name: Arc::clone(name),
            round: state.round,
            asked_at: now,
            is_answered: false,
            _permit: permit,
        }
    }

    /// A question is done. A success is for all callers; a failure only when nothing else is open
    /// in its round.
    fn finish(&self, question: &Question, found: io::Result<Vec<SocketAddr>>) {
        let mut names = self.names();
        let Some(state) = names.get_mut(&question.name) else {
            return;
        };
        let is_current = question.round == state.round;
        let counter = if is_current {
            &mut state.open
        } else {
            &mut state.overdue
        };
        *counter = counter.saturating_sub(1);
        let mut callers = BTreeMap::new();
        if found.is_ok() {
            state.round = state.round.wrapping_add(1);
            state.overdue += std::mem::take(&mut state.open);
            callers = std::mem::take(&mut state.callers);
        } else if is_current && state.open == 0 {
            callers = std::mem::take(&mut state.callers);
        }
        if state.is_unused() {
            names.remove(&question.name);
        }
        drop(names);
        let answer = Answer {
            asked_at: question.asked_at,
            found: found
                .map(Arc::from)
                .map_err(|error| (error.kind(), Arc::from(error.to_string()))),
        };
        for caller in callers.into_values() {
            // It may have left.
            let _ = caller.send(answer.clone());
        }
    }
}

impl Name {
    fn is_unused(&self) -> bool {
        self.open == 0 && self.overdue == 0 && self.callers.is_empty()
    }
}

impl Question {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn answer(mut self, found: io::Result<Vec<SocketAddr>>) {
        self.is_answered = true;
        self.lookups.finish(&self, found);
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if !self.is_answered {
            let text = format!("the system gives no thread for the lookup; {ADVICE}");
            self.lookups.finish(self, Err(io::Error::other(text)));
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut names = self.lookups.names();
        if let Some(state) = names.get_mut(&self.name) {
            state.callers.remove(&self.number);
            if state.is_unused() {
                names.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
#[path = "lookups_tests.rs"]
mod tests;

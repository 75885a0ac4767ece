//! How many threads the process may have and what they are for, and the runtime within that budget.
//!
//! The units limit the process to [`TASKS_MAX`] tasks, and the kernel counts threads. All other
//! numbers are derived from it, so that they always fit together.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use std::{io, num::NonZero};

use tokio::runtime::{Builder, Runtime};

/// `TasksMax=` of the units.
pub const TASKS_MAX: usize = 128;
/// The main thread and the one that writes the log.
pub(crate) const MAIN_AND_LOG: usize = 2;
/// Threads that run tasks, at most; otherwise one for each CPU. Measured (docs/benchmarks.md), a
/// CPU carries about 1 GiB/s through relay or gateway, so 16 of them carry more than a network card
/// of 100 Gbit/s.
pub const MAX_WORKERS: usize = 16;
/// Threads for calls that wait for the disk, or that compute for long.
pub const MAX_BLOCKING: usize = 16;
/// Tasks that other processes of the unit need, such as the command of a reload.
pub(crate) const RESERVED: usize = 14;
/// Threads for name resolution.
pub const MAX_LOOKUPS: usize = TASKS_MAX - MAIN_AND_LOG - MAX_WORKERS - MAX_BLOCKING - RESERVED;
/// Of these, those for the names of the program's own peers: the platform and the relays.
pub const MAX_OWN_LOOKUPS: usize = MAX_LOOKUPS * 3 / 10;
/// Of these, those for the names of targets.
pub const MAX_TARGET_LOOKUPS: usize = MAX_LOOKUPS - MAX_OWN_LOOKUPS;

/// Threads that must be there at the start beside the workers: one for blocking calls and two for
/// name resolution.
const NEEDED_BESIDE_WORKERS: usize = 3;
/// How long the system may take to run threads that it has created.
const START_DEADLINE: Duration = Duration::from_secs(10);
/// How long an unused thread for blocking calls is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// Turns of tasks after which a busy thread looks at the network. The default, 61, is some
/// milliseconds when all of them have much to do (docs/reliability.md, "Fairness").
const EVENT_INTERVAL: u32 = 16;

/// What a person can do when the system gives too few threads.
pub const ADVICE: &str = "raise the limit of processes (TasksMax= of the unit, the container's pids limit, or ulimit -u)";

/// Why there is no runtime.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum Error {
    #[error("cannot create the {needed} threads that the program needs, only {created}; {ADVICE}")]
    Threads {
        needed: usize,
        created: usize,
        #[source]
        source: io::Error,
    },
    #[error(
        "only {started} of {needed} threads have started within {} s; {ADVICE}",
        START_DEADLINE.as_secs()
    )]
    NotStarted { needed: usize, started: usize },
    #[error("cannot create the runtime")]
    Runtime(#[source] io::Error),
}

/// How many threads run tasks on a machine with so many CPUs.
#[must_use]
pub(crate) fn workers(cpus: usize) -> usize {
    cpus.clamp(1, MAX_WORKERS)
}

/// The runtime, once all threads run that it needs.
///
/// # Errors
/// See [`Error`]; the runtime itself would panic or wait without end if threads are missing.
pub fn runtime() -> Result<Runtime, Error> {
    let workers = workers(thread::available_parallelism().map_or(1, NonZero::get));
    can_create(workers + NEEDED_BESIDE_WORKERS)?;
    let started = Arc::new(Started::default());
    let count = Arc::clone(&started);
    // With another process of this user, the limit may be reached after the check.
    let build = AssertUnwindSafe(|| {
        Builder::new_multi_thread()
            .enable_all()
            .worker_threads(workers)
            .max_blocking_threads(MAX_BLOCKING)
            .thread_keep_alive(KEEP_ALIVE)
            .event_interval(EVENT_INTERVAL)
            .on_thread_start(move || count.add())
            .build()
    });
    let refused = |_| io::Error::other("the system gives no thread");
    let runtime = catch_unwind(build)
        .map_err(refused)
        .flatten()
        .map_err(Error::Runtime)?;
    let needed = workers + 1;
    let spawn = AssertUnwindSafe(|| runtime.spawn_blocking(|| ()));
    let spawned = catch_unwind(spawn).is_ok();
    let started = started.wait(needed);
    if !spawned || started < needed {
        runtime.shutdown_background();
        return Err(Error::NotStarted { needed, started });
    }
    runtime.spawn(keep_one_for_blocking_calls());
    Ok(runtime)
}

/// Keeps one thread for blocking calls in use, for as long as the runtime lives. The system may
/// refuse to create one later, and then a call would wait until another one succeeds.
async fn keep_one_for_blocking_calls() {
    loop {
        tokio::time::sleep(KEEP_ALIVE / 2).await;
        if tokio::task::spawn_blocking(|| ()).await.is_err() {
            return;
        }
    }
}

/// Creates `needed` threads at the same time and ends them again.
fn can_create(needed: usize) -> Result<(), Error> {
    let mut threads = Vec::new();
    let mut failed = None;
    for _ in 0..needed {
        let (end, ended) = mpsc::channel::<()>();
        let wait = move || {
            let _ = ended.recv();
        };
        match thread::Builder::new().stack_size(64 << 10).spawn(wait) {
            Ok(thread) => threads.push((end, thread)),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    let created = threads.len();
    for (end, thread) in threads {
        drop(end);
        let _ = thread.join();
    }
    match failed {
        None => Ok(()),
        Some(source) => Err(Error::Threads {
            needed,
            created,
            source,
        }),
    }
}

/// Counts threads that have started.
#[derive(Debug, Default)]
struct Started {
    count: Mutex<usize>,
    changed: Condvar,
}

impl Started {
    fn add(&self) {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count = count.saturating_add(1);
        self.changed.notify_all();
    }

    /// Waits for `needed` of them; gives how many there are.
    fn wait(&self, needed: usize) -> usize {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .changed
            .wait_timeout_while(count, START_DEADLINE, |count| *count < needed);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

#[cfg(test)]
mod tests {
    use super::{
        MAIN_AND_LOG, MAX_BLOCKING, MAX_LOOKUPS, MAX_OWN_LOOKUPS, MAX_TARGET_LOOKUPS, MAX_WORKERS,
        RESERVED, TASKS_MAX, runtime, workers,
    };

    #[test]
    fn all_threads_fit_into_the_limit() {
        let all = MAIN_AND_LOG + MAX_WORKERS + MAX_BLOCKING + MAX_LOOKUPS + RESERVED;
        assert_eq!(all, TASKS_MAX);
        assert_eq!(MAX_OWN_LOOKUPS + MAX_TARGET_LOOKUPS, MAX_LOOKUPS);
    }

    #[test]
    fn workers_are_bounded() {
        for (cpus, expected) in [
            (0, 1),
            (1, 1),
            (2, 2),
            (16, 16),
            (17, 16),
            (126, 16),
            (4096, 16),
        ] {
            assert_eq!(workers(cpus), expected, "{cpus}");
        }
    }

    #[test]
    fn a_runtime_runs_tasks_and_blocking_calls() {
        let runtime = runtime().expect("threads");
        let sum = runtime.block_on(async {
            let task = tokio::runtime::Handle::current().spawn(async { 1 });
            let call = tokio::task::spawn_blocking(|| 2);
            task.await.expect("a task") + call.await.expect("a call")
        });
        assert_eq!(sum, 3);
    }
}

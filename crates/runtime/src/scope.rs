//! Tasks that end together: cancellation, tracking and supervision in one value.
//!
//! Every task of this program is spawned here, so nothing is detached: a scope is cancelled, its
//! tasks see it, and [`Scope::finish`] waits for them under a deadline.
//!
//! # Panics
//! A panic is a defect. It unwinds, because one process serves many tenants, and is logged with the
//! task's name. What it ends is the policy that was chosen where the task was spawned. A session's
//! task ([`Scope::spawn`]) ends alone, and dropping its connection tells the peer. A supervised
//! task ([`Scope::spawn_supervised`], [`Scope::spawn_interruptible`], [`Scope::supervise`]) is
//! started again after a wait that grows; if it panics five times in a row, each soon, it counts as
//! essential. The end of an essential task ([`Scope::spawn_essential`]) cancels the scope, and with
//! it the role: the process exits, and the service manager starts another one.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backoff::{self, Backoff};
use crate::{event, events};

/// Bounds of the wait before a supervised task is started again.
const RESTART: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A task that ran so long before it panicked has worked: its panics are counted from zero again.
const RAN_WELL: Duration = Duration::from_secs(60);
/// Panics in a row after which another start of the task is no use. A new process may be.
const PANICS_BELIEVED: u32 = 5;

/// A group of tasks.
#[derive(Debug, Clone)]
pub struct Scope {
    name: &'static str,
    cancel: CancellationToken,
    tracker: TaskTracker,
    /// The essential task whose end ended the scope, if one did.
    failed_task: Arc<OnceLock<&'static str>>,
}

impl Scope {
    /// A scope that nothing but itself can cancel.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            cancel: CancellationToken::new(),
            tracker: TaskTracker::new(),
            failed_task: Arc::default(),
        }
    }

    /// A scope that is cancelled with this one. Its tasks are its own: [`Self::finish`] of this
    /// scope does not wait for them.
    #[must_use]
    pub fn child(&self, name: &'static str) -> Self {
        Self {
            name,
            cancel: self.cancel.child_token(),
            tracker: TaskTracker::new(),
            failed_task: Arc::default(),
        }
    }

    /// Starts a task whose end concerns no other.
    pub fn spawn<F>(&self, task: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let scope = self.name;
        // Not an `async` block, which has room for the future twice: there is one such task for
        // each session.
        let ended = AssertUnwindSafe(future).catch_unwind();
        self.tracker.spawn(ended.map(move |ended| {
            if ended.is_err() {
                panicked(scope, task);
            }
        }));
    }

    /// Starts a task without which the scope is useless: when it ends for any reason before the
    /// scope was cancelled, the scope is cancelled and [`Self::failed_task`] names the task.
    pub fn spawn_essential<F>(&self, task: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let cancel = self.cancel.clone();
        let failed_task = Arc::clone(&self.failed_task);
        let scope = self.name;
        self.tracker.spawn(async move {
            let ended = AssertUnwindSafe(future).catch_unwind().await;
            if ended.is_err() {
                panicked(scope, task);
            }
            if !cancel.is_cancelled() {
                tracing::error!(scope, task, "essential task ended; stopping");
                // Only the first one is the cause.
                let _ = failed_task.set(task);
                cancel.cancel();
            }
        });
    }

    /// Starts a task that is made again after it panicked, as [`Self::supervise`] does; otherwise
    /// it is as essential as one of [`Self::spawn_essential`].
    pub fn spawn_supervised<F, Fut>(&self, task: &'static str, mut make: F)
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let scope = self.clone();
        self.spawn_essential(task, async move {
            let mut restarts = Restarts::new(task);
            loop {
                let ran = AssertUnwindSafe(make()).catch_unwind().await;
                if ran.is_ok() || !restarts.wait(&scope).await {
                    return;
                }
            }
        });
    }

    /// The same for a task that may be cut anywhere: it ends when the scope is cancelled.
    pub fn spawn_interruptible<F, Fut>(&self, task: &'static str, mut make: F)
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let scope = self.clone();
        self.spawn_supervised(task, move || {
            let (scope, running) = (scope.clone(), make());
            async move {
                scope.run(running).await;
            }
        });
    }

    /// Runs what `make` gives to its end, in the caller's own task. After a panic it is made again,
    /// after a wait that grows; `None` once the scope was cancelled in such a wait, or when five of
    /// them in a row have panicked soon: then the scope is cancelled and [`Self::failed_task`]
    /// names the task.
    pub async fn supervise<T>(
        &self,
        task: &'static str,
        mut make: impl AsyncFnMut() -> T,
    ) -> Option<T> {
        let mut restarts = Restarts::new(task);
        loop {
            if let Ok(output) = AssertUnwindSafe(make()).catch_unwind().await {
                return Some(output);
            }
            if !restarts.wait(self).await {
                if !self.is_cancelled() {
                    let _ = self.failed_task.set(task);
                    self.cancel();
                }
                return None;
            }
        }
    }

    /// Resolves when the scope is cancelled. Cancel-safe.
    pub async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }

    /// True once the scope is cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Cancels the scope and its children.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// The essential task whose end cancelled this scope.
    #[must_use]
    pub fn failed_task(&self) -> Option<&'static str> {
        self.failed_task.get().copied()
    }

    /// How many tasks run.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.tracker.len()
    }

    /// Waits until every task has ended, `deadline` at most; true if all did. Call it after
    /// [`Self::cancel`], or to let the tasks finish what they do.
    pub async fn finish(&self, deadline: Duration) -> bool {
        self.tracker.close();
        let all = tokio::time::timeout(deadline, self.tracker.wait())
            .await
            .is_ok();
        self.tracker.reopen();
        all
    }

    /// Waits until what `watched` receives changes; false once the scope is cancelled. Cancel-safe.
    pub async fn changed<T>(&self, watched: &mut watch::Receiver<T>) -> bool {
        match self.run(watched.changed()).await {
            None => false,
            Some(Ok(())) => true,
            Some(Err(_)) => {
                // The sender is gone.
                self.cancelled().await;
                false
            }
        }
    }

    /// Runs `future` until it ends or the scope is cancelled (then `None`).
    pub async fn run<F: Future>(&self, future: F) -> Option<F::Output> {
        self.cancel.run_until_cancelled(future).await
    }
}

fn panicked(scope: &'static str, task: &'static str) {
    event!(events::TASK_PANICKED, scope, task);
}

/// How often one task has panicked of late.
struct Restarts {
    task: &'static str,
    backoff: Backoff,
    started: Instant,
}

impl Restarts {
    fn new(task: &'static str) -> Self {
        Self {
            task,
            backoff: Backoff::new(RESTART.0, RESTART.1),
            started: Instant::now(),
        }
    }

    /// After a panic: logs it and waits until the task may be made again. False if it should not
    /// be, since `scope` was cancelled or another start is no use.
    async fn wait(&mut self, scope: &Scope) -> bool {
        if self.started.elapsed() >= RAN_WELL {
            self.backoff.reset();
        }
        let again = self.backoff.attempts().saturating_add(1) < PANICS_BELIEVED;
        let delay = self.backoff.next_delay(backoff::random());
        let (scope_name, task) = (scope.name, self.task);
        if !again {
            tracing::error!(
                scope = scope_name,
                task,
                "task panicked too often; this is a defect, please report it"
            );
            return false;
        }
        event!(
            events::TASK_RESTARTED,
            scope = scope_name,
            task,
            delay_ms = delay.as_millis()
        );
        let waited = scope.run(tokio::time::sleep(delay)).await.is_some();
        self.started = Instant::now();
        waited
    }
}

#[cfg(test)]
mod tests {
    use super::{PANICS_BELIEVED, RAN_WELL, Scope};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn panicking_task_ends_alone() {
        let scope = Scope::new("test");
        scope.spawn("bad", async { panic!("on purpose") });
        let (sent, received) = tokio::sync::oneshot::channel();
        scope.spawn("good", async move {
            let _ = sent.send(());
        });
        received.await.expect("the good task ran");
        assert!(scope.finish(SOON).await);
        assert!(!scope.is_cancelled());
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn ended_essential_task_cancels_the_scope() {
        let scope = Scope::new("test");
        let child = scope.child("child");
        scope.spawn_essential("acceptor", async {});
        child.cancelled().await;
        assert!(scope.is_cancelled());
        assert_eq!(scope.failed_task(), Some("acceptor"));
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn supervised_task_restarts_after_a_panic() {
        let scope = Scope::new("test");
        let mut turn = 0;
        let output = scope.supervise("link", async || {
            turn += 1;
            assert!(turn > 3, "on purpose");
            turn
        });
        assert_eq!(output.await, Some(4));
        assert!(!scope.is_cancelled());

        let made = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&made);
        scope.spawn_supervised("renew", move || {
            let turn = counted.fetch_add(1, Ordering::Relaxed);
            async move {
                assert!(turn > 2, "on purpose");
                std::future::pending::<()>().await;
            }
        });
        let four = async {
            while made.load(Ordering::Relaxed) < 4 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        four.await;
        assert!(!scope.is_cancelled());
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn repeated_panics_end_the_scope() {
        let scope = Scope::new("test");
        let mut turns = 0;
        let output: Option<()> = scope
            .supervise("link", async || {
                turns += 1;
                panic!("on purpose")
            })
            .await;
        assert_eq!((output, turns), (None, PANICS_BELIEVED));
        assert_eq!(scope.failed_task(), Some("link"));

        let scope = Scope::new("test");
        let mut turns = 0;
        let output = scope.supervise("link", async || {
            turns += 1;
            tokio::time::sleep(RAN_WELL).await;
            assert!(turns > 3 * PANICS_BELIEVED, "on purpose");
        });
        assert_eq!(output.await, Some(()));

        let scope = Scope::new("test");
        scope.spawn_supervised("renew", || async { panic!("on purpose") });
        scope.cancelled().await;
        assert_eq!(scope.failed_task(), Some("renew"));
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn finish_keeps_its_deadline() {
        let scope = Scope::new("test");
        scope.spawn("stuck", std::future::pending());
        scope.cancel();
        assert!(!scope.finish(SOON).await);
        assert_eq!(scope.tasks(), 1);
    }
}

//! Tasks that end together: cancellation, tracking and supervision in one value.
//!
//! Every task of this program is spawned here, so nothing is detached: a scope is cancelled, its tasks
//! see it, and [`Scope::finish`] waits for them under a deadline. A task that panics is a defect and is
//! logged by name; it ends itself, or, when it was spawned as essential, its scope.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A group of tasks.
#[derive(Debug, Clone)]
pub struct Scope {
    name: &'static str,
    cancel: CancellationToken,
    tracker: TaskTracker,
    /// The essential task whose end ended the scope, if one did.
    casualty: Arc<OnceLock<&'static str>>,
}

impl Scope {
    /// A scope that nothing but itself can cancel.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            cancel: CancellationToken::new(),
            tracker: TaskTracker::new(),
            casualty: Arc::default(),
        }
    }

    /// A scope that is cancelled with this one. Its tasks are its own: whoever finishes this scope does not
    /// wait for them.
    #[must_use]
    pub fn child(&self, name: &'static str) -> Self {
        Self {
            name,
            cancel: self.cancel.child_token(),
            tracker: TaskTracker::new(),
            casualty: Arc::default(),
        }
    }

    /// Starts a task whose end concerns nobody else.
    pub fn spawn<F>(&self, task: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let scope = self.name;
        self.tracker.spawn(async move {
            if AssertUnwindSafe(future).catch_unwind().await.is_err() {
                tracing::error!(
                    scope,
                    task,
                    "task panicked; this is a defect, please report it"
                );
            }
        });
    }

    /// Starts a task without which the scope is useless: when it ends for any reason before the scope
    /// was cancelled, the scope is cancelled and [`Self::casualty`] names the task.
    pub fn spawn_essential<F>(&self, task: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let cancel = self.cancel.clone();
        let casualty = Arc::clone(&self.casualty);
        let scope = self.name;
        self.tracker.spawn(async move {
            let ended = AssertUnwindSafe(future).catch_unwind().await;
            if ended.is_err() {
                tracing::error!(
                    scope,
                    task,
                    "task panicked; this is a defect, please report it"
                );
            }
            if !cancel.is_cancelled() {
                tracing::error!(scope, task, "essential task ended; stopping");
                // Only the first one is the cause.
                let _ = casualty.set(task);
                cancel.cancel();
            }
        });
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
    pub fn casualty(&self) -> Option<&'static str> {
        self.casualty.get().copied()
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

    /// Runs `future` until it ends or the scope is cancelled (then `None`).
    pub async fn run<F: Future>(&self, future: F) -> Option<F::Output> {
        self.cancel.run_until_cancelled(future).await
    }
}

#[cfg(test)]
mod tests {
    use super::Scope;
    use std::time::Duration;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn a_panicking_task_ends_only_itself() {
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
    async fn the_end_of_an_essential_task_ends_the_scope() {
        let scope = Scope::new("test");
        let child = scope.child("child");
        scope.spawn_essential("acceptor", async {});
        child.cancelled().await;
        assert!(scope.is_cancelled());
        assert_eq!(scope.casualty(), Some("acceptor"));
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn finish_waits_no_longer_than_its_deadline() {
        let scope = Scope::new("test");
        scope.spawn("stuck", std::future::pending());
        scope.cancel();
        assert!(!scope.finish(SOON).await);
        assert_eq!(scope.tasks(), 1);
    }
}

//! A task's turn: how much it may move before the other tasks of its thread have theirs.
//!
//! A stream that never has to wait keeps its thread until the runtime's own budget is used up: 128
//! reads or writes, which is megabytes. Meanwhile no one else of that thread is served, and nothing
//! new is heard from the network. With turns of [`BYTES`] everyone waits for moments, however much
//! one stream has to move.

use std::task::{Context, Poll};

/// Bytes of a turn: about as long as one round trip on a local network, and long enough that taking
/// turns costs nothing that could be measured (docs/reliability.md).
pub(crate) const BYTES: usize = 64 * 1024;

/// What is left of a task's turn.
#[derive(Debug, Default)]
pub struct YieldBudget {
    moved: usize,
    is_over: bool,
}

impl YieldBudget {
    /// So many bytes were moved.
    pub fn moved(&mut self, bytes: usize) {
        self.moved = self.moved.saturating_add(bytes);
        if self.moved >= BYTES {
            self.moved = 0;
            self.is_over = true;
        }
    }

    /// Pending once after each turn: the task comes again by itself, after all those that wait
    /// already.
    pub(crate) fn poll_next(&mut self, cx: &Context<'_>) -> Poll<()> {
        if std::mem::take(&mut self.is_over) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Waits for the next turn if this one is over. Cancel-safe.
    pub async fn next(&mut self) {
        std::future::poll_fn(|cx| self.poll_next(cx)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::{BYTES, YieldBudget};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Wake, Waker};

    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn task_yields_after_its_bytes() {
        let woken = Arc::new(Woken(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&woken));
        let cx = Context::from_waker(&waker);
        let mut budget = YieldBudget::default();
        for round in 1..=3 {
            budget.moved(BYTES - 1);
            assert_eq!(budget.poll_next(&cx), Poll::Ready(()));
            budget.moved(1);
            assert_eq!(budget.poll_next(&cx), Poll::Pending);
            assert_eq!(woken.0.load(Ordering::Relaxed), round);
            assert_eq!(budget.poll_next(&cx), Poll::Ready(()), "the next one");
        }
    }
}

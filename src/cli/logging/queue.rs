//! What waits to be written: many put in, one takes out, and none of those that put in ever waits.
//!
//! A full queue loses what comes, counts it, and takes nothing more until half of it has been
//! written: then the loss is logged once, not after every line that found room again. Errors have
//! room of their own, for they are what a person must act on, and the last of them says why the
//! program ended.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many may wait: the debug lines of a busy second.
const ENTRIES: usize = 4096;

/// How many bytes of them: a few long lines are as bad as many short ones.
const BYTES: usize = 4 << 20;

/// How long the one that takes out looks away before it sleeps until it is woken. Waking it is what
/// costs most of a line: so a busy program does it a thousand times a second, not for each line.
const LINGER: Duration = Duration::from_millis(1);

/// What is put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rank {
    /// It may be lost.
    Ordinary,
    /// It is lost only if a second queue would be full too.
    Error,
    /// A change of where lines go. They are few, and never lost.
    Request,
}

/// A queue with a bound.
#[derive(Debug)]
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    /// The one that takes out waits for something to be there.
    filled: Condvar,
    /// The one who waits for the end.
    emptied: Condvar,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<(usize, T)>,
    /// The sum of their sizes.
    bytes: usize,
    lost: u64,
    /// It was full, and half of it has not been written yet.
    is_losing: bool,
    /// The one that takes out sleeps until it is woken.
    is_idle: bool,
    /// What was taken out last is still being written.
    is_busy: bool,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                items: VecDeque::new(),
                bytes: 0,
                lost: 0,
                is_losing: false,
                is_idle: false,
                is_busy: false,
            }),
            filled: Condvar::new(),
            emptied: Condvar::new(),
        }
    }

    /// Puts in `item`, of about `size` bytes, or loses it.
    pub(super) fn push(&self, rank: Rank, size: usize, item: T) {
        let mut state = self.lock();
        if !state.has_room(rank, size) {
            state.is_losing = true;
            state.lost = state.lost.saturating_add(1);
            return;
        }
        state.bytes = state.bytes.saturating_add(size);
        state.items.push_back((size, item));
        let is_urgent = match rank {
            Rank::Ordinary => false,
            Rank::Error | Rank::Request => true,
        };
        if std::mem::take(&mut state.is_idle) || is_urgent {
            drop(state);
            self.filled.notify_one();
        }
    }

    /// Waits for the next item; with it, how many were lost, if that is to be told now. The one
    /// before it counts as written.
    pub(super) fn next(&self) -> (T, Option<u64>) {
        let mut state = self.lock();
        self.written(&mut state);
        let mut has_lingered = false;
        loop {
            if let Some(taken) = state.take() {
                return taken;
            }
            let limit = if has_lingered { Duration::MAX } else { LINGER };
            state.is_idle = has_lingered;
            has_lingered = true;
            let woken = self.filled.wait_timeout(state, limit);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The same without waiting.
    pub(super) fn try_next(&self) -> Option<(T, Option<u64>)> {
        let mut state = self.lock();
        self.written(&mut state);
        state.take()
    }

    /// Waits until everything has been written, for `limit` at most.
    pub(super) fn wait_until_written(&self, limit: Duration) {
        self.filled.notify_one();
        let waits = |state: &mut State<T>| !state.items.is_empty() || state.is_busy;
        drop(self.emptied.wait_timeout_while(self.lock(), limit, waits));
    }

    fn written(&self, state: &mut State<T>) {
        state.is_busy = false;
        if state.items.is_empty() {
            self.emptied.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Whole at any time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn has_room(&self, rank: Rank, size: usize) -> bool {
        let times = match rank {
            Rank::Request => return true,
            Rank::Ordinary if self.is_losing => return false,
            Rank::Ordinary => 1,
            Rank::Error => 2,
        };
        // Something too large for any queue is not lost to an empty one.
        self.items.is_empty()
            || (self.items.len() < ENTRIES * times
                && self.bytes.saturating_add(size) <= BYTES * times)
    }

    fn take(&mut self) -> Option<(T, Option<u64>)> {
        let (size, item) = self.items.pop_front()?;
        self.bytes = self.bytes.saturating_sub(size);
        self.is_busy = true;
        let is_over = self.is_losing && self.items.len() <= ENTRIES / 2 && self.bytes <= BYTES / 2;
        let lost = is_over.then(|| std::mem::take(&mut self.lost));
        self.is_losing &= !is_over;
        Some((item, lost))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{BYTES, ENTRIES, Queue, Rank};

    fn filled(queue: &Queue<usize>) {
        for number in 0..ENTRIES {
            queue.push(Rank::Ordinary, 1, number);
        }
    }

    #[test]
    fn full_queue_counts_what_it_loses() {
        let queue = Queue::new();
        filled(&queue);
        for _ in 0..3 {
            queue.push(Rank::Ordinary, 1, 0);
        }
        let mut told = Vec::new();
        for number in 0..ENTRIES {
            let (item, lost) = queue.next();
            assert_eq!(item, number);
            told.extend(lost.map(|lost| (number, lost)));
            // Half of the room is not room yet.
            queue.push(Rank::Ordinary, 1, ENTRIES + number);
        }
        let half = ENTRIES / 2 - 1;
        let lost = u64::try_from(half).expect("a count") + 3;
        assert_eq!(told, [(half, lost)]);
        assert_eq!(queue.next().0, ENTRIES + half);
    }

    #[test]
    fn long_lines_fill_the_queue_too() {
        let queue = Queue::new();
        queue.push(Rank::Ordinary, 2 * BYTES, 1);
        queue.push(Rank::Ordinary, 1, 2);
        assert_eq!(queue.next(), (1, Some(1)));
        queue.push(Rank::Ordinary, 1, 3);
        assert_eq!(queue.next(), (3, None));
    }

    #[test]
    fn full_queue_keeps_room_for_errors() {
        let queue = Queue::new();
        filled(&queue);
        for _ in 0..=ENTRIES {
            queue.push(Rank::Error, 1, ENTRIES);
        }
        queue.push(Rank::Request, 1, ENTRIES + 1);
        let mut all = Vec::new();
        let mut told = None;
        while let Some((item, lost)) = queue.try_next() {
            all.push(item);
            told = told.or(lost);
        }
        assert_eq!(all.len(), 2 * ENTRIES + 1);
        assert_eq!(all.last(), Some(&(ENTRIES + 1)));
        assert_eq!(told, Some(1));
    }

    #[test]
    fn end_waits_for_the_last_item() {
        let queue = Queue::new();
        let forever = Duration::from_secs(3600);
        queue.wait_until_written(forever);
        queue.push(Rank::Ordinary, 1, 1);
        // No one takes it out.
        queue.wait_until_written(Duration::from_millis(1));
        assert_eq!(queue.next().0, 1);
        // No one says that it is written.
        queue.wait_until_written(Duration::from_millis(1));
        std::thread::scope(|scope| {
            scope.spawn(|| queue.wait_until_written(forever));
            assert_eq!(queue.try_next(), None);
        });
    }
}

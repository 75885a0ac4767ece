//! Which channels the peer has closed. The engine tells a reader, but not a writer, who would wait for window for
//! ever and whose bytes would go nowhere (RFC 4254 §5.3).
//!
//! A channel's writer and the engine's callbacks run in different tasks, so each may be the first to speak of a
//! channel: the engine wakes whoever opened one before it reports the opening.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use russh::ChannelId;
use tokio_util::sync::CancellationToken;

/// The open channels of one session, each with what its writer listens to. (The engine makes its ids itself, hence
/// the parameter: tests use their own.)
#[derive(Clone)]
pub(super) struct Closings<Id = ChannelId>(Arc<Mutex<State<Id>>>);

struct State<Id> {
    channels: HashMap<Id, Entry>,
    is_ended: bool,
}

#[derive(Default)]
struct Entry {
    closed: CancellationToken,
    /// Its writer has asked. Until then the entry is kept although the channel is closed.
    is_known: bool,
}

impl<Id> Default for Closings<Id> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State {
            channels: HashMap::new(),
            is_ended: false,
        })))
    }
}

impl<Id: Copy + Eq + Hash> Closings<Id> {
    /// A channel is open.
    pub(super) fn opened(&self, id: Id) {
        let mut state = self.lock();
        if !state.is_ended {
            state.channels.entry(id).or_default();
        }
    }

    /// The peer has closed a channel: its writer hears of it.
    pub(super) fn closed(&self, id: Id) {
        let mut state = self.lock();
        if let Some(entry) = state.channels.get(&id) {
            entry.closed.cancel();
            if entry.is_known {
                state.channels.remove(&id);
            }
        }
    }

    /// A channel will have no writer.
    pub(super) fn forget(&self, id: Id) {
        self.lock().channels.remove(&id);
    }

    /// The session has ended, and all channels with it.
    pub(super) fn all_closed(&self) {
        let mut state = self.lock();
        state.is_ended = true;
        let all = state.channels.drain();
        all.for_each(|(_, entry)| entry.closed.cancel());
    }

    /// What the writer of a channel listens to. Asked once for each channel.
    pub(super) fn of(&self, id: Id) -> CancellationToken {
        let mut state = self.lock();
        if state.is_ended {
            let closed = CancellationToken::new();
            closed.cancel();
            return closed;
        }
        let entry = state.channels.entry(id).or_default();
        entry.is_known = true;
        let closed = entry.closed.clone();
        if closed.is_cancelled() {
            state.channels.remove(&id);
        }
        closed
    }

    fn lock(&self) -> MutexGuard<'_, State<Id>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::Closings;

    fn left(closings: &Closings<u32>) -> usize {
        closings.lock().channels.len()
    }

    #[test]
    fn a_writer_that_asks_before_the_opening_is_reported_is_not_told_of_a_closing() {
        let closings = Closings::<u32>::default();
        let id = 1;
        let closed = closings.of(id);
        assert!(!closed.is_cancelled());
        closings.opened(id);
        assert!(!closed.is_cancelled());
        closings.closed(id);
        assert!(closed.is_cancelled());
        assert_eq!(left(&closings), 0);
    }

    #[test]
    fn a_writer_that_asks_after_the_closing_is_told_at_once() {
        let closings = Closings::<u32>::default();
        let id = 1;
        closings.opened(id);
        closings.closed(id);
        assert!(closings.of(id).is_cancelled());
        assert_eq!(left(&closings), 0);
    }

    #[test]
    fn the_end_of_the_session_closes_what_was_and_what_comes() {
        let closings = Closings::<u32>::default();
        let (known, unknown, late) = (1, 2, 3);
        closings.opened(known);
        closings.opened(unknown);
        let closed = closings.of(known);
        closings.all_closed();
        assert!(closed.is_cancelled());
        assert!(closings.of(unknown).is_cancelled());
        closings.opened(late);
        assert!(closings.of(late).is_cancelled());
        assert_eq!(left(&closings), 0);
    }

    #[test]
    fn a_channel_that_nobody_takes_leaves_nothing() {
        let closings = Closings::<u32>::default();
        let id = 1;
        closings.opened(id);
        closings.forget(id);
        closings.closed(id);
        assert_eq!(left(&closings), 0);
    }
}

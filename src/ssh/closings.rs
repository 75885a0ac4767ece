//! Which channels the peer has closed. The engine tells a reader, but not a writer, who would wait for window for
//! ever and whose bytes would go nowhere (RFC 4254 §5.3).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use russh::ChannelId;
use tokio_util::sync::CancellationToken;

/// The open channels of one session, each with what its writer listens to.
#[derive(Clone, Default)]
pub(super) struct Closings(Arc<Mutex<HashMap<ChannelId, CancellationToken>>>);

impl Closings {
    /// A channel is open.
    pub(super) fn opened(&self, id: ChannelId) {
        self.lock().insert(id, CancellationToken::new());
    }

    /// The peer has closed a channel: its writer hears of it.
    pub(super) fn closed(&self, id: ChannelId) {
        if let Some(token) = self.lock().remove(&id) {
            token.cancel();
        }
    }

    /// The session has ended, and all channels with it.
    pub(super) fn all_closed(&self) {
        self.lock().drain().for_each(|(_, token)| token.cancel());
    }

    /// What the writer of an open channel listens to; one that is no longer open is closed already.
    pub(super) fn of(&self, id: ChannelId) -> CancellationToken {
        self.lock().get(&id).cloned().unwrap_or_else(|| {
            let closed = CancellationToken::new();
            closed.cancel();
            closed
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ChannelId, CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

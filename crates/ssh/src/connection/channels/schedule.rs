//! Whose turn it is to send: a channel that has just got something to send goes before those that
//! send all the time, so a bulk transfer delays a small one by a few packets at most. Pure.

use std::collections::VecDeque;

use super::ChannelId;

/// Newcomers that may go before the channels that wait already.
const MAX_JUMPS: u8 = 8;

/// See the module. A channel is in it once at most.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    fresh: VecDeque<ChannelId>,
    ready: VecDeque<ChannelId>,
    jumps: u8,
}

impl Schedule {
    /// The channel had nothing to send and has something now.
    pub(super) fn join(&mut self, id: ChannelId) {
        self.fresh.push_back(id);
    }

    /// The channel has had its turn and still has something to send.
    pub(super) fn rejoin(&mut self, id: ChannelId) {
        self.ready.push_back(id);
    }

    /// Takes out the channel whose turn it is.
    pub(super) fn next(&mut self) -> Option<ChannelId> {
        if (self.jumps < MAX_JUMPS || self.ready.is_empty())
            && let Some(id) = self.fresh.pop_front()
        {
            self.jumps = self.jumps.saturating_add(1);
            return Some(id);
        }
        self.jumps = 0;
        self.ready.pop_front()
    }

    /// The channel is gone.
    pub(super) fn forget(&mut self, id: ChannelId) {
        self.fresh.retain(|other| *other != id);
        self.ready.retain(|other| *other != id);
    }

    /// How often a channel is in it.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn count(&self, id: ChannelId) -> usize {
        let all = self.fresh.iter().chain(&self.ready);
        all.filter(|other| **other == id).count()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.ready.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.fresh.clear();
        self.ready.clear();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.fresh.len() + self.ready.len()
    }
}

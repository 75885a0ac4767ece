//! What tests look at.

use super::{ChannelId, Channels};
use crate::connection::channel::data_len;

/// All that channels hold.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::connection) struct Totals {
    pub channels: usize,
    pub incoming: usize,
    /// Data that wait to be sent, as they are counted and as they are.
    pub queued: usize,
    pub in_queues: usize,
    /// Data that wait for readers, and the memory that they take.
    pub received: usize,
    pub received_memory: usize,
    /// The fullest queue, and the memory that all of them take.
    pub fullest_queue: usize,
    pub queue_memory: usize,
    /// Spent of the windows' budget.
    pub budget: u32,
    pub control: usize,
    /// Entries of all lists.
    pub listed: usize,
}

impl Channels {
    pub(in crate::connection) fn totals(&self) -> Totals {
        let mut totals = Totals {
            incoming: self.incoming,
            queued: self.queued,
            budget: self.budget.spent(),
            control: self.control.len(),
            listed: self.adjusting.len()
                + self.openings.len()
                + self.schedule.len()
                + self.blocked.len()
                + self.sampled.len(),
            ..Totals::default()
        };
        for channel in self.slots.iter().flatten() {
            totals.channels += 1;
            totals.fullest_queue = totals.fullest_queue.max(channel.queued);
            totals.in_queues += channel.queue.iter().map(data_len).sum::<usize>();
            totals.queue_memory += channel.queue.iter().map(|p| p.memory()).sum::<usize>();
            totals.received += channel.received.iter().map(|p| p.len()).sum::<usize>();
            totals.received_memory += channel.received.iter().map(|p| p.memory()).sum::<usize>();
        }
        assert_eq!(totals.channels, self.used());
        totals
    }

    /// How many writers wait for the session's room: entries of the list, and channels that believe
    /// to be in it.
    pub(in crate::connection) fn waiting_for_room(&self) -> (usize, usize) {
        let channels = self.slots.iter().flatten();
        let marked = channels.filter(|channel| channel.is_blocked).count();
        (self.blocked.len(), marked)
    }

    /// The number that the peer has given the channel.
    pub(in crate::connection) fn peer(&self, id: ChannelId) -> Option<u32> {
        let slot = self.slots.get(usize::try_from(id.0).ok()?)?;
        slot.as_ref().map(|channel| channel.peer)
    }

    /// Size of the window that is granted.
    pub(in crate::connection) fn window(&self, id: ChannelId) -> Option<u32> {
        let slot = self.slots.get(usize::try_from(id.0).ok()?)?;
        slot.as_ref().map(|channel| channel.receive.size())
    }
}

//! What holds of the channels of a session at any time, whatever the peer says: for fuzzers and
//! tests.

use std::collections::HashSet;

use super::receive::{MAX_INCOMING, SMALL_READ};
use super::send::{CHANNEL_QUEUE, LITTLE, SESSION_QUEUE};
use super::{Channels, MAX_CHANNELS, MAX_DATA};
use crate::connection::channel::{ChannelId, State, data_len};
use crate::connection::window::{BUDGET, LEAST};

impl Channels {
    /// Panics if one of them is broken.
    pub(in crate::connection) fn check(&self) {
        let (mut queued, mut used, mut incoming, mut extra) = (0_usize, 0_usize, 0_usize, 0_u32);
        let mut leased = 0_usize;
        for (slot, index) in self.slots.iter().zip(0_u32..) {
            let Some(channel) = slot else { continue };
            used += 1;
            incoming += usize::from(channel.state == State::Incoming);
            queued += channel.queued;
            assert!(channel.queued <= CHANNEL_QUEUE, "a long queue");
            let waiting: usize = channel.queue.iter().map(data_len).sum();
            assert!(waiting <= channel.queued, "more waits than was reserved");
            for packet in &channel.queue {
                assert!(data_len(packet) <= MAX_DATA as usize, "a long packet");
            }
            let (promised, own) = channel.receive.promised();
            let base = channel.receive.base();
            assert!(promised <= base + own, "more is promised than can be held");
            leased += (base - LEAST + own) as usize + channel.charged();
            let held: usize = channel.received.iter().map(|data| data.len()).sum();
            assert!(held <= promised as usize, "more came than was promised");
            assert!(
                channel.received.len() <= 2 + held * 4 / SMALL_READ,
                "small data in many buffers"
            );
            extra += own;
            let id = ChannelId(index);
            let turns = self.schedule.count(id);
            assert!(turns <= 1, "a channel has two turns");
            let is_scheduled = turns == 1;
            // The end of a session empties the lists and forgets who was in them.
            assert!(
                self.is_ended || is_scheduled == channel.is_scheduled,
                "whose turn it is"
            );
            assert!(
                self.is_ended || self.adjusting.contains(&id) == channel.is_adjusting,
                "who gives credit back"
            );
            assert!(
                self.is_ended || self.blocked.contains(&id) == channel.is_blocked,
                "who waits for the session's room"
            );
            assert!(
                self.is_ended || is_scheduled || !channel.is_ready(),
                "a channel that is ready and never gets its turn"
            );
        }
        assert_eq!(queued, self.queued, "bytes in all queues");
        assert_eq!(used, self.used(), "channels");
        assert_eq!(incoming, self.incoming, "channels that no one has taken");
        assert_eq!(extra, self.budget.spent(), "what all windows have spent");
        assert_eq!(leased, self.budget.lease.bytes(), "what the account lent");
        assert!(extra <= BUDGET && used <= MAX_CHANNELS && incoming <= MAX_INCOMING);
        assert!(queued <= SESSION_QUEUE + used * LITTLE, "long queues");
        let free: HashSet<u32> = self.free.iter().copied().collect();
        assert_eq!(free.len(), self.free.len(), "a number is free twice");
        assert_eq!(used + free.len(), self.slots.len(), "a number is lost");
        for list in [&self.adjusting, &self.blocked] {
            let ids: HashSet<_> = list.iter().collect();
            assert_eq!(ids.len(), list.len(), "a channel is in a list twice");
        }
    }
}

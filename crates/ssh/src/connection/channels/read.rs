//! What readers take, and the credit that it makes.

use std::collections::VecDeque;
use std::time::Duration;

use super::{ChannelId, Channels, Progress};
use crate::connection::window::Round;
use crate::packet::Payload;

/// Who sends so many bytes in one round trip may be the one that makes it long.
const BULK: usize = 64 * 1024;

/// What a reader finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Data were taken.
    Data,
    /// Nothing yet.
    Pending,
    /// The peer sends no more: EOF came.
    Ended,
    /// The peer closed the channel without EOF.
    Closed,
    /// The session ended first.
    Cut,
}

impl Channels {
    /// Moves all that has been received to the end of `into`.
    pub(in crate::connection) fn take_received(
        &mut self,
        id: ChannelId,
        into: &mut VecDeque<Payload>,
    ) -> Reading {
        let is_ended = self.is_ended;
        let Some(channel) = self.slot(id) else {
            return Reading::Cut;
        };
        if !channel.received.is_empty() {
            if into.is_empty() {
                std::mem::swap(into, &mut channel.received);
            } else {
                into.append(&mut channel.received);
            }
            return Reading::Data;
        }
        if channel.eof_received {
            Reading::Ended
        } else if channel.close_received {
            Reading::Closed
        } else if is_ended {
            Reading::Cut
        } else {
            Reading::Pending
        }
    }

    /// The reader has used so many bytes of what it took; true if that makes credit to give back.
    pub(in crate::connection) fn read(&mut self, id: ChannelId, bytes: usize) -> bool {
        let Some(channel) = self.slot(id) else {
            return false;
        };
        channel.receive.read(bytes);
        self.adjust_later(id)
    }

    pub(super) fn adjust_later(&mut self, id: ChannelId) -> bool {
        let Some(channel) = self.slot(id) else {
            return false;
        };
        let is_due = channel.receive.is_adjustment_due()
            && !channel.is_adjusting
            && !channel.eof_received
            && !channel.close_received
            && channel.close == Progress::NotYet;
        if is_due {
            channel.is_adjusting = true;
            self.adjusting.push_back(id);
        }
        is_due
    }

    /// A round trip begins: what comes from now on counts.
    pub(in crate::connection) fn begin_round(&mut self) {
        self.round = self.round.wrapping_add(1);
        self.sampled.clear();
        self.sent = 0;
    }

    /// The round trip is over and took `round_trip`, of which the path alone takes `path`.
    pub(in crate::connection) fn end_round(&mut self, round_trip: Duration, path: Duration) {
        let round = Round {
            round_trip,
            path,
            total: self.received(),
            channels: u64::try_from(self.sampled.len()).unwrap_or(u64::MAX),
            is_sending: self.sent >= BULK,
        };
        for id in std::mem::take(&mut self.sampled) {
            let bytes = self.sample(id);
            let index = usize::try_from(id.0).unwrap_or(usize::MAX);
            if let Some(Some(channel)) = self.slots.get_mut(index) {
                let window = &mut channel.receive;
                let wanted = window.keep_pace(round.rate(bytes)).max(round.wanted(bytes));
                window.grow(bytes, wanted, &mut self.budget);
                self.adjust_later(id);
            }
        }
        self.round = self.round.wrapping_add(1);
    }

    /// Bytes that came in this round.
    pub(in crate::connection) fn received(&self) -> u64 {
        self.sampled.iter().map(|id| self.sample(*id)).sum()
    }

    /// Bytes that came on the channel in the last round in which any came.
    fn sample(&self, id: ChannelId) -> u64 {
        let index = usize::try_from(id.0).unwrap_or(usize::MAX);
        let channel = self.slots.get(index).and_then(Option::as_ref);
        let sample = channel.and_then(|channel| channel.sample);
        sample.map_or(0, |(_, bytes)| bytes)
    }
}

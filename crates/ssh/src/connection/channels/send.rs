//! What goes out of the channels: room for what is written, and the next packet.

use super::{ChannelId, Channels, Event, Progress};
use crate::connection::channel::data_len;
use crate::msg::{self, Message};
use crate::packet::Packet;
use crate::wire::Write as _;

/// Data that one channel may queue, in bytes.
pub(in crate::connection) const CHANNEL_QUEUE: usize = 128 * 1024;

/// Data that all channels may queue, in bytes; beyond it each may queue [`LITTLE`] all the same.
pub(in crate::connection) const SESSION_QUEUE: usize = 8 * 1024 * 1024;

/// What a channel with nothing in its queue may always queue, in bytes; not counted for its owner.
pub(in crate::connection) const LITTLE: usize = 4 * 1024;

/// A write of so many bytes or less may join the packet before it.
const SMALL_WRITE: usize = 4 * 1024;

/// What a writer finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// So many bytes are reserved, in one packet to this recipient.
    Bytes {
        /// How many.
        length: usize,
        /// The channel's number on the peer's side.
        recipient: u32,
    },
    /// None yet.
    Pending,
    /// The channel takes no more.
    Closed,
}

impl Channels {
    /// Room for at most `wanted` bytes, reserved until [`Self::submit`].
    pub(in crate::connection) fn reserve(&mut self, id: ChannelId, wanted: usize) -> Room {
        let session = SESSION_QUEUE.saturating_sub(self.queued);
        let is_ended = self.is_ended || self.is_closing;
        let index = usize::try_from(id.0).unwrap_or(usize::MAX);
        let Some(Some(channel)) = self.slots.get_mut(index) else {
            return Room::Closed;
        };
        if is_ended || channel.is_write_closed() {
            return Room::Closed;
        }
        let own = CHANNEL_QUEUE.saturating_sub(channel.queued);
        let little = if channel.queued == 0 { LITTLE } else { 0 };
        let room = wanted.min(own).min(session.max(little));
        let free = LITTLE.saturating_sub(channel.queued);
        let lease = &mut self.budget.lease;
        let charged = lease.take(room.saturating_sub(free));
        let room = room.min(free.saturating_add(charged));
        let length = channel.send.take(u32::try_from(room).unwrap_or(u32::MAX));
        let length = usize::try_from(length).unwrap_or(0);
        lease.give(charged.saturating_sub(length.saturating_sub(free)));
        if length == 0 {
            channel.is_writer_waiting = true;
            if room == 0 && own > 0 && !channel.is_blocked {
                channel.is_blocked = true;
                self.blocked.push_back(id);
            }
            return Room::Pending;
        }
        channel.is_writer_waiting = false;
        channel.queued = channel.queued.saturating_add(length);
        let recipient = channel.peer;
        self.queued = self.queued.saturating_add(length);
        Room::Bytes { length, recipient }
    }

    /// Queues a packet of CHANNEL_DATA whose data have been reserved.
    pub(in crate::connection) fn submit(&mut self, id: ChannelId, packet: Packet) {
        let bytes = data_len(&packet);
        let is_ended = self.is_ended;
        let Some(channel) = self.slot(id) else {
            return;
        };
        if is_ended || channel.close_received {
            // What it had reserved is free already. Our own CLOSE waits for it.
            return;
        }
        let max = usize::try_from(channel.send.max_packet()).unwrap_or(0);
        match channel.queue.back_mut() {
            Some(last) if bytes <= SMALL_WRITE && data_len(last).saturating_add(bytes) <= max => {
                join(last, &packet);
            }
            _ => channel.queue.push_back(packet),
        }
        self.schedule(id);
    }

    pub(super) fn schedule(&mut self, id: ChannelId) {
        let Some(channel) = self.slot(id) else { return };
        if channel.is_ready() && !channel.is_scheduled {
            channel.is_scheduled = true;
            self.schedule.join(id);
        }
    }

    /// Openings, then credit to give back, then data, one packet at a time; `None` if there is
    /// nothing.
    pub(in crate::connection) fn next_packet(&mut self) -> Option<Packet> {
        if let Some(opening) = self.openings.pop_front() {
            return Some(opening);
        }
        while let Some(id) = self.adjusting.pop_front() {
            let index = usize::try_from(id.0).ok()?;
            let Some(Some(channel)) = self.slots.get_mut(index) else {
                continue;
            };
            channel.is_adjusting = false;
            let bytes = channel.receive.adjust(&mut self.budget);
            if bytes > 0 && channel.close == Progress::NotYet {
                let recipient = channel.peer;
                return Some(Message::ChannelWindowAdjust { recipient, bytes }.packet());
            }
        }
        loop {
            let id = self.schedule.next()?;
            let Some(channel) = self.slot(id) else {
                continue;
            };
            channel.is_scheduled = false;
            let charged = channel.charged();
            let Some((packet, freed)) = channel.next_packet() else {
                continue;
            };
            let charged = charged.saturating_sub(channel.charged());
            if channel.is_ready() {
                channel.is_scheduled = true;
                self.schedule.rejoin(id);
            }
            self.sent = self.sent.saturating_add(freed);
            self.free_queued(freed, charged);
            self.tell_writers(id);
            self.remove_if_over(id);
            return Some(packet);
        }
    }

    /// A packet of channel `id` has gone: its writer may go on, and one that waits for the
    /// session's room.
    fn tell_writers(&mut self, id: ChannelId) {
        if let Some(channel) = self.slot(id)
            && std::mem::take(&mut channel.is_writer_waiting)
        {
            self.events.push_back(Event::Writable(id));
        }
        // Anyone who was told by its own packet meanwhile does not count.
        while self.queued < SESSION_QUEUE
            && let Some(id) = self.blocked.pop_front()
        {
            let Some(channel) = self.slot(id) else {
                continue;
            };
            channel.is_blocked = false;
            if std::mem::take(&mut channel.is_writer_waiting) {
                self.events.push_back(Event::Writable(id));
                break;
            }
        }
    }

    /// Bytes of data that wait to be sent, or are being written.
    pub(in crate::connection) fn queued(&self) -> usize {
        self.queued
    }

    /// True if some channel has something to send.
    pub(in crate::connection) fn has_output(&self) -> bool {
        !self.control.is_empty()
            || !self.openings.is_empty()
            || !self.adjusting.is_empty()
            || !self.schedule.is_empty()
    }
}

/// A packet of CHANNEL_DATA with room for `data` bytes.
pub(crate) fn data_packet(recipient: u32, data: usize) -> Packet {
    let mut packet =
        Packet::with_capacity(msg::CHANNEL_DATA, msg::DATA_HEADER.saturating_add(data));
    packet.put_u32(recipient);
    packet.put_u32(u32::try_from(data).unwrap_or(u32::MAX));
    packet
}

/// Appends the data of one packet to another's of the same channel.
fn join(last: &mut Packet, packet: &Packet) {
    let data = packet.payload().get(msg::DATA_HEADER..).unwrap_or_default();
    last.put(data);
    let length = u32::try_from(data_len(last)).unwrap_or(u32::MAX);
    if let Some(field) = last.payload_mut().get_mut(5..msg::DATA_HEADER) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}

//! All channels of a session: their numbers, whose turn it is to send, and the bounds on what they hold. Pure.
//!
//! What goes out: answers and openings first, then credit, then data, a packet from each channel in turn. A channel that
//! has just got something to send goes before those that send all the time, so a bulk transfer delays a small one by a
//! few packets at most.

#[cfg(any(test, fuzzing))]
mod invariants;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use super::channel::{Channel, ChannelId, Progress, State, data_len};
use super::window::{BASE, Budget, SendWindow};
use crate::error::printable;
use crate::ssh::Error;
use crate::ssh::msg::{self, Message, open_failure};
use crate::ssh::packet::{Packet, Payload};
use crate::ssh::wire::Write as _;

/// Largest data of one packet, ours and the peer's, in bytes. All peers know 32 KiB (RFC 4253 §6.1).
pub(super) const MAX_DATA: u32 = 32 * 1024;
/// Channels at once.
const MAX_CHANNELS: usize = 16 * 1024;
/// Channels that the peer has opened and nobody has taken; beyond it opens are refused.
const MAX_INCOMING: usize = 256;
/// Data that one channel may queue, in bytes.
const CHANNEL_QUEUE: usize = 128 * 1024;
/// Data that all channels may queue, in bytes; beyond it each may queue [`LITTLE`] all the same.
const SESSION_QUEUE: usize = 8 * 1024 * 1024;
/// What a channel with nothing in its queue may always queue, in bytes.
const LITTLE: usize = 4 * 1024;
/// A write of so many bytes or less may join the packet before it.
const SMALL_WRITE: usize = 4 * 1024;
/// Received data of less bytes join those before them, up to [`JOINED`] bytes: a packet of one byte would hold fifty
/// times its share of the window in memory.
const SMALL_DATA: usize = 1024;
const JOINED: usize = 4 * 1024;
/// Newcomers that may go before the channels that wait already.
const MAX_JUMPS: u8 = 8;

/// What happened, for whoever drives the connection.
#[derive(Debug)]
pub(in crate::ssh) enum Event {
    /// The peer is authenticated: channels may be opened.
    Authenticated,
    /// The peer has opened a channel, to be accepted or refused.
    Incoming(ChannelId),
    /// A channel that we asked for is open.
    Opened(ChannelId),
    /// A channel that we asked for is refused.
    Refused(ChannelId, Error),
    /// There are data, or their end.
    Readable(ChannelId),
    /// There is room for data, or there never will be.
    Writable(ChannelId),
    /// The peer has closed the channel.
    Closed(ChannelId),
    /// The ping of this number was answered.
    Answered(u64),
}

/// What a reader finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ssh) enum Reading {
    /// Data were taken.
    Data,
    /// Nothing yet.
    Pending,
    /// The peer sends no more.
    Ended,
    /// The session ended first.
    Cut,
}

/// What a writer finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ssh) enum Room {
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

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Channels {
    slots: Vec<Option<Channel>>,
    free: Vec<u32>,
    used: usize,
    /// Opened by the peer and not yet taken.
    incoming: usize,
    /// Further opens of the peer are refused.
    is_refusing: bool,
    is_ended: bool,
    budget: Budget,
    /// Bytes in all queues.
    queued: usize,
    adjusting: VecDeque<ChannelId>,
    fresh: VecDeque<ChannelId>,
    ready: VecDeque<ChannelId>,
    jumps: u8,
    /// Writers that wait until the session has room.
    blocked: VecDeque<ChannelId>,
    /// Number of the round trip that is being measured, and the channels that received in it.
    round: u64,
    sampled: Vec<ChannelId>,
    /// Answers and openings.
    pub(super) control: VecDeque<Packet>,
    pub(super) events: VecDeque<Event>,
}

impl Channels {
    fn slot(&mut self, id: ChannelId) -> Option<&mut Channel> {
        let index = usize::try_from(id.0).ok()?;
        self.slots.get_mut(index)?.as_mut()
    }

    /// A channel that the peer may speak of.
    fn known(&mut self, recipient: u32) -> Result<&mut Channel, Error> {
        match self.slot(ChannelId(recipient)) {
            Some(channel) if channel.state == State::Open && !channel.close_received => Ok(channel),
            _ => Err(Error::Protocol(format!(
                "a message for channel {recipient}, which is not open"
            ))),
        }
    }

    fn insert(&mut self, channel: Channel) -> Option<ChannelId> {
        if self.used >= MAX_CHANNELS {
            return None;
        }
        self.used = self.used.saturating_add(1);
        if let Some(index) = self.free.pop() {
            let id = ChannelId(index);
            *self.slots.get_mut(usize::try_from(index).ok()?)? = Some(channel);
            return Some(id);
        }
        let index = u32::try_from(self.slots.len()).ok()?;
        self.slots.push(Some(channel));
        Some(ChannelId(index))
    }

    fn remove(&mut self, id: ChannelId) {
        let slot = usize::try_from(id.0)
            .ok()
            .and_then(|index| self.slots.get_mut(index));
        let Some(mut channel) = slot.and_then(Option::take) else {
            return;
        };
        channel.receive.release(&mut self.budget);
        self.queued = self.queued.saturating_sub(channel.queued);
        self.used = self.used.saturating_sub(1);
        if channel.state == State::Incoming {
            self.incoming = self.incoming.saturating_sub(1);
        }
        self.free.push(id.0);
        // Whoever comes next under this number is not to be in a list for what this one had to do.
        for list in [
            &mut self.adjusting,
            &mut self.fresh,
            &mut self.ready,
            &mut self.blocked,
        ] {
            if channel.is_scheduled || channel.is_adjusting || channel.is_blocked {
                list.retain(|other| *other != id);
            }
        }
        self.sampled.retain(|other| *other != id);
    }

    fn remove_if_over(&mut self, id: ChannelId) {
        if self.slot(id).is_some_and(|channel| channel.is_over()) {
            self.remove(id);
        }
    }

    fn schedule(&mut self, id: ChannelId) {
        let Some(channel) = self.slot(id) else { return };
        if channel.is_ready() && !channel.is_scheduled {
            channel.is_scheduled = true;
            self.fresh.push_back(id);
        }
    }

    // What we do.

    /// Asks the peer for a `direct-tcpip` channel (RFC 4254 §7.2). `None` if there are too many.
    pub(super) fn open(&mut self, specific: &[u8]) -> Option<ChannelId> {
        let mut channel = Channel::new(State::Opening, 0, SendWindow::new(0, 0, 0));
        channel.is_held = true;
        let id = self.insert(channel)?;
        let open = Message::ChannelOpen {
            kind: DIRECT_TCPIP,
            sender: id.0,
            window: BASE,
            max_packet: MAX_DATA,
            specific,
        };
        self.control.push_back(open.packet());
        Some(id)
    }

    /// Takes a channel that the peer opened; false if it is no longer there.
    pub(super) fn accept(&mut self, id: ChannelId) -> bool {
        let Some(channel) = self.slot(id) else {
            return false;
        };
        if channel.state != State::Incoming {
            return false;
        }
        channel.state = State::Open;
        channel.is_held = true;
        let confirmation = Message::ChannelOpenConfirmation {
            recipient: channel.peer,
            sender: id.0,
            window: BASE,
            max_packet: MAX_DATA,
        };
        let packet = confirmation.packet();
        self.incoming = self.incoming.saturating_sub(1);
        self.control.push_back(packet);
        true
    }

    /// Refuses a channel that the peer opened.
    pub(super) fn refuse(&mut self, id: ChannelId) {
        let Some(channel) = self.slot(id) else { return };
        if channel.state == State::Incoming {
            let recipient = channel.peer;
            self.remove(id);
            self.decline(
                recipient,
                open_failure::ADMINISTRATIVELY_PROHIBITED,
                "not accepting channels",
            );
        }
    }

    /// Refuses all channels that the peer opens from now on.
    pub(super) fn stop_accepting(&mut self) {
        self.is_refusing = true;
    }

    fn decline(&mut self, recipient: u32, reason: u32, why: &str) {
        let failure = Message::ChannelOpenFailure {
            recipient,
            reason,
            description: why.as_bytes(),
        };
        self.control.push_back(failure.packet());
    }

    /// Room for at most `wanted` bytes, reserved until [`Self::submit`].
    pub(super) fn reserve(&mut self, id: ChannelId, wanted: usize) -> Room {
        let session = SESSION_QUEUE.saturating_sub(self.queued);
        let is_ended = self.is_ended;
        let Some(channel) = self.slot(id) else {
            return Room::Closed;
        };
        if is_ended || channel.is_write_closed() {
            return Room::Closed;
        }
        let own = CHANNEL_QUEUE.saturating_sub(channel.queued);
        let little = if channel.queued == 0 { LITTLE } else { 0 };
        let room = wanted.min(own).min(session.max(little));
        let length = channel.send.take(u32::try_from(room).unwrap_or(u32::MAX));
        let length = usize::try_from(length).unwrap_or(0);
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
    pub(super) fn submit(&mut self, id: ChannelId, packet: Packet) {
        let bytes = data_len(&packet);
        let is_ended = self.is_ended;
        let Some(channel) = self.slot(id) else {
            return;
        };
        if is_ended || channel.close != Progress::NotYet || channel.close_received {
            // It was closed meanwhile, or all were, and what it had reserved is free already.
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

    /// No more data will be written.
    pub(super) fn finish(&mut self, id: ChannelId) {
        if let Some(channel) = self.slot(id) {
            if channel.close == Progress::NotYet {
                channel.eof.want();
            }
            self.schedule(id);
        }
    }

    /// The channel is to be closed once what was written has been sent.
    pub(super) fn close(&mut self, id: ChannelId) {
        if let Some(channel) = self.slot(id)
            && channel.state == State::Open
        {
            channel.close.want();
            self.schedule(id);
        }
    }

    /// Nobody reads or writes the channel any more: it is closed once what was written has been sent.
    pub(super) fn release(&mut self, id: ChannelId) {
        let is_ended = self.is_ended;
        let Some(channel) = self.slot(id) else { return };
        channel.is_held = false;
        channel.received = VecDeque::new();
        let is_over = match channel.state {
            State::Refused => true,
            State::Opening | State::Incoming => is_ended,
            State::Open => {
                channel.close.want();
                is_ended || channel.is_over()
            }
        };
        if is_over {
            self.remove(id);
        } else {
            self.schedule(id);
        }
    }

    /// Moves all that has been received to the end of `into`.
    pub(super) fn take_received(&mut self, id: ChannelId, into: &mut VecDeque<Payload>) -> Reading {
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
        if channel.eof_received || channel.close_received {
            Reading::Ended
        } else if is_ended {
            Reading::Cut
        } else {
            Reading::Pending
        }
    }

    /// The reader has used so many bytes of what it took; true if that makes credit to give back.
    pub(super) fn read(&mut self, id: ChannelId, bytes: usize) -> bool {
        let Some(channel) = self.slot(id) else {
            return false;
        };
        channel.receive.read(bytes);
        self.adjust_later(id)
    }

    fn adjust_later(&mut self, id: ChannelId) -> bool {
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

    /// True once the peer has closed it, or the session has ended.
    pub(super) fn is_closed(&mut self, id: ChannelId) -> bool {
        let is_ended = self.is_ended;
        self.slot(id)
            .is_none_or(|channel| is_ended || channel.close_received)
    }

    /// The session has ended: nothing is sent or received any more.
    pub(super) fn end(&mut self) {
        self.is_ended = true;
        self.control.clear();
        self.adjusting.clear();
        self.fresh.clear();
        self.ready.clear();
        self.blocked.clear();
        let mut given_up = Vec::new();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if let (Some(channel), Ok(index)) = (slot, u32::try_from(index)) {
                channel.queue = VecDeque::new();
                self.queued = self.queued.saturating_sub(channel.queued);
                channel.queued = 0;
                if !channel.is_held {
                    given_up.push(ChannelId(index));
                }
            }
        }
        given_up.into_iter().for_each(|id| self.remove(id));
    }

    // What goes out.

    /// Credit to give back, then data, one packet at a time; `None` if there is nothing.
    pub(super) fn next_packet(&mut self) -> Option<Packet> {
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
            let id = self.next_in_turn()?;
            let Some(channel) = self.slot(id) else {
                continue;
            };
            channel.is_scheduled = false;
            let Some((packet, freed)) = channel.next_packet() else {
                continue;
            };
            if channel.is_ready() {
                channel.is_scheduled = true;
                self.ready.push_back(id);
            }
            self.queued = self.queued.saturating_sub(freed);
            self.tell_writers(id);
            self.remove_if_over(id);
            return Some(packet);
        }
    }

    fn next_in_turn(&mut self) -> Option<ChannelId> {
        if self.jumps < MAX_JUMPS || self.ready.is_empty() {
            if let Some(id) = self.fresh.pop_front() {
                self.jumps = self.jumps.saturating_add(1);
                return Some(id);
            }
        }
        self.jumps = 0;
        self.ready.pop_front()
    }

    /// A packet of channel `id` has gone: its writer may go on, and one that waits for the session's room.
    fn tell_writers(&mut self, id: ChannelId) {
        self.tell_writer(id);
        if self.queued < SESSION_QUEUE
            && let Some(other) = self.blocked.pop_front()
        {
            if let Some(channel) = self.slot(other) {
                channel.is_blocked = false;
            }
            self.tell_writer(other);
        }
    }

    fn tell_writer(&mut self, id: ChannelId) {
        if let Some(channel) = self.slot(id)
            && std::mem::take(&mut channel.is_writer_waiting)
        {
            self.events.push_back(Event::Writable(id));
        }
    }

    // What comes in.

    /// The peer asks for a channel.
    pub(super) fn handle_open(&mut self, kind: &[u8], sender: u32, window: u32, max_packet: u32) {
        use open_failure::{ADMINISTRATIVELY_PROHIBITED, RESOURCE_SHORTAGE, UNKNOWN_CHANNEL_TYPE};
        if kind != DIRECT_TCPIP {
            return self.decline(sender, UNKNOWN_CHANNEL_TYPE, "only direct-tcpip is known");
        }
        if self.is_refusing {
            return self.decline(
                sender,
                ADMINISTRATIVELY_PROHIBITED,
                "not accepting channels",
            );
        }
        if max_packet == 0 {
            return self.decline(
                sender,
                RESOURCE_SHORTAGE,
                "packets of no bytes carry nothing",
            );
        }
        let send = SendWindow::new(window, max_packet, MAX_DATA);
        let has_room = self.incoming < MAX_INCOMING;
        let channel = Channel::new(State::Incoming, sender, send);
        match has_room.then(|| self.insert(channel)).flatten() {
            Some(id) => {
                self.incoming = self.incoming.saturating_add(1);
                self.events.push_back(Event::Incoming(id));
            }
            None => self.decline(sender, RESOURCE_SHORTAGE, "too many channels"),
        }
    }

    /// A channel that we asked for, or that is gone.
    fn opening(&mut self, recipient: u32) -> Result<&mut Channel, Error> {
        match self.slot(ChannelId(recipient)) {
            Some(channel) if channel.state == State::Opening => Ok(channel),
            _ => Err(Error::Protocol(format!(
                "an answer for channel {recipient}, which nobody asked for"
            ))),
        }
    }

    /// The peer has opened a channel that we asked for.
    pub(super) fn handle_confirmation(
        &mut self,
        recipient: u32,
        sender: u32,
        window: u32,
        max_packet: u32,
    ) -> Result<(), Error> {
        let channel = self.opening(recipient)?;
        if max_packet == 0 {
            return Err(Error::Protocol(
                "the peer takes packets of no bytes only".to_owned(),
            ));
        }
        channel.state = State::Open;
        channel.peer = sender;
        channel.send = SendWindow::new(window, max_packet, MAX_DATA);
        let id = ChannelId(recipient);
        if channel.is_held {
            self.events.push_back(Event::Opened(id));
        } else {
            // Whoever asked for it has gone.
            channel.close.want();
            self.schedule(id);
        }
        Ok(())
    }

    /// The peer refuses a channel that we asked for.
    pub(super) fn handle_failure(
        &mut self,
        recipient: u32,
        reason: u32,
        description: &[u8],
    ) -> Result<(), Error> {
        let channel = self.opening(recipient)?;
        let id = ChannelId(recipient);
        if channel.is_held {
            // Its number is free once whoever asked for it has let go.
            channel.state = State::Refused;
            let said = printable(&String::from_utf8_lossy(description));
            let error = Error::ChannelRefused(format!("{said} (reason {reason})"));
            self.events.push_back(Event::Refused(id, error));
        } else {
            self.remove(id);
        }
        Ok(())
    }

    /// The peer grants credit.
    pub(super) fn handle_adjust(&mut self, recipient: u32, bytes: u32) -> Result<(), Error> {
        let channel = self.known(recipient)?;
        channel
            .send
            .adjust(bytes)
            .map_err(|_| Error::Protocol("a window beyond 2^32 - 1 bytes".to_owned()))?;
        if std::mem::take(&mut channel.is_writer_waiting) {
            self.events.push_back(Event::Writable(ChannelId(recipient)));
        }
        Ok(())
    }

    /// The peer sends data: the rest of the payload of a CHANNEL_DATA.
    pub(super) fn handle_data(&mut self, recipient: u32, data: Payload) -> Result<(), Error> {
        let round = self.round;
        let channel = self.known(recipient)?;
        receive(channel, data.len())?;
        if data.is_empty() || !channel.is_held || channel.close != Progress::NotYet {
            // Nobody will read it; what is not given back the peer cannot send.
            return Ok(());
        }
        let bytes = u64::try_from(data.len()).unwrap_or(u64::MAX);
        let is_first = channel.sample.0 != round;
        if is_first {
            channel.sample = (round, 0);
        }
        channel.sample.1 = channel.sample.1.saturating_add(bytes);
        let was_empty = channel.received.is_empty();
        match channel.received.back_mut() {
            Some(last)
                if data.len() < SMALL_DATA && last.len().saturating_add(data.len()) <= JOINED =>
            {
                last.append(&data);
            }
            _ => channel.received.push_back(data),
        }
        let id = ChannelId(recipient);
        if is_first {
            self.sampled.push(id);
        }
        if was_empty {
            self.events.push_back(Event::Readable(id));
        }
        Ok(())
    }

    /// The peer sends data of another kind, which nobody reads (RFC 4254 §5.2): the credit is given back.
    pub(super) fn handle_extended_data(
        &mut self,
        recipient: u32,
        bytes: usize,
    ) -> Result<(), Error> {
        let channel = self.known(recipient)?;
        receive(channel, bytes)?;
        channel.receive.read(bytes);
        self.adjust_later(ChannelId(recipient));
        Ok(())
    }

    /// The peer sends no more data.
    pub(super) fn handle_eof(&mut self, recipient: u32) -> Result<(), Error> {
        let channel = self.known(recipient)?;
        channel.eof_received = true;
        self.events.push_back(Event::Readable(ChannelId(recipient)));
        Ok(())
    }

    /// The peer closes the channel: so do we, and what is not sent yet it does not want (RFC 4254 §5.3).
    pub(super) fn handle_close(&mut self, recipient: u32) -> Result<(), Error> {
        let channel = self.known(recipient)?;
        channel.close_received = true;
        channel.queue = VecDeque::new();
        let freed = std::mem::take(&mut channel.queued);
        channel.close.want();
        if channel.eof == Progress::Wanted {
            channel.eof = Progress::Sent;
        }
        self.queued = self.queued.saturating_sub(freed);
        let id = ChannelId(recipient);
        self.schedule(id);
        self.events.push_back(Event::Closed(id));
        self.remove_if_over(id);
        Ok(())
    }

    /// The peer asks something of a channel: whatever it is, no.
    pub(super) fn handle_request(&mut self, recipient: u32, want_reply: bool) -> Result<(), Error> {
        let channel = self.known(recipient)?;
        // After our CLOSE nothing may be said of it (RFC 4254 §5.3).
        if want_reply && channel.close != Progress::Sent {
            let answer = Message::ChannelAnswer {
                recipient: channel.peer,
                success: false,
            };
            let packet = answer.packet();
            self.control.push_back(packet);
        }
        Ok(())
    }

    // Measuring.

    /// True if data came since the last round trip was measured.
    pub(super) fn is_receiving(&self) -> bool {
        !self.sampled.is_empty()
    }

    /// A round trip begins: what comes from now on counts.
    pub(super) fn begin_round(&mut self) {
        self.round = self.round.wrapping_add(1);
        self.sampled.clear();
    }

    /// The round trip is over and took `round_trip`; the fastest one took `fastest`.
    pub(super) fn end_round(&mut self, round_trip: Duration, fastest: Duration) {
        for id in std::mem::take(&mut self.sampled) {
            let index = usize::try_from(id.0).unwrap_or(usize::MAX);
            if let Some(Some(channel)) = self.slots.get_mut(index) {
                let bytes = channel.sample.1;
                channel
                    .receive
                    .grow(bytes, round_trip, fastest, &mut self.budget);
                self.adjust_later(id);
            }
        }
        self.round = self.round.wrapping_add(1);
    }

    /// Bytes of data that wait to be sent.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// True if some channel has something to send.
    pub(super) fn has_output(&self) -> bool {
        !self.control.is_empty()
            || !self.adjusting.is_empty()
            || !self.fresh.is_empty()
            || !self.ready.is_empty()
    }
}

const DIRECT_TCPIP: &[u8] = b"direct-tcpip";

fn receive(channel: &mut Channel, bytes: usize) -> Result<(), Error> {
    if channel.eof_received {
        return Err(Error::Protocol("data after their end".to_owned()));
    }
    channel
        .receive
        .receive(bytes)
        .map_err(|_| Error::Protocol("more data than the window allows".to_owned()))
}

/// A packet of CHANNEL_DATA with room for `data` bytes.
pub(in crate::ssh) fn data_packet(recipient: u32, data: usize) -> Packet {
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

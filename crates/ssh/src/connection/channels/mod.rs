//! All channels of a session: their numbers, how they begin and end (here), what goes out (`send`,
//! `schedule`), what comes in (`receive`), what readers take (`read`) and what idle channels give
//! back (`reclaim`), and the bounds on what all that holds. Pure.
//!
//! What goes out: answers first, then openings, then credit, then data, a packet from each channel
//! in turn.

#[cfg(any(test, feature = "testing"))]
mod invariants;
mod read;
mod receive;
mod reclaim;
mod schedule;
mod send;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod totals;

use std::collections::VecDeque;
use std::sync::Arc;

use super::channel::{Channel, ChannelId, Progress, State};
use super::window::{Budget, ReceiveWindow, SendWindow};
use crate::Error;
use crate::msg::{Message, open_failure};
use crate::net::buffers::Account;
use crate::packet::Packet;
use schedule::Schedule;

pub(crate) use read::Reading;
pub(super) use reclaim::NAME as RECLAIM;
pub(super) use send::LITTLE;
#[cfg(test)]
pub(super) use send::{CHANNEL_QUEUE, SESSION_QUEUE};
pub(crate) use send::{Room, data_packet};
#[cfg(test)]
pub(super) use totals::Totals;

/// Largest data of one packet, ours and the peer's, in bytes. All peers know 32 KiB (RFC 4253
/// §6.1).
const MAX_DATA: u32 = 32 * 1024;

/// Channels at once.
const MAX_CHANNELS: usize = 16 * 1024;

const DIRECT_TCPIP: &[u8] = b"direct-tcpip";

/// What happened, for anyone who drives the connection.
#[derive(Debug)]
pub(crate) enum Event {
    /// A client that is held knows whom it speaks with.
    Keyed,
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

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Channels {
    slots: Vec<Option<Channel>>,
    free: Vec<u32>,
    /// Opened by the peer and not yet taken.
    incoming: usize,
    /// Further opens of the peer are refused.
    is_refusing: bool,
    /// Nothing more is taken from writers.
    is_closing: bool,
    is_ended: bool,
    budget: Budget,
    /// Bytes in all queues.
    queued: usize,
    adjusting: VecDeque<ChannelId>,
    schedule: Schedule,
    /// Writers that wait until the session has room.
    blocked: VecDeque<ChannelId>,
    /// Number of the round trip that is being measured, and the channels that received in it.
    round: u64,
    sampled: Vec<ChannelId>,
    /// Bytes that were sent in it.
    sent: usize,
    /// The peer knows requests for credit (`reclaim`).
    can_reclaim: bool,
    /// Number of the last such request.
    reclaims: u64,
    /// Answers, which the peer makes us give.
    pub(super) control: VecDeque<Packet>,
    /// Requests for channels: as many as there are channels, at most.
    openings: VecDeque<Packet>,
    pub(super) events: VecDeque<Event>,
}

impl Channels {
    fn slot(&mut self, id: ChannelId) -> Option<&mut Channel> {
        let index = usize::try_from(id.0).ok()?;
        self.slots.get_mut(index)?.as_mut()
    }

    /// How many there are.
    fn used(&self) -> usize {
        self.slots.len().saturating_sub(self.free.len())
    }

    /// A new channel, whose window is taken from the session's account.
    fn insert(&mut self, state: State, peer: u32, send: SendWindow) -> Option<ChannelId> {
        if self.used() >= MAX_CHANNELS {
            return None;
        }
        let receive = ReceiveWindow::of(self.budget.begin());
        let channel = Channel::new(state, peer, send, receive);
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
        self.free_queued(channel.queued, channel.charged());
        if channel.state == State::Incoming {
            self.incoming = self.incoming.saturating_sub(1);
        }
        self.free.push(id.0);
        // The one who comes next under this number is not to be in a list for what this one had to
        // do.
        if channel.is_scheduled {
            self.schedule.forget(id);
        }
        for (list, is_in) in [
            (&mut self.adjusting, channel.is_adjusting),
            (&mut self.blocked, channel.is_blocked),
        ] {
            if is_in {
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

    /// Bytes have left the queues, so many of which the account was charged with.
    fn free_queued(&mut self, bytes: usize, charged: usize) {
        self.queued = self.queued.saturating_sub(bytes);
        self.budget.lease.give(charged);
    }

    /// From now on `account` bounds what the channels hold, unless another one does already.
    pub(super) fn charge_to(&mut self, account: Arc<Account>) {
        self.budget.lease.charge_to(account);
    }

    /// Bytes that wait for readers, to be sent, or are being written.
    pub(super) fn buffered(&self) -> usize {
        let unread = |channel: &Channel| usize::try_from(channel.receive.unread());
        let unread = self.slots.iter().flatten().filter_map(|c| unread(c).ok());
        unread.fold(self.queued, usize::saturating_add)
    }

    /// Asks the peer for a `direct-tcpip` channel (RFC 4254 §7.2). `None` if there are too many.
    pub(super) fn open(&mut self, specific: &[u8]) -> Option<ChannelId> {
        let id = self.insert(State::Opening, 0, SendWindow::new(0, 0, 0))?;
        let channel = self.slot(id)?;
        channel.is_held = true;
        let window = channel.receive.granted();
        let open = Message::ChannelOpen {
            kind: DIRECT_TCPIP,
            sender: id.0,
            window,
            max_packet: MAX_DATA,
            specific,
        };
        self.openings.push_back(open.packet());
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
            window: channel.receive.granted(),
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

    /// Takes nothing more from writers: a DISCONNECT behind what is queued would otherwise never be
    /// sent.
    pub(super) fn stop_writing(&mut self) {
        self.is_closing = true;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if let (Some(channel), Ok(index)) = (slot, u32::try_from(index))
                && std::mem::take(&mut channel.is_writer_waiting)
            {
                self.events.push_back(Event::Writable(ChannelId(index)));
            }
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

    /// No one reads or writes the channel any more: it is closed once what was written has been
    /// sent.
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
        self.openings.clear();
        self.adjusting.clear();
        self.schedule.clear();
        self.blocked.clear();
        let (mut given_up, mut freed, mut charged) = (Vec::new(), 0_usize, 0_usize);
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if let (Some(channel), Ok(index)) = (slot, u32::try_from(index)) {
                channel.queue = VecDeque::new();
                charged = charged.saturating_add(channel.charged());
                freed = freed.saturating_add(std::mem::take(&mut channel.queued));
                if !channel.is_held {
                    given_up.push(ChannelId(index));
                }
            }
        }
        self.free_queued(freed, charged);
        given_up.into_iter().for_each(|id| self.remove(id));
    }
}

//! One channel (RFC 4254 §5): what waits in it, and how it opens and ends. Pure.
//!
//! ```text
//!            open()                confirmation
//!   ─────────────────▶ Opening ──────────────────┐
//!                         │ failure: Refused,    ▼
//!                         │ until it is let go
//!            CHANNEL_OPEN                       Open ──▶ both CLOSEs and no one holds it: gone
//!   ─────────────────▶ Incoming ─────────────────▲
//!                         │ refuse(): gone   accept()
//!
//!   While it is open each direction ends by itself:
//!     we send:     data ──▶ EOF ──▶ CLOSE     (EOF when the writer has finished, CLOSE when the holder lets go,
//!     we receive:  data ──▶ EOF ──▶ CLOSE      or at once when the peer's CLOSE comes; each goes behind the data)
//! ```

use std::collections::VecDeque;

use super::channels::LITTLE;
use super::window::{ReceiveWindow, SendWindow};
use crate::msg::Message;
use crate::packet::{Packet, Payload};

/// Number of a channel on our side; used again when the channel is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ChannelId(pub u32);

/// How far it has been opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// We asked for it.
    Opening,
    /// The peer asked for it, and no one has taken it yet.
    Incoming,
    /// Both sides use it.
    Open,
    /// The peer refused it, and the one who asked does not know yet.
    Refused,
}

/// A channel.
#[derive(Debug)]
pub(super) struct Channel {
    pub state: State,
    /// Its number on the peer's side; of no meaning while it is opening.
    pub peer: u32,
    pub send: SendWindow,
    /// Data to be sent, in packets for which credit was taken.
    pub queue: VecDeque<Packet>,
    /// Bytes of data reserved or in the queue.
    pub queued: usize,
    pub receive: ReceiveWindow,
    pub received: VecDeque<Payload>,
    /// Someone reads and writes it.
    pub is_held: bool,
    /// A writer found no room and waits.
    pub is_writer_waiting: bool,
    /// In one of the lists of channels that have something to send.
    pub is_scheduled: bool,
    /// In the list of channels that give credit back.
    pub is_adjusting: bool,
    /// In the list of writers that wait for the session's room.
    pub is_blocked: bool,
    pub eof: Progress,
    pub close: Progress,
    pub eof_received: bool,
    pub close_received: bool,
    /// The last round trip in which data came, and how many bytes.
    pub sample: Option<(u64, u64)>,
    /// The request by which credit is being asked back, and how much.
    pub reclaim: Option<(u64, u32)>,
}

/// Of a message that goes behind the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// No one asked for it.
    NotYet,
    /// To be sent when the data have gone.
    Requested,
    /// It has gone.
    Sent,
}

impl Progress {
    /// Asks for it, once.
    pub(super) fn want(&mut self) {
        if *self == Self::NotYet {
            *self = Self::Requested;
        }
    }
}

impl Channel {
    pub(super) fn new(state: State, peer: u32, send: SendWindow, receive: ReceiveWindow) -> Self {
        Self {
            state,
            peer,
            send,
            queue: VecDeque::new(),
            queued: 0,
            receive,
            received: VecDeque::new(),
            is_held: false,
            is_writer_waiting: false,
            is_scheduled: false,
            is_adjusting: false,
            is_blocked: false,
            eof: Progress::NotYet,
            close: Progress::NotYet,
            eof_received: false,
            close_received: false,
            sample: None,
            reclaim: None,
        }
    }

    /// Bytes of data in the queue beyond those that every channel may queue.
    pub(super) fn charged(&self) -> usize {
        self.queued.saturating_sub(LITTLE)
    }

    /// True if it has a packet to send now.
    pub(super) fn is_ready(&self) -> bool {
        self.state == State::Open
            && (!self.queue.is_empty()
                || (self.queued == 0
                    && (self.eof == Progress::Requested || self.close == Progress::Requested)))
    }

    /// The next packet, and how many bytes of data it frees.
    pub(super) fn next_packet(&mut self) -> Option<(Packet, usize)> {
        if let Some(packet) = self.queue.pop_front() {
            let bytes = data_len(&packet);
            self.queued = self.queued.saturating_sub(bytes);
            return Some((packet, bytes));
        }
        if !self.is_ready() {
            return None;
        }
        let recipient = self.peer;
        let message = if self.eof == Progress::Requested {
            self.eof = Progress::Sent;
            Message::ChannelEof { recipient }
        } else {
            self.close = Progress::Sent;
            Message::ChannelClose { recipient }
        };
        Some((message.packet(), 0))
    }

    /// True if nothing may be written any more.
    pub(super) fn is_write_closed(&self) -> bool {
        self.eof != Progress::NotYet || self.close != Progress::NotYet || self.close_received
    }

    /// True if neither side will mention it again.
    pub(super) fn is_over(&self) -> bool {
        self.close == Progress::Sent && self.close_received && !self.is_held
    }
}

/// Bytes of data in a packet of CHANNEL_DATA.
pub(super) fn data_len(packet: &Packet) -> usize {
    packet
        .payload()
        .len()
        .saturating_sub(crate::msg::DATA_HEADER)
}

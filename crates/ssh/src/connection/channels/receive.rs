//! What the peer says of channels, whether it may, and what becomes of it.

use std::collections::VecDeque;

use super::{
    Channel, ChannelId, Channels, DIRECT_TCPIP, Event, MAX_DATA, Progress, SendWindow, State,
};
use crate::Error;
use crate::msg::{Message, open_failure};
use crate::packet::Payload;
use infisical_runtime::error::printable;

/// Channels that the peer has opened and no one has taken; beyond it opens are refused.
pub(super) const MAX_INCOMING: usize = 256;

/// A peer that takes smaller packets only gets no channel: each packet that waits to be sent takes
/// memory and time that its few bytes do not account for. All peers take far larger ones.
const MIN_DATA: u32 = 256;
/// Received data are joined up to here, in bytes: each packet by itself takes memory that its few
/// bytes do not account for.
pub(super) const SMALL_READ: usize = 4 * 1024;

impl Channels {
    /// A channel that the peer may speak of.
    fn known(&mut self, recipient: u32) -> Result<&mut Channel, Error> {
        match self.slot(ChannelId(recipient)) {
            Some(channel) if channel.state == State::Open && !channel.close_received => Ok(channel),
            _ => Err(Error::Protocol(format!(
                "a message for channel {recipient}, which is not open"
            ))),
        }
    }

    /// A channel that we asked for, or that is gone.
    fn opening(&mut self, recipient: u32) -> Result<&mut Channel, Error> {
        match self.slot(ChannelId(recipient)) {
            Some(channel) if channel.state == State::Opening => Ok(channel),
            _ => Err(Error::Protocol(format!(
                "an answer for channel {recipient}, which no one asked for"
            ))),
        }
    }

    /// The peer asks for a channel.
    pub(in crate::connection) fn handle_open(
        &mut self,
        kind: &[u8],
        sender: u32,
        window: u32,
        max_packet: u32,
    ) {
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
        if max_packet < MIN_DATA {
            return self.decline(sender, RESOURCE_SHORTAGE, "packets are too small");
        }
        let send = SendWindow::new(window, max_packet, MAX_DATA);
        let has_room = self.incoming < MAX_INCOMING;
        let inserted = has_room.then(|| self.insert(State::Incoming, sender, send));
        match inserted.flatten() {
            Some(id) => {
                self.incoming = self.incoming.saturating_add(1);
                self.events.push_back(Event::Incoming(id));
            }
            None => self.decline(sender, RESOURCE_SHORTAGE, "too many channels"),
        }
    }

    /// The peer has opened a channel that we asked for.
    pub(in crate::connection) fn handle_confirmation(
        &mut self,
        recipient: u32,
        sender: u32,
        window: u32,
        max_packet: u32,
    ) -> Result<(), Error> {
        let channel = self.opening(recipient)?;
        if max_packet < MIN_DATA {
            return Err(Error::Protocol(format!(
                "the peer takes packets of {max_packet} bytes only"
            )));
        }
        channel.state = State::Open;
        channel.peer = sender;
        channel.send = SendWindow::new(window, max_packet, MAX_DATA);
        let id = ChannelId(recipient);
        if channel.is_held {
            self.events.push_back(Event::Opened(id));
        } else {
            // The one who asked for it has gone.
            channel.close.want();
            self.schedule(id);
        }
        Ok(())
    }

    /// The peer refuses a channel that we asked for.
    pub(in crate::connection) fn handle_failure(
        &mut self,
        recipient: u32,
        reason: u32,
        description: &[u8],
    ) -> Result<(), Error> {
        let channel = self.opening(recipient)?;
        let id = ChannelId(recipient);
        if channel.is_held {
            // Its number is free once the one who asked for it has let go.
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
    pub(in crate::connection) fn handle_adjust(
        &mut self,
        recipient: u32,
        bytes: u32,
    ) -> Result<(), Error> {
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
    pub(in crate::connection) fn handle_data(
        &mut self,
        recipient: u32,
        data: Payload,
    ) -> Result<(), Error> {
        let round = self.round;
        let channel = self.known(recipient)?;
        receive(channel, data.len())?;
        if data.is_empty() || !channel.is_held || channel.close != Progress::NotYet {
            // No one will read it; what is not given back the peer cannot send.
            return Ok(());
        }
        let bytes = u64::try_from(data.len()).unwrap_or(u64::MAX);
        let before = channel
            .sample
            .and_then(|(of, bytes)| (of == round).then_some(bytes));
        channel.sample = Some((round, before.unwrap_or(0).saturating_add(bytes)));
        let was_empty = channel.received.is_empty();
        let last = channel.received.back_mut();
        if !last.is_some_and(|last| last.join(&data, SMALL_READ)) {
            channel.received.push_back(data);
        }
        let id = ChannelId(recipient);
        if before.is_none() {
            self.sampled.push(id);
        }
        if was_empty {
            self.events.push_back(Event::Readable(id));
        }
        Ok(())
    }

    /// The peer sends data of another kind, which no one reads (RFC 4254 §5.2): the credit is given
    /// back.
    pub(in crate::connection) fn handle_extended_data(
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
    pub(in crate::connection) fn handle_eof(&mut self, recipient: u32) -> Result<(), Error> {
        let channel = self.known(recipient)?;
        channel.eof_received = true;
        self.events.push_back(Event::Readable(ChannelId(recipient)));
        Ok(())
    }

    /// The peer closes the channel: so do we, and what is not sent yet it does not want (RFC 4254
    /// §5.3).
    pub(in crate::connection) fn handle_close(&mut self, recipient: u32) -> Result<(), Error> {
        let channel = self.known(recipient)?;
        channel.close_received = true;
        channel.queue = VecDeque::new();
        let charged = channel.charged();
        let freed = std::mem::take(&mut channel.queued);
        channel.close.want();
        if channel.eof == Progress::Requested {
            channel.eof = Progress::Sent;
        }
        self.free_queued(freed, charged);
        let id = ChannelId(recipient);
        self.schedule(id);
        self.events.push_back(Event::Closed(id));
        self.remove_if_over(id);
        Ok(())
    }

    /// The peer asks something of a channel: whatever it is, no.
    pub(in crate::connection) fn handle_request(
        &mut self,
        recipient: u32,
        want_reply: bool,
    ) -> Result<(), Error> {
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
}

fn receive(channel: &mut Channel, bytes: usize) -> Result<(), Error> {
    if channel.eof_received {
        return Err(Error::Protocol("data after their end".to_owned()));
    }
    channel
        .receive
        .receive(bytes)
        .map_err(|_| Error::Protocol("more data than the window allows".to_owned()))
}

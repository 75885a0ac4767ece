//! One SSH connection without any input or output (RFC 4251–4254): opened packets and times go in
//! (`handle_*`), packets to be sealed, events and the next time come out (`poll_*`). Client and
//! server are the same but for the handshake. Pure.
//!
//! The one who opens packets and the one who seals them work outside, beside each other (`input`,
//! `output`); what they share is only this, and for a moment. All that it holds is bounded:
//!
//! - before authentication: two proposals of
//!   [`MAX_PACKET_LENGTH`](super::packet::MAX_PACKET_LENGTH) bytes, a buffer of 64 KiB to read
//!   into, what the cryptography needs, and [`MAX_EARLY_CONTROL`] answers: below 200 KiB;
//! - afterwards: see `channels` for what channels hold; [`MAX_CONTROL`] answers.

mod channel;
mod channels;
mod disconnect;
mod liveness;
mod round_trip;
mod window;

#[cfg(any(test, feature = "testing"))]
mod invariants;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::auth;
use super::cert::{HostPolicy, UserPolicy};
use super::keys::CertifiedKey;
use super::msg::{self, Message};
use super::packet::{Packet, Payload};
use super::transport::{Algorithms, Change, Handled, Outgoing, Side, Transport, version};
use super::wire::{Reader, Write as _};
use super::{DisconnectReason, Error, Keepalive, RekeyLimits};
use crate::clock::Clock;
use crate::net::buffers::Account;
use channels::Channels;
use infisical_runtime::error::printable;
use liveness::{Liveness, Purpose, Silence};

pub(super) use channel::ChannelId;
pub(super) use channels::{Event, Reading, Room, data_packet};

/// Answers that may wait to be sent. A peer that asks without reading the answers is cut off.
const MAX_CONTROL: usize = 8192;
/// The same before the peer is authenticated.
const MAX_EARLY_CONTROL: usize = 64;
/// How many of them stop the reading of further requests.
const MANY_CONTROL: usize = 1024;
/// Packets in one batch, and about how many bytes: what is not sealed yet can still go first.
const BATCH_PACKETS: usize = 128;
const BATCH_BYTES: usize = 128 * 1024;

const KEEPALIVE: &[u8] = b"keepalive@openssh.com";

/// What both roles need to know.
#[derive(Debug, Clone)]
pub(super) struct Options {
    pub algorithms: Algorithms,
    pub keepalive: Keepalive,
    pub rekey: RekeyLimits,
    /// The time of day, by which certificates are judged.
    pub clock: Clock,
}

enum Authentication {
    Client(Box<auth::Client>),
    Server(Box<auth::Server>),
}

/// See the module.
pub(super) struct Connection {
    transport: Transport,
    authentication: Authentication,
    /// A client that knows whom it speaks with waits to be told to go on.
    is_held: bool,
    is_authenticated: bool,
    /// Of the layers above the transport, before authentication.
    early: VecDeque<Packet>,
    channels: Channels,
    liveness: Liveness,
    /// Requests of ours that are still to be sent.
    questions: VecDeque<Packet>,
    pings: u64,
    ending: Ending,
}

/// How far its end has come.
enum Ending {
    No,
    /// After what is queued, this disconnect message.
    Requested(Packet),
    /// At once, with what the transport still has.
    Failing,
    /// Nothing more is sent.
    Done,
}

impl Connection {
    /// A client's side.
    pub(super) fn client(
        user: String,
        identity: CertifiedKey,
        host: HostPolicy,
        options: Options,
        now: Instant,
    ) -> Result<Self, Error> {
        let authentication = Authentication::Client(Box::new(auth::Client::new(user, identity)));
        Self::new(Side::Client(host), authentication, options, now)
    }

    /// A server's side.
    pub(super) fn server(
        identity: CertifiedKey,
        users: UserPolicy,
        options: Options,
        now: Instant,
    ) -> Result<Self, Error> {
        let authentication =
            Authentication::Server(Box::new(auth::Server::new(users, options.clock.clone())));
        Self::new(Side::Server(identity), authentication, options, now)
    }

    fn new(
        side: Side,
        authentication: Authentication,
        options: Options,
        now: Instant,
    ) -> Result<Self, Error> {
        let Options {
            algorithms,
            keepalive,
            rekey,
            clock,
        } = options;
        Ok(Self {
            transport: Transport::new(side, algorithms, rekey, clock, now)?,
            authentication,
            is_held: false,
            is_authenticated: false,
            early: VecDeque::new(),
            channels: Channels::default(),
            liveness: Liveness::new(keepalive, now),
            questions: VecDeque::new(),
            pings: 0,
            ending: Ending::No,
        })
    }

    /// A client that knows whom it speaks with waits for [`Self::proceed`] before it proves itself.
    pub(super) fn hold(&mut self) {
        self.is_held = true;
    }

    /// A client that was held proves itself now.
    pub(super) fn proceed(&mut self) {
        let was_held = std::mem::take(&mut self.is_held);
        if was_held
            && self.transport.is_keyed()
            && let Authentication::Client(client) = &mut self.authentication
        {
            client.begin(&mut self.early);
        }
    }

    /// True if the peer may say something before it identifies itself: a server may.
    pub(super) fn is_client(&self) -> bool {
        matches!(self.authentication, Authentication::Client(_))
    }

    /// True once each side is sure of the other.
    pub(super) fn is_authenticated(&self) -> bool {
        self.is_authenticated
    }

    /// Whom the peer's certificate names, once a client is authenticated.
    pub(super) fn subject(&self) -> Option<&str> {
        match &self.authentication {
            Authentication::Client(_) => None,
            Authentication::Server(server) => server.subject(),
        }
    }

    /// From now on `account` bounds what the channels hold, unless another one does already.
    pub(super) fn charge_to(&mut self, account: Arc<Account>) {
        self.channels.charge_to(account);
    }

    /// Bytes that the channels hold for their readers and for the peer.
    pub(super) fn buffered(&self) -> usize {
        self.channels.buffered()
    }

    /// Why a client was refused, if it was; `Some(None)` if it tried and nothing is known against
    /// it.
    pub(super) fn take_refusal(&mut self) -> Option<Option<super::cert::Error>> {
        match &mut self.authentication {
            Authentication::Server(server) if server.was_tried() => Some(server.take_reason()),
            _ => None,
        }
    }

    // In.

    /// The peer's identification, without its line end.
    ///
    /// # Errors
    /// There is no randomness for a proposal.
    pub(super) fn handle_version(&mut self, version: String, now: Instant) -> Result<(), Error> {
        self.liveness.heard(now);
        if version.starts_with(version::OURS) {
            self.channels.allow_reclaims();
        }
        self.transport.handle_version(version, now)
    }

    /// An opened packet, and its sequence number. New keys for the packets after it, if it brought
    /// some.
    ///
    /// # Errors
    /// The peer broke the protocol, or disconnected. The connection is over; [`Self::fail`] says so
    /// to the peer.
    pub(super) fn handle_packet(
        &mut self,
        mut payload: Payload,
        sequence: u32,
        now: Instant,
    ) -> Result<Option<Change>, Error> {
        self.liveness.heard(now);
        self.transport.count_received(payload.len());
        if self.transport.passes_over(&payload) {
            return Ok(None);
        }
        if payload.first() == Some(&msg::CHANNEL_DATA)
            && self.is_authenticated
            && self.transport.is_open_to_data()
        {
            let mut reader = Reader::new(&payload);
            reader.u8().map_err(malformed)?;
            let recipient = reader.u32().map_err(malformed)?;
            reader.string().map_err(malformed)?;
            reader.finish().map_err(malformed)?;
            payload.advance(msg::DATA_HEADER);
            // Before the data, so that a burst is counted from its first packet on.
            self.measure(now);
            self.channels.handle_data(recipient, payload)?;
        } else {
            let message = Message::parse(&payload).map_err(malformed)?;
            self.handle_message(message, &payload, sequence, now)?;
        }
        self.transport.rekey_if_due(now)?;
        let most = if self.is_authenticated {
            MAX_CONTROL
        } else {
            MAX_EARLY_CONTROL
        };
        if self.channels.control.len() > most {
            return Err(Error::Protocol(
                "the peer asks without reading the answers".to_owned(),
            ));
        }
        Ok(self.transport.take_opening())
    }

    fn handle_message(
        &mut self,
        message: Message<'_>,
        payload: &[u8],
        sequence: u32,
        now: Instant,
    ) -> Result<(), Error> {
        match self.transport.handle(message, payload, sequence, now)? {
            Handled::Consumed => {
                if self.transport.is_keyed()
                    && let Authentication::Client(client) = &mut self.authentication
                {
                    if self.is_held {
                        self.channels.events.push_back(Event::Keyed);
                    } else {
                        client.begin(&mut self.early);
                    }
                }
                Ok(())
            }
            Handled::Unknown => {
                // RFC 4253 §11.4.
                let answer = Message::Unimplemented { sequence };
                self.channels.control.push_back(answer.packet());
                Ok(())
            }
            Handled::Above(Message::Disconnect {
                reason,
                description,
            }) => {
                let mut description = printable(&String::from_utf8_lossy(description));
                if description.is_empty() {
                    description = format!("reason {reason}");
                }
                let reason = DisconnectReason(reason);
                Err(Error::Disconnected {
                    reason,
                    description,
                })
            }
            Handled::Above(message) if self.is_authenticated => {
                self.handle_connection(&message, now)
            }
            Handled::Above(message) => self.handle_authentication(&message, now),
        }
    }

    fn handle_authentication(&mut self, message: &Message<'_>, now: Instant) -> Result<(), Error> {
        let session_id = self.transport.session_id();
        let is_done = match &mut self.authentication {
            Authentication::Client(client) => {
                client.handle(message, session_id, &mut self.early)?
            }
            Authentication::Server(server) => {
                server.handle(message, session_id, now, &mut self.early)?
            }
        };
        if is_done {
            self.is_authenticated = true;
            self.transport.set_authenticated();
            self.channels.events.push_back(Event::Authenticated);
            self.measure(now);
        }
        Ok(())
    }

    /// RFC 4254.
    fn handle_connection(&mut self, message: &Message<'_>, now: Instant) -> Result<(), Error> {
        match *message {
            Message::GlobalRequest {
                name,
                want_reply: true,
                specific,
            } => self.handle_request(name, specific),
            Message::RequestSuccess { specific } => self.handle_answer(Some(specific), now)?,
            Message::RequestFailure => self.handle_answer(None, now)?,
            Message::ChannelOpen {
                kind,
                sender,
                window,
                max_packet,
                specific: _,
            } => self.channels.handle_open(kind, sender, window, max_packet),
            Message::ChannelOpenConfirmation {
                recipient,
                sender,
                window,
                max_packet,
            } => self
                .channels
                .handle_confirmation(recipient, sender, window, max_packet)?,
            Message::ChannelOpenFailure {
                recipient,
                reason,
                description,
            } => self
                .channels
                .handle_failure(recipient, reason, description)?,
            Message::ChannelWindowAdjust { recipient, bytes } => {
                self.channels.handle_adjust(recipient, bytes)?;
            }
            Message::ChannelExtendedData { recipient, data } => {
                self.channels.handle_extended_data(recipient, data.len())?;
            }
            Message::ChannelEof { recipient } => self.channels.handle_eof(recipient)?,
            Message::ChannelClose { recipient } => self.channels.handle_close(recipient)?,
            Message::ChannelRequest {
                recipient,
                want_reply,
            } => self.channels.handle_request(recipient, want_reply)?,
            // Further requests after success are to be ignored (RFC 4252 §5.1); an EXT_INFO may
            // come at any time. Nothing that a peer may want can be done without an answer.
            Message::UserauthRequest { .. }
            | Message::ExtInfo { .. }
            | Message::GlobalRequest { .. } => {}
            Message::ChannelAnswer { .. }
            | Message::ChannelData { .. }
            | Message::Disconnect { .. }
            | Message::Ignore
            | Message::Unimplemented { .. }
            | Message::ServiceRequest { .. }
            | Message::ServiceAccept { .. }
            | Message::KexInit(_)
            | Message::NewKeys
            | Message::KexExchangeInit { .. }
            | Message::KexExchangeReply { .. }
            | Message::UserauthFailure { .. }
            | Message::UserauthSuccess
            | Message::UserauthBanner
            | Message::UserauthPkOk { .. }
            | Message::Unknown => {
                return Err(Error::Protocol("a message out of place".to_owned()));
            }
        }
        Ok(())
    }

    /// A global request that wants an answer.
    fn handle_request(&mut self, name: &[u8], specific: &[u8]) {
        let answer = if name == KEEPALIVE {
            Some(Message::RequestSuccess { specific: b"" }.packet())
        } else if name == channels::RECLAIM {
            self.channels.give_up_credit(specific)
        } else {
            None
        };
        let answer = answer.unwrap_or_else(|| Message::RequestFailure.packet());
        self.channels.control.push_back(answer);
    }

    /// An answer to the oldest of our global requests; `None` if it is refused.
    fn handle_answer(&mut self, success: Option<&[u8]>, now: Instant) -> Result<(), Error> {
        // An answer that no one waits for is ignored, as OpenSSH does.
        let Some(answer) = self.liveness.answered(self.channels.received(), now) else {
            return Ok(());
        };
        match (answer.purpose, success) {
            (Purpose::Ping(number), _) => self.channels.events.push_back(Event::Answered(number)),
            (Purpose::Measure, _) => {
                self.channels.end_round(answer.round_trip, answer.path);
                self.reclaim_idle(now);
            }
            (Purpose::Keepalive, _) => {}
            (Purpose::Reclaim(channel, number), Some(given)) => {
                self.channels.handle_reclaimed(channel, number, given)?;
            }
            (Purpose::Reclaim(..), None) => self.channels.forbid_reclaims(),
        }
        Ok(())
    }

    /// Asks the peer for credit back that idle channels have, if others could use it.
    fn reclaim_idle(&mut self, now: Instant) {
        for reclaim in self.channels.reclaim_idle() {
            let purpose = Purpose::Reclaim(reclaim.channel, reclaim.number);
            if self.liveness.ask(purpose, now) {
                self.questions.push_back(reclaim.packet);
            } else {
                self.channels.cancel_reclaim(reclaim.channel);
            }
        }
    }

    /// What the path alone takes, there and back; `None` before that was measured.
    pub(super) fn path(&self) -> Option<Duration> {
        self.liveness.path()
    }

    /// Measures a round trip while data come; and once before, when no queue is on the path yet
    /// that would be taken for a part of it.
    fn measure(&mut self, now: Instant) {
        if self.transport.may_send() && self.liveness.may_measure(now) {
            self.channels.begin_round();
            self.liveness.measure(now);
            self.questions.push_back(keepalive());
        }
    }

    /// The time has come that [`Self::poll_timeout`] named.
    ///
    /// # Errors
    /// The peer is dead, or too slow with an exchange of keys.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        self.transport.handle_timeout(now)?;
        if let Authentication::Server(server) = &mut self.authentication {
            server.handle_timeout(now, &mut self.early);
        }
        match self.liveness.handle_timeout(now) {
            Silence::Tolerable => {}
            Silence::Ask => {
                if self.is_authenticated && self.liveness.ask(Purpose::Keepalive, now) {
                    self.questions.push_back(keepalive());
                }
            }
            Silence::Dead => return Err(Error::KeepaliveTimedOut),
        }
        Ok(())
    }

    // Out.

    /// When [`Self::handle_timeout`] wants to be called next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let refusal = match &self.authentication {
            Authentication::Server(server) => server.poll_timeout(),
            Authentication::Client(_) => None,
        };
        [
            self.transport.poll_timeout(),
            self.liveness.poll_timeout(),
            refusal,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What happened.
    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.channels.events.pop_front()
    }

    /// Appends a batch of what is to be written now: the key exchange first and alone, then
    /// requests and answers, then credit and data.
    pub(super) fn poll_transmit(&mut self, batch: &mut Vec<Outgoing>, now: Instant) {
        let mut bytes = 0_usize;
        let begin = batch.len();
        while bytes < BATCH_BYTES && batch.len().saturating_sub(begin) < BATCH_PACKETS {
            let Some(outgoing) = self.next_outgoing(now) else {
                return;
            };
            if let Outgoing::Packet(packet) = &outgoing {
                let length = packet.payload().len();
                bytes = bytes.saturating_add(length);
                self.transport.count_sent(length);
            }
            batch.push(outgoing);
        }
    }

    fn next_outgoing(&mut self, now: Instant) -> Option<Outgoing> {
        if matches!(self.ending, Ending::Done) {
            return None;
        }
        if !matches!(self.ending, Ending::Failing) {
            // A failure is not worth an error here: it comes back with the next packet or timeout.
            let _ = self.transport.rekey_if_due(now);
        }
        if let Some(outgoing) = self.transport.poll_transmit() {
            return Some(outgoing);
        }
        if matches!(self.ending, Ending::Failing) {
            self.ending = Ending::Done;
            return None;
        }
        if !self.transport.may_send() {
            return None;
        }
        let packet = self
            .early
            .pop_front()
            .or_else(|| self.questions.pop_front())
            .or_else(|| self.channels.control.pop_front())
            .or_else(|| self.channels.next_packet());
        if let Some(packet) = packet {
            return Some(Outgoing::Packet(packet));
        }
        if self.channels.queued() > 0 {
            // Some writer is about to hand in what it has reserved.
            return None;
        }
        match std::mem::replace(&mut self.ending, Ending::Done) {
            Ending::Requested(message) => Some(Outgoing::Packet(message)),
            other => {
                self.ending = other;
                None
            }
        }
    }

    /// True if [`Self::poll_transmit`] has given its last.
    pub(super) fn is_finished(&self) -> bool {
        matches!(self.ending, Ending::Done)
    }

    /// False while the peer is not heard: it does not read our answers, or has to wait for one.
    pub(super) fn is_listening(&self) -> bool {
        let is_refused = match &self.authentication {
            Authentication::Server(server) => server.poll_timeout().is_some(),
            Authentication::Client(_) => false,
        };
        !is_refused && (self.channels.control.len() < MANY_CONTROL || !self.transport.may_send())
    }

    /// True if [`Self::poll_transmit`] has something to give.
    pub(super) fn has_output(&self) -> bool {
        self.transport.has_output()
            || (self.transport.may_send()
                && (!self.early.is_empty()
                    || !self.questions.is_empty()
                    || self.channels.has_output()))
            || matches!(self.ending, Ending::Requested(_) | Ending::Failing)
    }

    // What we do.

    /// Ends the connection with a DISCONNECT behind all that is queued.
    pub(super) fn disconnect(&mut self, reason: DisconnectReason, why: &str) {
        self.channels.stop_accepting();
        self.channels.stop_writing();
        if matches!(self.ending, Ending::No) {
            self.ending = Ending::Requested(disconnect::packet(reason, why));
        }
    }

    /// Ends the connection because of an error; the peer is notified, unless the error is its own
    /// DISCONNECT or the connection's.
    pub(super) fn fail(&mut self, error: &Error) {
        self.channels.end();
        self.early.clear();
        self.questions.clear();
        if matches!(self.ending, Ending::Done) {
            return;
        }
        self.ending = match disconnect::because_of(error) {
            Some(message) => {
                self.transport.say(message);
                Ending::Failing
            }
            None => Ending::Done,
        };
    }

    /// Asks for a `direct-tcpip` channel with its four fields (RFC 4254 §7.2).
    ///
    /// # Errors
    /// There are too many channels.
    pub(super) fn open(
        &mut self,
        target: (&str, u16),
        originator: (&str, u16),
    ) -> Result<ChannelId, Error> {
        if !matches!(self.ending, Ending::No) {
            return Err(Error::Closed);
        }
        let mut specific = Vec::new();
        for (host, port) in [target, originator] {
            specific.put_string(host);
            specific.put_u32(u32::from(port));
        }
        self.channels
            .open(&specific)
            .ok_or_else(|| Error::ChannelRefused("too many channels are open".to_owned()))
    }

    /// Asks for a sign of life: [`Event::Answered`] with this number. `None` if too many are asked
    /// for, which is a sign of its own.
    pub(super) fn ping(&mut self, now: Instant) -> Option<u64> {
        self.pings = self.pings.wrapping_add(1);
        let purpose = Purpose::Ping(self.pings);
        if !matches!(self.ending, Ending::No) || !self.liveness.ask(purpose, now) {
            return None;
        }
        self.questions.push_back(keepalive());
        Some(self.pings)
    }

    /// CPU time of the key exchanges that the peer began and has not earned.
    pub(super) fn rekeys_cost(&mut self, now: Instant) -> Duration {
        self.transport.unearned_rekeys(now)
    }

    /// The channels.
    pub(super) fn accept(&mut self, id: ChannelId) -> bool {
        self.channels.accept(id)
    }

    pub(super) fn refuse(&mut self, id: ChannelId) {
        self.channels.refuse(id);
    }

    pub(super) fn stop_accepting(&mut self) {
        self.channels.stop_accepting();
    }

    pub(super) fn reserve(&mut self, id: ChannelId, wanted: usize) -> Room {
        self.channels.reserve(id, wanted)
    }

    pub(super) fn submit(&mut self, id: ChannelId, packet: Packet) {
        self.channels.submit(id, packet);
    }

    pub(super) fn finish(&mut self, id: ChannelId) {
        self.channels.finish(id);
    }

    pub(super) fn close(&mut self, id: ChannelId) {
        self.channels.close(id);
    }

    pub(super) fn release(&mut self, id: ChannelId) {
        self.channels.release(id);
    }

    pub(super) fn take_received(&mut self, id: ChannelId, into: &mut VecDeque<Payload>) -> Reading {
        self.channels.take_received(id, into)
    }

    pub(super) fn read(&mut self, id: ChannelId, bytes: usize) -> bool {
        self.channels.read(id, bytes)
    }

    pub(super) fn is_closed(&mut self, id: ChannelId) -> bool {
        self.channels.is_closed(id)
    }
}

/// The request that is keepalive, ping and measurement.
fn keepalive() -> Packet {
    let request = Message::GlobalRequest {
        name: KEEPALIVE,
        want_reply: true,
        specific: b"",
    };
    request.packet()
}

fn malformed(_: super::wire::Malformed) -> Error {
    Error::Protocol("a malformed message".to_owned())
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("transport", &self.transport)
            .field("is_authenticated", &self.is_authenticated)
            .finish_non_exhaustive()
    }
}

//! Credit that idle channels do not use is asked back, so that it can go to channels that do. Pure.
//!
//! SSH knows no way to take credit back (RFC 4254 §5.2), so a channel that has had a bulk transfer
//! and rests, as those of connection pools do, would keep its large window, and its part of the
//! session's budget, for as long as it lives. Among ourselves there is a global request for it (RFC
//! 4254 §4, a name of the form that RFC 4250 §4.6.1 leaves to implementers):
//!
//! ```text
//! byte      SSH_MSG_GLOBAL_REQUEST          byte      SSH_MSG_REQUEST_SUCCESS
//! string    "reclaim-window@infisical.com"  uint32    bytes of credit given back, 0 if there is none
//! boolean   TRUE
//! uint32    recipient channel
//! uint32    bytes of credit wanted
//! ```
//!
//! Who is asked takes the credit away before the answer goes, and what had been sent before arrives
//! before the answer, so both sides always agree. Only a peer with our identification is asked:
//! others would refuse, and that costs them a round trip for nothing.

use super::{Channel, ChannelId, Channels, State};
use crate::Error;
use crate::connection::window::Overflow;
use crate::msg::Message;
use crate::packet::Packet;
use crate::wire::{Reader, Write as _};

/// The request's name.
pub(in crate::connection) const NAME: &[u8] = b"reclaim-window@infisical.com";
/// A channel without data for so many rounds is idle; a measured round trip is two, for it begins
/// one and ends it.
const IDLE_ROUNDS: u64 = 8;
/// Channels that are asked at once.
const MAX_AT_ONCE: usize = 16;

/// Credit that is to be asked back.
#[derive(Debug)]
pub(in crate::connection) struct Reclaim {
    pub channel: ChannelId,
    pub number: u64,
    pub packet: Packet,
}

impl Channels {
    /// The peer knows the request.
    pub(in crate::connection) fn allow_reclaims(&mut self) {
        self.can_reclaim = true;
    }

    /// The peer refused one, so it does not know it.
    pub(in crate::connection) fn forbid_reclaims(&mut self) {
        self.can_reclaim = false;
    }

    /// If a window could not grow, those of idle channels get small: what is to be asked of the
    /// peer.
    pub(in crate::connection) fn reclaim_idle(&mut self) -> Vec<Reclaim> {
        let mut reclaims = Vec::new();
        if !self.budget.take_shortage() || !self.can_reclaim {
            return reclaims;
        }
        for (slot, index) in self.slots.iter_mut().zip(0_u32..) {
            let Some(channel) = slot else { continue };
            let last = channel.sample.map_or(0, |(round, _)| round);
            if self.round.wrapping_sub(last) >= IDLE_ROUNDS
                && let Some(reclaim) = reclaim(channel, ChannelId(index), &mut self.reclaims)
            {
                reclaims.push(reclaim);
                if reclaims.len() >= MAX_AT_ONCE {
                    break;
                }
            }
        }
        reclaims
    }

    /// The request for this channel cannot be made.
    pub(in crate::connection) fn cancel_reclaim(&mut self, id: ChannelId) {
        if let Some(channel) = self.slot(id) {
            channel.reclaim = None;
        }
    }

    /// The peer's answer to request `number`, which was made for this channel; the channel may be
    /// gone.
    pub(in crate::connection) fn handle_reclaimed(
        &mut self,
        id: ChannelId,
        number: u64,
        answer: &[u8],
    ) -> Result<(), Error> {
        let index = usize::try_from(id.0).unwrap_or(usize::MAX);
        let Some(Some(channel)) = self.slots.get_mut(index) else {
            return Ok(());
        };
        let Some((_, asked)) = channel.reclaim.take_if(|(of, _)| *of == number) else {
            return Ok(());
        };
        let given = parse_answer(answer).filter(|given| *given <= asked);
        given
            .ok_or(Overflow)
            .and_then(|given| channel.receive.reclaimed(given, &mut self.budget))
            .map_err(|_| Error::Protocol("more credit given back than there was".to_owned()))?;
        self.adjust_later(id);
        Ok(())
    }

    /// The peer asks for credit back: the answer, `None` if the request cannot be read. A channel
    /// that is gone has none.
    pub(in crate::connection) fn give_up_credit(&mut self, request: &[u8]) -> Option<Packet> {
        let mut reader = Reader::new(request);
        let (recipient, wanted) = (reader.u32().ok()?, reader.u32().ok()?);
        reader.finish().ok()?;
        let given = match self.slot(ChannelId(recipient)) {
            Some(channel) if channel.state == State::Open => channel.send.give_back(wanted),
            _ => 0,
        };
        let specific = &given.to_be_bytes();
        Some(Message::RequestSuccess { specific }.packet())
    }
}

/// Makes the window of a channel small; the next number is for the request, if there is one to
/// make.
fn reclaim(channel: &mut Channel, id: ChannelId, last_number: &mut u64) -> Option<Reclaim> {
    let is_open = channel.state == State::Open && !channel.close_received;
    if !is_open || channel.reclaim.is_some() {
        return None;
    }
    let bytes = channel.receive.reclaim();
    if bytes == 0 {
        return None;
    }
    *last_number = last_number.wrapping_add(1);
    channel.reclaim = Some((*last_number, bytes));
    Some(Reclaim {
        channel: id,
        number: *last_number,
        packet: request(channel.peer, bytes),
    })
}

fn request(recipient: u32, bytes: u32) -> Packet {
    let mut specific = Vec::new();
    specific.put_u32(recipient);
    specific.put_u32(bytes);
    let message = Message::GlobalRequest {
        name: NAME,
        want_reply: true,
        specific: &specific,
    };
    message.packet()
}

fn parse_answer(answer: &[u8]) -> Option<u32> {
    let mut reader = Reader::new(answer);
    let given = reader.u32().ok()?;
    reader.finish().ok()?;
    Some(given)
}

#[cfg(test)]
impl Channels {
    pub(in crate::connection) fn can_reclaim(&self) -> bool {
        self.can_reclaim
    }

    /// The window of a channel has grown by so many bytes, all of it granted: how much that is.
    pub(in crate::connection) fn enlarge(&mut self, id: ChannelId, bytes: u32) -> u32 {
        use crate::connection::window::BASE;
        let index = usize::try_from(id.0).expect("fits");
        let channel = self.slots[index].as_mut().expect("a channel");
        let mut grown = 0;
        while grown < bytes {
            let wanted = u64::from(BASE + bytes);
            channel.receive.grow(wanted, wanted, &mut self.budget);
            grown += channel.receive.adjust(&mut self.budget);
        }
        grown
    }

    /// Asks for the credit of this channel back, be it idle or not.
    pub(in crate::connection) fn ask_back(&mut self, id: ChannelId) -> Reclaim {
        let index = usize::try_from(id.0).expect("fits");
        let channel = self.slots[index].as_mut().expect("a channel");
        reclaim(channel, id, &mut self.reclaims).expect("it has some")
    }
}

//! Incoming packets.

use std::fmt;
use std::ops::Deref;

use super::{
    Error, LENGTH, MAX_PACKET_LENGTH, MIN_PACKET_LENGTH, MIN_PADDING, Tally, aligned, pool,
};
use crate::cipher::{Keys, Layout, Opening, Plaintext, Suite};

/// One connection's incoming direction: its cipher, its sequence number, and what came since the
/// last keys.
pub(crate) struct Opener {
    cipher: Opening,
    layout: Layout,
    tally: Tally,
    /// `packet_length` of the packet whose rest has not come yet, found acceptable.
    length: Option<u32>,
}

/// What [`Opener::open`] found.
#[derive(Debug)]
pub(crate) enum Opened {
    /// So many bytes, counted from the start of the input, must be there before the next call gets
    /// further.
    Needs(usize),
    Packet {
        /// Bytes of the input that it took.
        consumed: usize,
        payload: Payload,
    },
}

impl Opener {
    /// Before the first keys: no cipher.
    pub(crate) fn new() -> Self {
        Self {
            cipher: Opening::Plain,
            layout: Layout::PLAIN,
            tally: Tally::default(),
            length: None,
        }
    }

    /// From the next packet on. `reset_sequence` is for strict key exchange.
    pub(crate) fn set_keys(
        &mut self,
        suite: Suite,
        keys: &Keys,
        reset_sequence: bool,
    ) -> Result<(), Error> {
        self.cipher = Opening::new(suite, keys)?;
        self.layout = suite.layout();
        self.tally.restart(reset_sequence);
        self.length = None;
        Ok(())
    }

    /// Opens the packet that `input` begins with. The length of an unfinished packet is remembered:
    /// the next call's input must begin with the same packet.
    pub(crate) fn open(&mut self, input: &[u8]) -> Result<Opened, Error> {
        let sequence = self.tally.sequence;
        let length = match self.length {
            Some(length) => length,
            None => {
                let Some(head) = input.get(..self.layout.head) else {
                    return Ok(Opened::Needs(self.layout.head));
                };
                self.tally.check()?;
                let length = self.cipher.length(sequence, head)?;
                check(self.layout, length)?;
                *self.length.insert(length)
            }
        };
        let length = usize::try_from(length).map_err(|_| Error::LengthOutOfRange(length))?;
        let whole = LENGTH + length + self.layout.tag;
        let Some(packet) = input.get(..whole) else {
            return Ok(Opened::Needs(whole));
        };
        self.length = None;
        let payload = strip(self.cipher.open(sequence, packet)?)?;
        self.tally.add();
        Ok(Opened::Packet {
            consumed: whole,
            payload,
        })
    }

    /// The next packet's number.
    pub(crate) fn sequence(&self) -> u32 {
        self.tally.sequence
    }

    #[cfg(test)]
    pub(super) fn packets_since_keys(&self) -> u64 {
        self.tally.packets
    }

    #[cfg(test)]
    pub(super) fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}

/// RFC 4253 §6 asks for packets of 16 bytes at least; but OpenSSH and Go send shorter ones with
/// `chacha20-poly1305@openssh.com`, so the block alone decides.
fn check(layout: Layout, length: u32) -> Result<(), Error> {
    if !(MIN_PACKET_LENGTH..=MAX_PACKET_LENGTH).contains(&length) {
        return Err(Error::LengthOutOfRange(length));
    }
    let in_bytes = usize::try_from(length).map_err(|_| Error::LengthOutOfRange(length))?;
    aligned(layout, in_bytes)
        .is_multiple_of(layout.block)
        .then_some(())
        .ok_or(Error::Alignment(length))
}

/// Takes off the lengths and the padding.
fn strip(plaintext: Plaintext) -> Result<Payload, Error> {
    let Plaintext { mut bytes, start } = plaintext;
    let padding_length = *bytes.get(start).ok_or(Error::Library)?;
    let padding = usize::from(padding_length);
    let start = start + 1;
    let end = bytes
        .len()
        .checked_sub(padding)
        .filter(|end| padding >= MIN_PADDING && *end >= start)
        .ok_or(Error::Padding(padding_length))?;
    if end == start {
        return Err(Error::Empty);
    }
    bytes.truncate(end);
    Ok(Payload { bytes, start })
}

/// A payload in a buffer of its own, of about its size.
pub(crate) struct Payload {
    bytes: Vec<u8>,
    start: usize,
}

impl Payload {
    /// Takes bytes off the front.
    pub(crate) fn advance(&mut self, length: usize) {
        self.start = self.start.saturating_add(length).min(self.bytes.len());
    }

    /// Appends the bytes of another one if both together are not more than `most`; true if so.
    pub(crate) fn join(&mut self, other: &Self, most: usize) -> bool {
        let fits = self.len().saturating_add(other.len()) <= most;
        if fits {
            self.bytes.extend_from_slice(other);
        }
        fits
    }

    #[cfg(test)]
    /// What it takes of the host's memory, whatever is left of it.
    pub(crate) fn memory(&self) -> usize {
        self.bytes.capacity()
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        pool::give(std::mem::take(&mut self.bytes));
    }
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }
}

/// Without its content, which may be anyone's secret.
impl fmt::Debug for Payload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Payload({} bytes)", self.len())
    }
}

//! Bytes of the connection into the identification and opened packets. Pure.

use super::packet::{Opened, Opener, Payload};
use super::transport::Change;
use super::transport::version::{self, Parsed};
use super::{Error, packet};

/// Buffer of a connection on which little happens, in bytes.
const SMALL: usize = 8 * 1024;
/// Buffer that holds any packet, and the largest one for a peer that is not known yet.
const MEDIUM: usize = 64 * 1024;
/// Buffer of a busy one.
const LARGE: usize = 256 * 1024;
/// So many reads in a row that a small buffer would have held make the buffer small.
const QUIET_READS: u32 = 32;

/// What came.
pub(super) enum Incoming {
    /// The peer's identification.
    Version(String),
    /// A packet, and its sequence number.
    Packet { payload: Payload, sequence: u32 },
}

/// See the module.
pub(super) struct Input {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    opener: Opener,
    is_identified: bool,
    may_have_preamble: bool,
    /// The buffer must be able to hold so many bytes for the next packet.
    needs: usize,
    quiet: u32,
    is_trusted: bool,
}

impl Input {
    /// A server may say something before it identifies itself.
    pub(super) fn new(may_have_preamble: bool) -> Self {
        Self {
            buffer: vec![0; SMALL],
            start: 0,
            end: 0,
            opener: Opener::new(),
            is_identified: false,
            may_have_preamble,
            needs: 0,
            quiet: 0,
            is_trusted: false,
        }
    }

    /// The peer is authenticated, so it may have a large buffer.
    pub(super) fn trust(&mut self) {
        self.is_trusted = true;
    }

    /// Where the next bytes go; never empty.
    pub(super) fn space(&mut self) -> &mut [u8] {
        let held = self.end.saturating_sub(self.start);
        if held == 0 {
            (self.start, self.end) = (0, 0);
            if self.quiet >= QUIET_READS && self.buffer.len() > SMALL {
                self.buffer = vec![0; SMALL];
                self.quiet = 0;
            }
        }
        let needed = self.needs.max(held.saturating_add(1));
        if needed > self.buffer.len() {
            self.buffer.resize(needed.max(MEDIUM), 0);
        }
        if self.start > 0 && self.start.saturating_add(needed) > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, held);
        }
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// So many bytes were put there.
    pub(super) fn filled(&mut self, bytes: usize) {
        let is_full = self.end.saturating_add(bytes) >= self.buffer.len();
        self.end = self.end.saturating_add(bytes).min(self.buffer.len());
        if bytes <= SMALL / 2 {
            self.quiet = self.quiet.saturating_add(1);
        } else {
            self.quiet = 0;
        }
        // There was more than we had room for.
        let most = if self.is_trusted { LARGE } else { MEDIUM };
        if is_full && self.buffer.len() < most {
            let larger = self.buffer.len().saturating_mul(4).min(most);
            self.buffer.resize(larger, 0);
        }
    }

    /// The next thing that is complete.
    ///
    /// # Errors
    /// The peer does not speak SSH, or a packet is not what was sealed.
    pub(super) fn next(&mut self) -> Result<Option<Incoming>, Error> {
        let input = self.buffer.get(self.start..self.end).unwrap_or_default();
        if !self.is_identified {
            return match version::parse(input, self.may_have_preamble)? {
                Parsed::Incomplete => Ok(None),
                Parsed::Identified { version, consumed } => {
                    self.is_identified = true;
                    self.start = self.start.saturating_add(consumed);
                    Ok(Some(Incoming::Version(version)))
                }
            };
        }
        if input.is_empty() {
            self.needs = 0;
            return Ok(None);
        }
        let sequence = self.opener.sequence();
        match self.opener.open(input).map_err(unreadable)? {
            Opened::Needs(bytes) => {
                self.needs = bytes;
                Ok(None)
            }
            Opened::Packet { consumed, payload } => {
                self.needs = 0;
                self.start = self.start.saturating_add(consumed);
                Ok(Some(Incoming::Packet { payload, sequence }))
            }
        }
    }

    /// Packets after the last one are opened with these keys.
    ///
    /// # Errors
    /// The cryptography does not take them.
    pub(super) fn set_keys(&mut self, change: &Change) -> Result<(), Error> {
        self.opener
            .set_keys(change.suite, &change.keys, change.reset_sequence)
            .map_err(unreadable)
    }
}

fn unreadable(error: packet::Error) -> Error {
    Error::Protocol(error.to_string())
}

//! Packets (RFC 4253 §6): where one begins and ends on the wire, its padding, and its sequence
//! number.
//!
//! ```text
//! packet_length: 4 | padding_length: 1 | payload | padding: 4..=255 | tag
//! ```
//!
//! A [`Packet`] is written once and sealed where it is; a [`Payload`] is decrypted into a buffer of
//! its own. Nothing else is copied. Pure: bytes come and go by the driver. The cryptography is
//! [`super::cipher`]'s.

mod open;
pub(crate) mod pool;
mod seal;

use std::fmt;

use super::cipher::{self, LENGTH, Layout, MAX_BLOCK, MAX_TAG};
use super::wire;
pub(super) use open::{Opened, Opener, Payload};
pub(super) use seal::Sealer;

/// The longest `packet_length` that is sent or accepted (RFC 4253 §6.1). We never announce more
/// than 32 KiB of channel data, and no other message comes near.
pub(super) const MAX_PACKET_LENGTH: u32 = 35_000;
/// The shortest: `padding_length`, and padding. An empty payload has an error of its own.
const MIN_PACKET_LENGTH: u32 = 5;
/// RFC 4253 §6.
const MIN_PADDING: usize = 4;
/// `packet_length` and `padding_length`.
const HEADER: usize = LENGTH + 1;
/// No packet under a key after so many: a nonce of `chacha20-poly1305@openssh.com` would return.
/// The engine exchanges keys long before.
const MAX_PACKETS: u64 = 1 << 32;

/// Why a packet was not sealed or opened. The direction is of no use after any of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("a packet length of {0}")]
    LengthOutOfRange(u32),
    #[error("a packet length of {0}, which is not in whole blocks")]
    Alignment(u32),
    #[error("a padding length of {0}")]
    Padding(u8),
    #[error("a packet without a message")]
    Empty,
    #[error("a packet whose authentication code is wrong")]
    Mac,
    #[error("too many packets under one key")]
    KeyExhausted,
    #[error("keys that do not fit their cipher")]
    Keys,
    #[error("the cryptographic library failed")]
    Library,
}

impl From<cipher::Error> for Error {
    fn from(error: cipher::Error) -> Self {
        match error {
            cipher::Error::Keys => Self::Keys,
            cipher::Error::Forged => Self::Mac,
            cipher::Error::Library => Self::Library,
        }
    }
}

/// A packet being written: the header's place in front, then the payload, which [`wire::Write`]
/// appends to. Sealing adds padding and tag behind, and encrypts it where it is.
pub(super) struct Packet {
    bytes: Vec<u8>,
}

impl Packet {
    /// All that sealing adds: header, the most of our padding, tag.
    const OVERHEAD: usize = HEADER + (MIN_PADDING + MAX_BLOCK - 1) + MAX_TAG;
    /// Fits most messages.
    const SMALL: usize = 128;

    pub(super) fn new(message: u8) -> Self {
        Self::with_capacity(message, Self::SMALL)
    }

    /// With room for a payload of so many bytes, `message` included, and all that sealing adds: up
    /// to there nothing moves.
    pub(super) fn with_capacity(message: u8, payload: usize) -> Self {
        let mut bytes = pool::take(payload.saturating_add(Self::OVERHEAD));
        bytes.extend_from_slice(&[0; HEADER]);
        bytes.push(message);
        Self { bytes }
    }

    #[cfg(any(test, feature = "testing"))]
    pub(super) fn from_payload(payload: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(payload.len().saturating_add(Self::OVERHEAD));
        bytes.extend_from_slice(&[0; HEADER]);
        bytes.extend_from_slice(payload);
        Self { bytes }
    }

    /// What was written so far. Not to be asked after sealing.
    pub(super) fn payload(&self) -> &[u8] {
        self.bytes.get(HEADER..).unwrap_or_default()
    }

    /// What was written so far, to be corrected. Not to be asked after sealing.
    pub(super) fn payload_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(HEADER..).unwrap_or_default()
    }

    /// What it takes of the host's memory.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    #[cfg(any(test, feature = "testing"))]
    /// What goes out, after sealing.
    pub(super) fn wire(&self) -> &[u8] {
        &self.bytes
    }

    /// What goes out, after sealing, without a copy.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Packet({} bytes)", self.bytes.len())
    }
}

impl wire::Write for Packet {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
}

/// What one direction counts.
#[derive(Debug, Default)]
struct Tally {
    /// Of the next packet; it wraps (RFC 4253 §6.4).
    sequence: u32,
    /// Since the last keys.
    packets: u64,
}

impl Tally {
    /// Whether the key is good for another packet.
    fn check(&self) -> Result<(), Error> {
        (self.packets < MAX_PACKETS)
            .then_some(())
            .ok_or(Error::KeyExhausted)
    }

    /// One packet more.
    fn add(&mut self) {
        self.sequence = self.sequence.wrapping_add(1);
        self.packets += 1;
    }

    /// New keys. Only strict key exchange restarts the sequence (OpenSSH's PROTOCOL §1.10).
    fn restart(&mut self, reset_sequence: bool) {
        *self = Self {
            sequence: if reset_sequence { 0 } else { self.sequence },
            ..Self::default()
        };
    }
}

/// What of a packet must be in whole blocks, for a `packet_length`.
fn aligned(layout: Layout, packet_length: usize) -> usize {
    if layout.length_apart {
        packet_length
    } else {
        packet_length.saturating_add(LENGTH)
    }
}

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod throughput;
#[cfg(test)]
mod vector_tests;

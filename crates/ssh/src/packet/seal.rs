//! Outgoing packets.

use aws_lc_rs::rand;

use super::{Error, HEADER, MAX_PACKET_LENGTH, MIN_PADDING, Packet, Tally, aligned};
use crate::cipher::{Keys, Layout, MAX_BLOCK, Sealing, Suite};

/// One connection's outgoing direction: its cipher, its sequence number, and what was sent since
/// the last keys.
pub(crate) struct Sealer {
    cipher: Sealing,
    layout: Layout,
    tally: Tally,
    noise: Noise,
}

impl Sealer {
    /// Before the first keys: no cipher.
    pub(crate) fn new() -> Self {
        Self {
            cipher: Sealing::Plain,
            layout: Layout::PLAIN,
            tally: Tally::default(),
            noise: Noise::default(),
        }
    }

    /// From the next packet on. `reset_sequence` is for strict key exchange.
    pub(crate) fn set_keys(
        &mut self,
        suite: Suite,
        keys: &Keys,
        reset_sequence: bool,
    ) -> Result<(), Error> {
        self.cipher = Sealing::new(suite, keys)?;
        self.layout = suite.layout();
        self.tally.restart(reset_sequence);
        Ok(())
    }

    /// Makes the packet what goes out. To be called once per packet, in the order of sending.
    pub(crate) fn seal(&mut self, packet: &mut Packet) -> Result<(), Error> {
        self.tally.check()?;
        let payload = packet.payload().len();
        if payload == 0 {
            return Err(Error::Empty);
        }
        let block = self.layout.block;
        let over = aligned(self.layout, 1 + payload) % block;
        let fill = block - over;
        let padding = if fill < MIN_PADDING {
            fill + block
        } else {
            fill
        };
        let packet_length = u32::try_from(1 + payload + padding).unwrap_or(u32::MAX);
        if packet_length > MAX_PACKET_LENGTH {
            return Err(Error::LengthOutOfRange(packet_length));
        }
        let padding_length = u8::try_from(padding).map_err(|_| Error::Library)?;
        let [a, b, c, d] = packet_length.to_be_bytes();
        let header = [a, b, c, d, padding_length];
        let place = packet.bytes.first_chunk_mut::<HEADER>();
        *place.ok_or(Error::Library)? = header;
        if self.cipher.wants_random_padding() {
            let noise = self.noise.take(padding)?;
            packet.bytes.extend_from_slice(noise);
        } else {
            packet.bytes.resize(packet.bytes.len() + padding, 0);
        }
        self.cipher.seal(self.tally.sequence, &mut packet.bytes)?;
        self.tally.add();
        Ok(())
    }

    /// The next packet's number.
    #[cfg(test)]
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

/// Random bytes, each for one use, fetched many at a time: a call per packet would be felt.
struct Noise {
    bytes: [u8; Self::SIZE],
    used: usize,
}

impl Noise {
    const SIZE: usize = 1024;

    fn take(&mut self, length: usize) -> Result<&[u8], Error> {
        debug_assert!(length < MIN_PADDING + MAX_BLOCK);
        if self.used + length > Self::SIZE {
            rand::fill(&mut self.bytes).map_err(|_| Error::Library)?;
            self.used = 0;
        }
        let start = self.used;
        self.used += length;
        self.bytes.get(start..self.used).ok_or(Error::Library)
    }
}

impl Default for Noise {
    fn default() -> Self {
        Self {
            bytes: [0; Self::SIZE],
            used: Self::SIZE,
        }
    }
}

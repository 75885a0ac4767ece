//! `chacha20-poly1305@openssh.com` (OpenSSH's PROTOCOL.chacha20poly1305): the sequence number is
//! the nonce, the length is encrypted with a key of its own, and the tag is over the ciphertext of
//! both.

use aws_lc_rs::aead::chacha20_poly1305_openssh::{KEY_LEN, OpeningKey, SealingKey, TAG_LEN};

use super::{Error, Keys, LENGTH, Plaintext};
use crate::packet::pool;

/// The sending side.
pub(crate) struct Sealing {
    key: SealingKey,
}

impl Sealing {
    pub(super) fn new(keys: &Keys) -> Result<Self, Error> {
        let key = SealingKey::new(key(keys)?);
        Ok(Self { key })
    }

    pub(super) fn seal(&self, sequence: u32, packet: &mut Vec<u8>) -> Result<(), Error> {
        if packet.len() < LENGTH {
            // The library would panic.
            return Err(Error::Library);
        }
        let mut tag = [0; TAG_LEN];
        self.key.seal_in_place(sequence, packet, &mut tag);
        packet.extend_from_slice(&tag);
        Ok(())
    }
}

/// The receiving side.
pub(crate) struct Opening {
    key: OpeningKey,
}

impl Opening {
    pub(super) fn new(keys: &Keys) -> Result<Self, Error> {
        let key = OpeningKey::new(key(keys)?);
        Ok(Self { key })
    }

    pub(super) fn length(&self, sequence: u32, head: &[u8]) -> Result<u32, Error> {
        let encrypted = head.first_chunk().ok_or(Error::Library)?;
        let length = self.key.decrypt_packet_length(sequence, *encrypted);
        Ok(u32::from_be_bytes(length))
    }

    /// The library decrypts in place only, so the ciphertext is copied to where its plaintext is
    /// wanted.
    pub(super) fn open(&self, sequence: u32, packet: &[u8]) -> Result<Plaintext, Error> {
        let (ciphertext, tag) = packet.split_last_chunk::<TAG_LEN>().ok_or(Error::Library)?;
        if ciphertext.len() < LENGTH {
            // The library would panic.
            return Err(Error::Library);
        }
        let mut bytes = pool::take(ciphertext.len());
        bytes.extend_from_slice(ciphertext);
        self.key
            .open_in_place(sequence, &mut bytes, tag)
            .map_err(|_| Error::Forged)?;
        Ok(Plaintext {
            bytes,
            start: LENGTH,
        })
    }
}

fn key(keys: &Keys) -> Result<&[u8; KEY_LEN], Error> {
    keys.key.as_slice().try_into().map_err(|_| Error::Keys)
}

//! `aes128-ctr`, `aes192-ctr` and `aes256-ctr` (RFC 4344 §4) with a MAC. One keystream runs through
//! all packets.
//!
//! Without encrypt-then-MAC even the length is encrypted, and the MAC, which is over the plaintext,
//! is found right or wrong only when the whole packet is here. So a length is believed before it is
//! authenticated, as RFC 4253 §6 has it. What a peer sees of a length that we refuse is that we
//! hang up at once. With CBC that is an oracle (a block of another packet can be put where the
//! length is expected), and OpenSSH reads on for a while before it hangs up, for CBC only. In
//! counter mode a block that is moved meets another part of the keystream and becomes noise, so the
//! oracle tells of nothing but that packet's length, which everyone on the way sees anyhow; OpenSSH
//! hangs up at once, too.

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, EncryptionContext, StreamingEncryptingKey, UnboundCipherKey,
};

use super::mac::Keyed;
use super::{Cipher, Error, Keys, LENGTH, MAX_BLOCK, Mac, Plaintext, plain_length};
use crate::packet::pool;

/// The library writes to another buffer only, so a packet that is encrypted in place passes through
/// a small one, which the first-level cache holds.
const PIECE: usize = 4096;

/// One direction. Encrypting and decrypting are the same in counter mode.
pub(crate) struct Ctr {
    keystream: StreamingEncryptingKey,
    mac: Keyed,
    tag: usize,
    is_etm: bool,
    /// The first block of the packet that is being received, decrypted when its length was asked
    /// for: the keystream has moved on. Not used with encrypt-then-MAC.
    first: [u8; MAX_BLOCK],
}

impl Ctr {
    pub(super) fn new(cipher: Cipher, mac: Mac, keys: &Keys) -> Result<Self, Error> {
        let algorithm = match cipher {
            Cipher::Aes128Ctr => &AES_128,
            Cipher::Aes192Ctr => &AES_192,
            Cipher::Aes256Ctr => &AES_256,
            Cipher::Aes128Gcm | Cipher::Aes256Gcm | Cipher::ChaCha20Poly1305 => {
                return Err(Error::Keys);
            }
        };
        let key = UnboundCipherKey::new(algorithm, &keys.key).map_err(|_| Error::Keys)?;
        let iv: &[u8; 16] = keys.iv.as_slice().try_into().map_err(|_| Error::Keys)?;
        let context = EncryptionContext::Iv128(iv.into());
        Ok(Self {
            keystream: StreamingEncryptingKey::less_safe_ctr(key, context)?,
            mac: Keyed::new(mac, &keys.mac_key),
            tag: mac.tag_length(),
            is_etm: mac.is_etm(),
            first: [0; MAX_BLOCK],
        })
    }

    pub(super) fn seal(&mut self, sequence: u32, packet: &mut Vec<u8>) -> Result<(), Error> {
        let tag = if self.is_etm {
            let (_, rest) = packet.split_at_mut_checked(LENGTH).ok_or(Error::Library)?;
            apply_in_place(&mut self.keystream, rest)?;
            self.mac.sign(sequence, packet)
        } else {
            let tag = self.mac.sign(sequence, packet);
            apply_in_place(&mut self.keystream, packet)?;
            tag
        };
        packet.extend_from_slice(tag.as_ref());
        Ok(())
    }

    pub(super) fn length(&mut self, head: &[u8]) -> Result<u32, Error> {
        if self.is_etm {
            return plain_length(head);
        }
        let head: &[u8; MAX_BLOCK] = head.first_chunk().ok_or(Error::Library)?;
        apply(&mut self.keystream, head, &mut self.first)?;
        plain_length(&self.first)
    }

    pub(super) fn open(&mut self, sequence: u32, packet: &[u8]) -> Result<Plaintext, Error> {
        let end = packet.len().checked_sub(self.tag).ok_or(Error::Library)?;
        let (packet, tag) = packet.split_at_checked(end).ok_or(Error::Library)?;
        if self.is_etm {
            self.mac.verify(sequence, packet, tag)?;
            let (_, ciphertext) = packet.split_at_checked(LENGTH).ok_or(Error::Library)?;
            let mut bytes = pool::take_for_overwriting(ciphertext.len());
            apply(&mut self.keystream, ciphertext, &mut bytes)?;
            return Ok(Plaintext { bytes, start: 0 });
        }
        let (_, ciphertext) = packet.split_at_checked(MAX_BLOCK).ok_or(Error::Library)?;
        let mut bytes = pool::take_for_overwriting(packet.len());
        let (first, rest) = bytes
            .split_at_mut_checked(MAX_BLOCK)
            .ok_or(Error::Library)?;
        first.copy_from_slice(&self.first);
        apply(&mut self.keystream, ciphertext, rest)?;
        self.mac.verify(sequence, &bytes, tag)?;
        Ok(Plaintext {
            bytes,
            start: LENGTH,
        })
    }
}

/// Both must be of one length, in whole blocks: then the library asks for no more room than it
/// writes.
fn apply(keys: &mut StreamingEncryptingKey, from: &[u8], to: &mut [u8]) -> Result<(), Error> {
    let update = keys.less_safe_update(from, to)?;
    let is_whole = update.remainder().is_empty();
    is_whole.then_some(()).ok_or(Error::Library)
}

fn apply_in_place(keys: &mut StreamingEncryptingKey, bytes: &mut [u8]) -> Result<(), Error> {
    let mut room = [0; PIECE];
    for piece in bytes.chunks_mut(PIECE) {
        let written = room.get_mut(..piece.len()).ok_or(Error::Library)?;
        apply(keys, piece, written)?;
        piece.copy_from_slice(written);
    }
    Ok(())
}

//! `aes128-gcm@openssh.com` and `aes256-gcm@openssh.com`: RFC 5647, without its rules of
//! negotiation.
//!
//! `packet_length` stays readable and is authenticated as additional data; the rest is encrypted.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, Nonce, UnboundKey};

use crate::packet::pool;

use super::{Cipher, Error, Keys, LENGTH, Plaintext};

/// One direction.
pub(crate) struct Gcm {
    key: LessSafeKey,
    /// The fixed field of the nonce (RFC 5647 §7.1).
    fixed: [u8; 4],
    /// The invocation counter: one step per packet. It never comes round: packets per key are
    /// limited far below.
    counter: u64,
}

impl Gcm {
    pub(super) fn new(cipher: Cipher, keys: &Keys) -> Result<Self, Error> {
        let algorithm = match cipher {
            Cipher::Aes128Gcm => &AES_128_GCM,
            Cipher::Aes256Gcm => &AES_256_GCM,
            Cipher::ChaCha20Poly1305
            | Cipher::Aes128Ctr
            | Cipher::Aes192Ctr
            | Cipher::Aes256Ctr => return Err(Error::Keys),
        };
        let key = UnboundKey::new(algorithm, &keys.key).map_err(|_| Error::Keys)?;
        let (fixed, counter) = keys.iv.split_first_chunk().ok_or(Error::Keys)?;
        Ok(Self {
            key: LessSafeKey::new(key),
            fixed: *fixed,
            counter: u64::from_be_bytes(counter.try_into().map_err(|_| Error::Keys)?),
        })
    }

    fn nonce(&mut self) -> Nonce {
        let mut nonce = [0; 12];
        let (fixed, counter) = nonce.split_at_mut(self.fixed.len());
        fixed.copy_from_slice(&self.fixed);
        counter.copy_from_slice(&self.counter.to_be_bytes());
        self.counter = self.counter.wrapping_add(1);
        Nonce::assume_unique_for_key(nonce)
    }

    pub(super) fn seal(&mut self, packet: &mut Vec<u8>) -> Result<(), Error> {
        let nonce = self.nonce();
        let (length, rest) = packet
            .split_first_chunk_mut::<LENGTH>()
            .ok_or(Error::Library)?;
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(*length), rest)?;
        packet.extend_from_slice(tag.as_ref());
        Ok(())
    }

    pub(super) fn open(&mut self, packet: &[u8]) -> Result<Plaintext, Error> {
        let nonce = self.nonce();
        let (length, rest) = packet.split_first_chunk::<LENGTH>().ok_or(Error::Library)?;
        let (ciphertext, tag) = rest
            .split_last_chunk::<MAX_TAG_LEN>()
            .ok_or(Error::Library)?;
        let mut bytes = pool::take_for_overwriting(ciphertext.len());
        self.key
            .open_separate_gather(nonce, Aad::from(*length), ciphertext, tag, &mut bytes)
            .map_err(|_| Error::Forged)?;
        Ok(Plaintext { bytes, start: 0 })
    }
}

//! What makes a packet secret and authentic: the ciphers and MACs of the transport (RFC 4253 §6.3
//! and §6.4, RFC 4344, RFC 5647, RFC 6668, OpenSSH's `chacha20-poly1305@openssh.com` and
//! `*-etm@openssh.com`).
//!
//! One [`Sealing`] or [`Opening`] belongs to one direction and one set of keys. It works on whole
//! packets; where a packet begins and ends, and what its lengths may be, is the business of
//! [`super::packet`]. Pure.

mod chacha;
mod ctr;
mod gcm;
mod mac;

use aws_lc_rs::{aead, error::Unspecified};
pub(super) use mac::Mac;
use zeroize::Zeroizing;

/// `packet_length`'s own length.
pub(super) const LENGTH: usize = 4;
/// The longest tag of all suites: that of HMAC-SHA2-512.
pub(super) const MAX_TAG: usize = 64;
/// The largest block of all ciphers, in bytes.
pub(super) const MAX_BLOCK: usize = 16;

/// Why a packet was not sealed or opened, or keys were not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// The keys do not have the lengths that the suite asks for, or an AEAD came with a MAC of its
    /// own.
    #[error("keys that do not fit their cipher")]
    Keys,
    /// The packet is not what its sender made.
    #[error("a packet whose authentication code is wrong")]
    Forged,
    /// The cryptographic library refused.
    #[error("the cryptographic library failed")]
    Library,
}

impl From<Unspecified> for Error {
    fn from(Unspecified: Unspecified) -> Self {
        Self::Library
    }
}

/// A cipher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cipher {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
    Aes128Ctr,
    Aes192Ctr,
    Aes256Ctr,
}

impl Cipher {
    pub(super) const ALL: [Self; 6] = [
        Self::Aes128Gcm,
        Self::Aes256Gcm,
        Self::ChaCha20Poly1305,
        Self::Aes128Ctr,
        Self::Aes192Ctr,
        Self::Aes256Ctr,
    ];

    /// Its name in a key exchange.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "aes128-gcm@openssh.com",
            Self::Aes256Gcm => "aes256-gcm@openssh.com",
            Self::ChaCha20Poly1305 => "chacha20-poly1305@openssh.com",
            Self::Aes128Ctr => "aes128-ctr",
            Self::Aes192Ctr => "aes192-ctr",
            Self::Aes256Ctr => "aes256-ctr",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cipher| cipher.name() == name)
    }

    /// It authenticates by itself: no MAC goes with it.
    pub(super) const fn is_aead(self) -> bool {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm | Self::ChaCha20Poly1305 => true,
            Self::Aes128Ctr | Self::Aes192Ctr | Self::Aes256Ctr => false,
        }
    }

    /// Bytes of key to derive (RFC 4253 §7.2).
    pub(super) const fn key_length(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::Aes128Ctr => 16,
            Self::Aes192Ctr => 24,
            Self::Aes256Gcm | Self::Aes256Ctr => 32,
            // Two keys: one for the length, one for the rest.
            Self::ChaCha20Poly1305 => 64,
        }
    }

    /// Bytes of IV to derive.
    pub(super) const fn iv_length(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm => 12,
            // The sequence number is the nonce.
            Self::ChaCha20Poly1305 => 0,
            Self::Aes128Ctr | Self::Aes192Ctr | Self::Aes256Ctr => 16,
        }
    }

    /// What the encrypted part of a packet must be a multiple of.
    const fn block(self) -> usize {
        match self {
            Self::ChaCha20Poly1305 => 8,
            Self::Aes128Gcm
            | Self::Aes256Gcm
            | Self::Aes128Ctr
            | Self::Aes192Ctr
            | Self::Aes256Ctr => MAX_BLOCK,
        }
    }
}

/// What protects one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Suite {
    pub(super) cipher: Cipher,
    /// None exactly for AEADs.
    pub(super) mac: Option<Mac>,
}

/// What was derived for one direction (RFC 4253 §7.2), in the lengths that its [`Suite`] tells. Not
/// `Debug`: secret.
pub(super) struct Keys {
    pub(super) iv: Zeroizing<Vec<u8>>,
    pub(super) key: Zeroizing<Vec<u8>>,
    /// Empty for an AEAD.
    pub(super) mac_key: Zeroizing<Vec<u8>>,
}

/// How a suite lays out its packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// The encrypted part is a multiple of this.
    pub(super) block: usize,
    /// `packet_length` is outside of what must be a multiple of the block: with AEADs and
    /// encrypt-then-MAC.
    pub(super) length_apart: bool,
    /// Bytes behind the padding.
    pub(super) tag: usize,
    /// Bytes that must have come before `packet_length` can be told.
    pub(super) head: usize,
}

impl Layout {
    /// Before the first keys (RFC 4253 §6).
    pub(super) const PLAIN: Self = Self {
        block: 8,
        length_apart: false,
        tag: 0,
        head: LENGTH,
    };
}

impl Suite {
    pub(super) const fn layout(self) -> Layout {
        let block = self.cipher.block();
        match self.mac {
            None => Layout {
                block,
                length_apart: true,
                tag: aead::MAX_TAG_LEN,
                head: LENGTH,
            },
            Some(mac) => Layout {
                block,
                length_apart: mac.is_etm(),
                tag: mac.tag_length(),
                head: if mac.is_etm() { LENGTH } else { block },
            },
        }
    }

    fn check(self, keys: &Keys) -> Result<(), Error> {
        let fits = self.cipher.is_aead() == self.mac.is_none()
            && keys.iv.len() == self.cipher.iv_length()
            && keys.key.len() == self.cipher.key_length()
            && keys.mac_key.len() == self.mac.map_or(0, Mac::key_length);
        fits.then_some(()).ok_or(Error::Keys)
    }
}

/// The sending side of a suite.
pub(super) enum Sealing {
    Plain,
    Gcm(gcm::Gcm),
    ChaCha(chacha::Sealing),
    Ctr(Box<ctr::Ctr>),
}

impl Sealing {
    pub(super) fn new(suite: Suite, keys: &Keys) -> Result<Self, Error> {
        suite.check(keys)?;
        Ok(match suite.mac {
            Some(mac) => Self::Ctr(Box::new(ctr::Ctr::new(suite.cipher, mac, keys)?)),
            None if suite.cipher == Cipher::ChaCha20Poly1305 => {
                Self::ChaCha(chacha::Sealing::new(keys)?)
            }
            None => Self::Gcm(gcm::Gcm::new(suite.cipher, keys)?),
        })
    }

    /// The padding should be random (RFC 4253 §6).
    ///
    /// An AEAD hides zeros just as well: every packet has a keystream of its own, and its tag gives
    /// nothing away. Counter mode hides them, too; but a MAC over the plaintext may give away that
    /// two plaintexts are the same, and random bytes prevent it at no noticeable price.
    pub(super) const fn wants_random_padding(&self) -> bool {
        match self {
            Self::Ctr(_) => true,
            Self::Plain | Self::Gcm(_) | Self::ChaCha(_) => false,
        }
    }

    /// Encrypts a whole packet, from `packet_length` to the padding, in place, and appends the tag.
    pub(super) fn seal(&mut self, sequence: u32, packet: &mut Vec<u8>) -> Result<(), Error> {
        match self {
            Self::Plain => Ok(()),
            Self::Gcm(cipher) => cipher.seal(packet),
            Self::ChaCha(cipher) => cipher.seal(sequence, packet),
            Self::Ctr(cipher) => cipher.seal(sequence, packet),
        }
    }
}

/// The receiving side of a suite.
pub(super) enum Opening {
    Plain,
    Gcm(gcm::Gcm),
    ChaCha(chacha::Opening),
    Ctr(Box<ctr::Ctr>),
}

/// A packet's plaintext, in a buffer of its own.
pub(super) struct Plaintext {
    pub(super) bytes: Vec<u8>,
    /// Where `padding_length` is: the start, or behind `packet_length`.
    pub(super) start: usize,
}

impl Opening {
    pub(super) fn new(suite: Suite, keys: &Keys) -> Result<Self, Error> {
        suite.check(keys)?;
        Ok(match suite.mac {
            Some(mac) => Self::Ctr(Box::new(ctr::Ctr::new(suite.cipher, mac, keys)?)),
            None if suite.cipher == Cipher::ChaCha20Poly1305 => {
                Self::ChaCha(chacha::Opening::new(keys)?)
            }
            None => Self::Gcm(gcm::Gcm::new(suite.cipher, keys)?),
        })
    }

    /// A packet's `packet_length`, not authenticated yet, from its first [`Layout::head`] bytes. To
    /// be asked once per packet: counter mode moves on.
    pub(super) fn length(&mut self, sequence: u32, head: &[u8]) -> Result<u32, Error> {
        match self {
            Self::Plain | Self::Gcm(_) => plain_length(head),
            Self::ChaCha(cipher) => cipher.length(sequence, head),
            Self::Ctr(cipher) => cipher.length(head),
        }
    }

    /// Checks and decrypts a whole packet, from `packet_length` to the tag, after [`Self::length`]
    /// was asked. Nothing of the plaintext is returned before the tag is found right.
    pub(super) fn open(&mut self, sequence: u32, packet: &[u8]) -> Result<Plaintext, Error> {
        match self {
            Self::Plain => Ok(Plaintext {
                bytes: packet.to_vec(),
                start: LENGTH,
            }),
            Self::Gcm(cipher) => cipher.open(packet),
            Self::ChaCha(cipher) => cipher.open(sequence, packet),
            Self::Ctr(cipher) => cipher.open(sequence, packet),
        }
    }
}

fn plain_length(head: &[u8]) -> Result<u32, Error> {
    let length = head.first_chunk().ok_or(Error::Library)?;
    Ok(u32::from_be_bytes(*length))
}

#[cfg(test)]
mod tests {
    use super::{Cipher, Mac};

    #[test]
    fn algorithms_are_found_by_name_only() {
        for cipher in Cipher::ALL {
            assert_eq!(Cipher::from_name(cipher.name()), Some(cipher));
        }
        for mac in Mac::ALL {
            assert_eq!(Mac::from_name(mac.name()), Some(mac));
        }
        for name in ["", "none", "aes128-cbc", "AES128-CTR", "hmac-sha1"] {
            assert_eq!(Cipher::from_name(name), None, "{name}");
            assert_eq!(Mac::from_name(name), None, "{name}");
        }
    }
}

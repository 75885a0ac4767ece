//! Message authentication codes: HMAC with SHA-2 (RFC 6668), over the plaintext or, as OpenSSH's
//! `-etm` names ask, over the ciphertext. SHA-1 is not spoken.

use aws_lc_rs::hmac::{self, Context, HMAC_SHA256, HMAC_SHA512};
use subtle::ConstantTimeEq as _;

use super::Error;

/// A MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mac {
    HmacSha256Etm,
    HmacSha512Etm,
    HmacSha256,
    HmacSha512,
}

impl Mac {
    pub(crate) const ALL: [Self; 4] = [
        Self::HmacSha256Etm,
        Self::HmacSha512Etm,
        Self::HmacSha256,
        Self::HmacSha512,
    ];

    /// Its name in a key exchange.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::HmacSha256Etm => "hmac-sha2-256-etm@openssh.com",
            Self::HmacSha512Etm => "hmac-sha2-512-etm@openssh.com",
            Self::HmacSha256 => "hmac-sha2-256",
            Self::HmacSha512 => "hmac-sha2-512",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mac| mac.name() == name)
    }

    /// Bytes of key to derive.
    pub(crate) const fn key_length(self) -> usize {
        self.tag_length()
    }

    pub(super) const fn tag_length(self) -> usize {
        match self {
            Self::HmacSha256Etm | Self::HmacSha256 => 32,
            Self::HmacSha512Etm | Self::HmacSha512 => 64,
        }
    }

    /// The packet is encrypted first, and its length stays readable.
    pub(crate) const fn is_etm(self) -> bool {
        match self {
            Self::HmacSha256Etm | Self::HmacSha512Etm => true,
            Self::HmacSha256 | Self::HmacSha512 => false,
        }
    }
}

/// A MAC with its key.
pub(super) struct Keyed {
    key: hmac::Key,
}

impl Keyed {
    pub(super) fn new(mac: Mac, key: &[u8]) -> Self {
        let algorithm = match mac {
            Mac::HmacSha256Etm | Mac::HmacSha256 => HMAC_SHA256,
            Mac::HmacSha512Etm | Mac::HmacSha512 => HMAC_SHA512,
        };
        Self {
            key: hmac::Key::new(algorithm, key),
        }
    }

    /// The code of a packet (RFC 4253 §6.4).
    pub(super) fn sign(&self, sequence: u32, packet: &[u8]) -> hmac::Tag {
        let mut context = Context::with_key(&self.key);
        context.update(&sequence.to_be_bytes());
        context.update(packet);
        context.sign()
    }

    /// In time that does not depend on where the codes differ.
    pub(super) fn verify(&self, sequence: u32, packet: &[u8], tag: &[u8]) -> Result<(), Error> {
        let is_right = self.sign(sequence, packet).as_ref().ct_eq(tag);
        bool::from(is_right).then_some(()).ok_or(Error::Forged)
    }
}

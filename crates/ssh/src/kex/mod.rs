//! Key exchange methods: one message each way, then a secret that both sides know and no one else
//! (RFC 4253 §8). Pure but for random numbers.
//!
//! - [`Initiator`] is the client's half, [`respond`] is the whole of the server's.
//! - Both end in a [`SharedSecret`], which makes the exchange hash and the keys (`derive.rs`).
//!
//! A public value travels here as the body of its field in the message. The RFCs call that field
//! `mpint` in one method and `string` in another, but the two have the same outer form, so anyone
//! who writes and reads messages need not know which method is running.
//!
//! Every public value of a peer is checked before it meets a private one, and each method says
//! which check its RFC asks for. This module knows neither negotiation nor host keys.

mod derive;
mod dh;
mod ecdh;
mod mlkem;
mod primes;

use aws_lc_rs::digest::{self, SHA256};

pub(super) use derive::{SharedSecret, Transcript};
use ecdh::Curve;

/// Why an exchange failed. All but [`Error::Local`] are the peer's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// Its public value has another length than the method's.
    #[error("the peer's public value has {found} bytes instead of {expected}")]
    WrongLength {
        /// Bytes that are due.
        expected: usize,
        /// Bytes that came.
        found: usize,
    },
    /// Its public value is a negative number, or has needless leading zeros.
    #[error("the peer's public value is not a positive number in its only form")]
    NotANumber,
    /// Its public value is one that gives the secret away (RFC 4253 §8).
    #[error("the peer's public value is not between 1 and the prime less 1")]
    OutOfRange,
    /// Its public value is not an uncompressed point of the curve (RFC 5656 §4).
    #[error("the peer's public value is not a point of the curve")]
    NotAPoint,
    /// Its public value is not one that ML-KEM takes (FIPS 203 §7.2).
    #[error("the peer's encapsulation key is not valid")]
    NotAnEncapsulationKey,
    /// The secret would be the same for every private value (RFC 8731 §3).
    #[error("the peer's public value makes a secret that is none")]
    NoSecret,
    /// The library failed us.
    #[error("a key exchange failed on this side: {0}")]
    Local(&'static str),
}

/// A key exchange method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// ML-KEM and X25519 together (draft-ietf-sshm-mlkem-hybrid-kex).
    MlKem768X25519Sha256,
    /// X25519 (RFC 8731).
    Curve25519Sha256,
    /// The same under the name it had before its RFC.
    Curve25519Sha256Libssh,
    /// P-256 (RFC 5656).
    EcdhNistP256,
    /// The 2048-bit group (RFC 8268).
    DhGroup14Sha256,
}

impl Method {
    pub(super) const ALL: [Self; 5] = [
        Self::MlKem768X25519Sha256,
        Self::Curve25519Sha256,
        Self::Curve25519Sha256Libssh,
        Self::EcdhNistP256,
        Self::DhGroup14Sha256,
    ];

    /// Its name in a negotiation.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::MlKem768X25519Sha256 => "mlkem768x25519-sha256",
            Self::Curve25519Sha256 => "curve25519-sha256",
            Self::Curve25519Sha256Libssh => "curve25519-sha256@libssh.org",
            Self::EcdhNistP256 => "ecdh-sha2-nistp256",
            Self::DhGroup14Sha256 => "diffie-hellman-group14-sha256",
        }
    }

    /// The method of this name.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    /// What an exchange costs a server, with its signature and its hashes, in exchanges by a curve
    /// (docs/reliability.md, "Abuse").
    pub(super) fn cost(self) -> u32 {
        match self {
            Self::MlKem768X25519Sha256
            | Self::Curve25519Sha256
            | Self::Curve25519Sha256Libssh
            | Self::EcdhNistP256 => 1,
            Self::DhGroup14Sha256 => 8,
        }
    }

    /// The hash of the exchange and of its keys. RFC 5656 §6.2.1 gives it to P-256; all others have
    /// it in their names.
    fn hash(self) -> &'static digest::Algorithm {
        match self {
            Self::MlKem768X25519Sha256
            | Self::Curve25519Sha256
            | Self::Curve25519Sha256Libssh
            | Self::EcdhNistP256
            | Self::DhGroup14Sha256 => &SHA256,
        }
    }

    fn mechanism(self) -> Mechanism {
        match self {
            Self::MlKem768X25519Sha256 => Mechanism::Hybrid,
            Self::Curve25519Sha256 | Self::Curve25519Sha256Libssh => {
                Mechanism::Curve(Curve::X25519)
            }
            Self::EcdhNistP256 => Mechanism::Curve(Curve::P256),
            Self::DhGroup14Sha256 => Mechanism::Group,
        }
    }
}

/// The arithmetic behind a method.
#[derive(Debug, Clone, Copy)]
enum Mechanism {
    Hybrid,
    Curve(Curve),
    Group,
}

/// The client's half of an exchange: it holds the private value until the server's public one
/// comes.
pub(super) struct Initiator {
    half: Half,
}

enum Half {
    Hybrid(Box<mlkem::Half>),
    Curve(ecdh::Half),
    Group(Box<dh::Half>),
}

impl Initiator {
    pub(super) fn try_new(method: Method) -> Result<Self, Error> {
        let half = match method.mechanism() {
            Mechanism::Hybrid => Half::Hybrid(Box::new(mlkem::Half::try_new()?)),
            Mechanism::Curve(curve) => Half::Curve(ecdh::Half::try_new(curve)?),
            Mechanism::Group => Half::Group(Box::new(dh::Half::try_new()?)),
        };
        Ok(Self { half })
    }

    /// What the client sends.
    pub(super) fn public(&self) -> &[u8] {
        match &self.half {
            Half::Hybrid(half) => half.public(),
            Half::Curve(half) => half.public(),
            Half::Group(half) => half.public(),
        }
    }

    /// Takes what the server sent.
    pub(super) fn finish(self, server_public: &[u8]) -> Result<SharedSecret, Error> {
        match self.half {
            Half::Hybrid(half) => half.finish(server_public),
            Half::Curve(half) => half
                .agree(server_public)
                .map(|number| SharedSecret::number(&number)),
            Half::Group(half) => half
                .agree(server_public)
                .map(|number| SharedSecret::number(&number)),
        }
    }
}

/// The server's half of an exchange, at once: its public value and the secret.
pub(super) fn respond(
    method: Method,
    client_public: &[u8],
) -> Result<(Vec<u8>, SharedSecret), Error> {
    match method.mechanism() {
        Mechanism::Hybrid => mlkem::respond(client_public),
        Mechanism::Curve(curve) => {
            let half = ecdh::Half::try_new(curve)?;
            let number = half.agree(client_public)?;
            Ok((half.public().to_vec(), SharedSecret::number(&number)))
        }
        Mechanism::Group => {
            // A bad value is found before two expensive exponentiations, not between them.
            let base = dh::peer(client_public)?;
            let half = dh::Half::try_new()?;
            let number = half.raise(&base)?;
            Ok((half.public().to_vec(), SharedSecret::number(&number)))
        }
    }
}

#[cfg(test)]
mod tests;

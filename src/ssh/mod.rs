//! The tunnel's engine: an SSH client that accepts channels and an SSH server that opens them
//! (RFC 4251–4254, OpenSSH's certificates). It knows nothing of gateways and relays.
//!
//! - [`client::connect`] makes an authenticated [`client::Session`], whose [`client::Session::accept`] yields
//!   the channels that the server opens.
//! - [`server::accept`] makes an authenticated [`server::Session`], whose [`server::Session::open`] opens one.
//! - [`cert`] is the only judge of certificates, on both sides: the library's own check is not relied on.
//!
//! The protocol itself is russh's for now. No type of it leaves this folder, so that the engine can be
//! replaced behind these four names. Known limits of that engine: a `direct-tcpip` without its four
//! fields ends the session, and a channel whose reader stalls delays the session's other channels.

pub mod cert;
mod cipher;
pub mod client;
mod closings;
mod cut;
pub mod error;
mod kex;
pub mod keys;
mod packet;
pub mod server;
mod sign;
mod stream;
mod wire;

use std::borrow::Cow;
use std::time::Duration;

pub use error::Error;
use russh::{Limits, compression, mac};
use ssh_key::{Algorithm, EcdsaCurve, HashAlg};
pub use stream::{ChannelStream, Farewell};

/// Flow-control window of a channel, in bytes.
const WINDOW: u32 = 2 * 1024 * 1024;
/// Largest channel packet, in bytes (RFC 4253 §6.1 obliges everyone to take this much).
const MAX_PACKET: u32 = 32 * 1024;
/// Messages that wait for a channel's reader before the connection stops reading.
const CHANNEL_QUEUE: usize = 128;
/// Bytes after which keys are exchanged anew (RFC 4253 §9).
const REKEY_BYTES: usize = 1 << 30;
/// Time after which keys are exchanged anew (RFC 4253 §9).
const REKEY_AFTER: Duration = Duration::from_secs(3600);

/// Liveness of a session: a keepalive after each silent `interval`, and the end of the session once
/// `unanswered` of them went without any answer (a refusal is an answer).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before a keepalive is sent.
    pub interval: Duration,
    /// Keepalives that may go unanswered.
    pub unanswered: u32,
}

impl Keepalive {
    /// A dead peer is noticed within 28 s: three silent intervals and one more tick at worst.
    pub const DEFAULT: Self = Self {
        interval: Duration::from_secs(7),
        unanswered: 2,
    };
    /// The kernel gives up on unacknowledged data after this long, so that a dead peer is noticed
    /// even by a session that is blocked on writing.
    pub const TCP_USER_TIMEOUT: Duration = Duration::from_secs(28);
}

/// Exchanges that every modern peer has, best first (protocol.md §3).
const MODERN_KEX: &[russh::kex::Name] = &[
    russh::kex::MLKEM768X25519_SHA256,
    russh::kex::CURVE25519,
    russh::kex::CURVE25519_PRE_RFC_8731,
    russh::kex::ECDH_SHA2_NISTP256,
];
/// The only exchanges of deployed gateways (protocol.md §3).
const DEPLOYED_GATEWAY_KEX: &[russh::kex::Name] = &[
    russh::kex::DH_G14_SHA256,
    russh::kex::DH_G16_SHA512,
    russh::kex::DH_G18_SHA512,
];
/// Authenticated encryption, fastest first.
const AEAD: &[russh::cipher::Name] = &[
    russh::cipher::AES_128_GCM,
    russh::cipher::AES_256_GCM,
    russh::cipher::CHACHA20_POLY1305,
];
/// The only ciphers of deployed gateways (protocol.md §3).
const DEPLOYED_GATEWAY_CIPHERS: &[russh::cipher::Name] = &[
    russh::cipher::AES_128_CTR,
    russh::cipher::AES_192_CTR,
    russh::cipher::AES_256_CTR,
];
const MACS: &[mac::Name] = &[
    mac::HMAC_SHA256_ETM,
    mac::HMAC_SHA512_ETM,
    mac::HMAC_SHA256,
    mac::HMAC_SHA512,
];
/// Signature algorithms, never SHA-1 (protocol.md §2).
const KEY_ALGORITHMS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP256,
    },
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP384,
    },
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP521,
    },
    Algorithm::Rsa {
        hash: Some(HashAlg::Sha256),
    },
    Algorithm::Rsa {
        hash: Some(HashAlg::Sha512),
    },
];

/// What a client offers: modern exchanges and authenticated ciphers only, and certificates as host keys.
fn client_algorithms() -> russh::Preferred {
    let mut kex = MODERN_KEX.to_vec();
    kex.extend([
        russh::kex::EXTENSION_SUPPORT_AS_CLIENT,
        russh::kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
    ]);
    russh::Preferred {
        kex: Cow::Owned(kex),
        key: Cow::Borrowed(KEY_ALGORITHMS),
        host_key_certificates: Cow::Borrowed(KEY_ALGORITHMS),
        cipher: Cow::Borrowed(AEAD),
        mac: Cow::Borrowed(MACS),
        compression: Cow::Borrowed(&[compression::NONE]),
    }
}

/// What a server offers: the same first, and behind it what deployed gateways can speak.
fn server_algorithms() -> russh::Preferred {
    let mut kex = MODERN_KEX.to_vec();
    kex.extend(DEPLOYED_GATEWAY_KEX);
    kex.extend([
        russh::kex::EXTENSION_SUPPORT_AS_SERVER,
        russh::kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
    ]);
    let mut cipher = AEAD.to_vec();
    cipher.extend(DEPLOYED_GATEWAY_CIPHERS);
    russh::Preferred {
        kex: Cow::Owned(kex),
        key: Cow::Borrowed(KEY_ALGORITHMS),
        host_key_certificates: Cow::Borrowed(&[]),
        cipher: Cow::Owned(cipher),
        mac: Cow::Borrowed(MACS),
        compression: Cow::Borrowed(&[compression::NONE]),
    }
}

fn limits() -> Limits {
    Limits::new(REKEY_BYTES, REKEY_BYTES, REKEY_AFTER)
}

#[cfg(test)]
mod session_tests;

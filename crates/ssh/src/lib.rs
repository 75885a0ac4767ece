//! The tunnel's engine: SSH as this protocol needs it, done completely (RFC 4251–4254, 5656, 8268,
//! 8308, 8332, 8731, OpenSSH's certificates, strict key exchange and authenticated ciphers). It
//! knows nothing of gateways and relays.
//!
//! - [`client::connect`] and [`server::accept`] make an authenticated [`client::Session`], the same
//!   type for both; either side can open a channel with [`client::Session::open`] and take those of
//!   the other with [`client::Session::accept`].
//! - [`cert`] is the only judge of certificates, on both sides.
//!
//! The layers, each of which knows only those before it, and none of which does input or output but
//! the last three: `wire` data types · `msg` messages · `cipher`, `packet` sealed packets · `kex`,
//! `sign`, `cert` proofs · `transport` key exchange · `auth` · `connection` channels, windows,
//! liveness · `input`, `output` bytes · `driver` two tasks on a stream · `session`, `stream` what
//! the program holds.
//!
//! It deliberately has no other authentication than certificates, no compression, no channels but
//! `direct-tcpip`, no shell.

mod auth;
pub mod ca;
pub mod cert;
mod cipher;
pub mod client;
mod connection;
mod driver;
pub mod error;
#[cfg(any(test, feature = "testing"))]
#[expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "fuzzers and tests fail by panicking"
)]
#[doc(hidden)]
pub mod fuzzing;
mod input;
mod kex;
pub mod keys;
mod msg;
mod output;
mod packet;
pub mod server;
mod session;
mod sign;
mod socket;
mod stream;
mod transport;
mod wire;

use std::time::Duration;

pub use error::{DisconnectReason, Error};
use infisical_runtime::{clock, humanize, net, scope, secret};
pub use socket::{Writer, prepare};
pub use stream::{ChannelStream, CloseWait};
pub use transport::Algorithms;

/// Limit of a handshake, from the first byte to the end of authentication.
const HANDSHAKE: Duration = Duration::from_secs(20);

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
    /// A dead peer is noticed after three silent intervals, 21 s.
    pub(crate) const DEFAULT: Self = Self {
        interval: Duration::from_secs(7),
        unanswered: 2,
    };
}

/// When keys are exchanged again, whichever comes first, counted for each direction by itself (RFC
/// 4253 §9, RFC 4344 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RekeyLimits {
    /// Bytes of payload.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Time since the last exchange.
    pub time: Duration,
    /// Exchanges by a curve that the peer may begin in a row; those by a finite-field group count
    /// for more, as they cost more. It may begin another one for each second and for each mebibyte;
    /// beyond that the session ends.
    pub peer_burst: u32,
}

impl RekeyLimits {
    /// A gibibyte or an hour, as RFC 4253 §9 has it, and half of the packets after which sequence
    /// numbers repeat (RFC 4344 §3.1).
    pub(crate) const DEFAULT: Self = Self {
        bytes: 1 << 30,
        packets: 1 << 31,
        time: Duration::from_secs(3600),
        peer_burst: 1024,
    };
}

#[cfg(test)]
mod session_tests;

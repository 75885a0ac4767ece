//! The engine under foreign bytes: one function for each of its parsers, and one for the whole
//! connection. Each takes any bytes, and panics if the engine breaks a promise. Fuzzers choose the
//! bytes (fuzz/), and so do tests (`crate::fuzzing`).
//!
//! Only fuzzers and tests have this module.

mod connection;
mod messages;
mod proofs;
mod wire;

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ssh_key::certificate::{Builder, CertType};
use ssh_key::private::Ed25519Keypair;
use ssh_key::{Certificate, PrivateKey};

use super::cert::{HostPolicy, UserPolicy};
use super::keys::CertifiedKey;

pub use connection::connection;
pub use proofs::{cert, kex, keys};
pub use wire::{msg_roundtrip, packet, version};

#[cfg(any(test, feature = "testing"))]
pub mod seeds;

const HOST: &str = "relay.test:2222";
const USER: &str = "gateway-1";
const KEY_ID: &str = "client-relay-1";

/// The bytes that a fuzzer chose, as decisions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Script<'a> {
    rest: &'a [u8],
}

impl<'a> Script<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    /// The next byte; 0 when there are no more.
    pub(super) fn u8(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else {
            return 0;
        };
        self.rest = rest;
        *first
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::from_be_bytes([self.u8(), self.u8(), self.u8(), self.u8()])
    }

    /// So many bytes, or as many as there are.
    pub(super) fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// One of these.
    pub(super) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.u8()) % choices.len()]
    }

    pub(super) fn is_over(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }
}

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

/// The time of day in all of this.
fn clock() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_500_000)
}

fn certificate(subject: u8, ca: u8, kind: CertType, id: &str, principal: &str) -> Certificate {
    let public = key(subject).public_key().clone();
    let mut builder = Builder::new([7; 16], public, 1_000_000, 2_000_000).expect("a builder");
    builder.cert_type(kind).expect("a type");
    builder.key_id(id).expect("a key id");
    builder.valid_principal(principal).expect("a principal");
    builder.sign(&key(ca)).expect("a signature")
}

/// The server's key and certificate; made once, and the same in every run.
fn host_identity() -> &'static CertifiedKey {
    static IDENTITY: OnceLock<CertifiedKey> = OnceLock::new();
    IDENTITY.get_or_init(|| {
        let certificate = certificate(4, 1, CertType::Host, "relay-server", HOST);
        CertifiedKey::try_new(&key(4), certificate).expect("a pair")
    })
}

/// The client's.
fn user_identity() -> &'static CertifiedKey {
    static IDENTITY: OnceLock<CertifiedKey> = OnceLock::new();
    IDENTITY.get_or_init(|| {
        let certificate = certificate(3, 2, CertType::User, KEY_ID, USER);
        CertifiedKey::try_new(&key(3), certificate).expect("a pair")
    })
}

fn host_policy() -> &'static HostPolicy {
    static POLICY: OnceLock<HostPolicy> = OnceLock::new();
    POLICY.get_or_init(|| HostPolicy {
        ca: key(1).public_key().clone(),
        principal: HOST.to_owned(),
    })
}

fn user_policy() -> &'static UserPolicy {
    static POLICY: OnceLock<UserPolicy> = OnceLock::new();
    POLICY.get_or_init(|| UserPolicy {
        ca: key(2).public_key().clone(),
        key_id: KEY_ID.to_owned(),
    })
}

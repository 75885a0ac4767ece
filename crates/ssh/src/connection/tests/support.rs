//! Keys, options, and randomness that can be repeated.

use std::time::{Duration, Instant};

use ssh_key::PrivateKey;
use ssh_key::certificate::{Builder, CertType};
use ssh_key::private::Ed25519Keypair;

use crate::cert::{HostPolicy, UserPolicy};
use crate::clock::Clock;
use crate::connection::{Connection, Options};
use crate::keys::CertifiedKey;
use crate::{Algorithms, Keepalive, RekeyLimits};

pub(super) const HOST: &str = "relay.test:2222";
pub(super) const USER: &str = "gateway-1";
pub(super) const KEY_ID: &str = "client-relay-1";
/// Repeats one seed only.
const SEED: &str = "INFISICAL_TEST_SEED";

pub(super) fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

/// A certificate for key `subject`, signed by key `ca`, valid until `end`.
pub(super) fn certified(subject: u8, ca: u8, kind: CertType, end: u64) -> CertifiedKey {
    let public = key(subject).public_key().clone();
    let mut builder = Builder::new([7; 16], public, 0, end).expect("a builder");
    let (key_id, principal) = match kind {
        CertType::User => (KEY_ID, USER),
        CertType::Host => ("relay-server", HOST),
    };
    builder.cert_type(kind).expect("a type");
    builder.key_id(key_id).expect("a key id");
    builder.valid_principal(principal).expect("a principal");
    CertifiedKey::try_new(&key(subject), builder.sign(&key(ca)).expect("signed")).expect("a pair")
}

const FOREVER: u64 = u64::MAX - 1;

pub(super) fn user_key() -> CertifiedKey {
    certified(3, 2, CertType::User, FOREVER)
}

pub(super) fn host_key() -> CertifiedKey {
    certified(4, 1, CertType::Host, FOREVER)
}

pub(super) fn host_policy() -> HostPolicy {
    HostPolicy {
        ca: key(1).public_key().clone(),
        principal: HOST.to_owned(),
    }
}

pub(super) fn user_policy() -> UserPolicy {
    UserPolicy {
        ca: key(2).public_key().clone(),
        key_id: KEY_ID.to_owned(),
    }
}

pub(super) fn options(algorithms: Algorithms) -> Options {
    Options {
        algorithms,
        keepalive: Keepalive::DEFAULT,
        rekey: RekeyLimits::DEFAULT,
        clock: Clock::new(),
    }
}

pub(super) fn client(options: Options, now: Instant) -> Connection {
    Connection::client(USER.to_owned(), user_key(), host_policy(), options, now).expect("a client")
}

pub(super) fn server(options: Options, now: Instant) -> Connection {
    Connection::server(host_key(), user_policy(), options, now).expect("a server")
}

pub(super) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Numbers that only look random (splitmix64). A test that fails while it exists prints how to
/// repeat it.
pub(super) struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, state: seed }
    }

    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `limit`.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit.max(1)).expect("fits");
        usize::try_from(self.next() % limit).expect("fits")
    }

    /// Once in `times`.
    pub(super) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// Small numbers are as likely as large ones.
    pub(super) fn size(&mut self, limit: usize) -> usize {
        let bits = self.below(usize::try_from(limit.ilog2()).expect("fits") + 1);
        self.below(limit.min(2 << bits)).max(1)
    }
}

impl Drop for Random {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to repeat this: {SEED}={}", self.seed);
        }
    }
}

/// Seeds of a test: `count` of them, or the one that is asked for.
pub(super) fn seeds(count: u64) -> Vec<u64> {
    match std::env::var(SEED) {
        Ok(seed) => vec![seed.parse().expect("a seed")],
        Err(_) => (1..=count).collect(),
    }
}

//! What a GiB costs in allocations: a guard for the tunnel's hot path where wall time cannot be
//! one. The allocator that counts is the process's own, so this is a program with one test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a case fails by panicking, and says what it found"
)]
#![allow(missing_docs, reason = "a test has no readers but those of its source")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use infisical_ssh::cert::{HostPolicy, UserPolicy};
use infisical_ssh::keys::CertifiedKey;
use infisical_ssh::{ChannelStream, client, server};
use ssh_key::PrivateKey;
use ssh_key::certificate::{Builder, CertType};
use ssh_key::private::Ed25519Keypair;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Allocations for each MiB that a channel carries, both sides together.
const MOST_ALLOCATIONS: u64 = 8;
/// Bytes allocated for each MiB that a channel carries, both sides together.
const MOST_BYTES: u64 = MIB / 16;

const MIB: u64 = 1 << 20;
/// Moved before anything is counted: windows and buffers are then what they will be.
const WARM_UP: u64 = 8 * MIB;
/// Moved in each direction while everything is counted.
const COUNTED: u64 = 64 * MIB;
/// Bytes of each write: what a copy of a connection's bytes hands over.
const BLOCK: usize = 32 * 1024;
/// Limit for everything.
const LIMIT: Duration = Duration::from_secs(60);

const HOST: &str = "relay.test:2222";
const USER: &str = "gateway-1";
const KEY_ID: &str = "client-relay-1";

/// The system's allocator, and what it was asked for.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(bytes: usize) {
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
}

#[expect(unsafe_code, reason = "an allocator is an unsafe trait")]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller's promise is the same.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// What was asked of the allocator while bytes moved, for each MiB of them.
#[derive(Debug)]
struct Cost {
    allocations: u64,
    bytes: u64,
}

impl Cost {
    async fn of(work: impl Future<Output = ()>) -> Self {
        let now = || {
            (
                ALLOCATIONS.load(Ordering::Relaxed),
                BYTES.load(Ordering::Relaxed),
            )
        };
        let before = now();
        work.await;
        let after = now();
        let each = |before: u64, after: u64| (after - before) / (COUNTED / MIB);
        Self {
            allocations: each(before.0, after.0),
            bytes: each(before.1, after.1),
        }
    }

    #[track_caller]
    fn assert(&self, direction: &str) {
        println!("{direction}: {self:?} for each MiB");
        assert!(
            self.allocations <= MOST_ALLOCATIONS && self.bytes <= MOST_BYTES,
            "{direction}: {self:?} for each MiB; {MOST_ALLOCATIONS} allocations of {MOST_BYTES} bytes are allowed"
        );
    }
}

#[tokio::test]
async fn channel_does_not_allocate_for_each_packet() {
    tokio::time::timeout(LIMIT, both_directions())
        .await
        .expect("in time");
}

async fn both_directions() {
    // The counter counts: a test that measures nothing would be kept by any engine.
    let before = BYTES.load(Ordering::Relaxed);
    let block = vec![0x5a_u8; BLOCK];
    assert!(BYTES.load(Ordering::Relaxed) - before >= BLOCK as u64);

    let (client, server) = sessions().await;
    let originator = SocketAddr::from(([192, 0, 2, 1], 40_000));
    let (opened, accepted) =
        tokio::join!(server.open(("localhost", 0), originator), client.accept());
    let (mut relay, mut gateway) = (opened.expect("opened"), accepted.expect("accepted"));
    let mut buffer = vec![0; BLOCK];

    carry(&mut relay, &mut gateway, WARM_UP, &block, &mut buffer).await;
    let upload = Cost::of(carry(
        &mut relay,
        &mut gateway,
        COUNTED,
        &block,
        &mut buffer,
    ));
    let upload = upload.await;

    carry(&mut gateway, &mut relay, WARM_UP, &block, &mut buffer).await;
    let download = Cost::of(carry(
        &mut gateway,
        &mut relay,
        COUNTED,
        &block,
        &mut buffer,
    ));
    let download = download.await;

    upload.assert("relay to gateway");
    download.assert("gateway to relay");
}

/// Moves `bytes` from one end to the other, without an allocation of its own.
async fn carry(
    from: &mut ChannelStream,
    to: &mut ChannelStream,
    bytes: u64,
    block: &[u8],
    buffer: &mut [u8],
) {
    let sending = async {
        for _ in 0..bytes / BLOCK as u64 {
            from.write_all(block).await.expect("written");
        }
        from.flush().await.expect("flushed");
    };
    let receiving = async {
        let mut left = bytes;
        while left > 0 {
            let n = to.read(buffer).await.expect("read");
            assert!(n > 0, "the channel ended {left} bytes early");
            left -= n as u64;
        }
    };
    tokio::join!(sending, receiving);
}

/// A gateway's session and its relay's, over a pipe in memory.
async fn sessions() -> (client::Session, server::Session) {
    let client = client::Config::new(
        USER.to_owned(),
        certified(3, 2, CertType::User, KEY_ID, USER),
        HostPolicy {
            ca: key(1).public_key().clone(),
            principal: HOST.to_owned(),
        },
    );
    let server = server::Config::new(
        certified(4, 1, CertType::Host, "relay-server", HOST),
        UserPolicy {
            ca: key(2).public_key().clone(),
            key_id: KEY_ID.to_owned(),
        },
    );
    let (a, b) = tokio::io::duplex(256 * 1024);
    let (a, b) = (tokio::io::split(a), tokio::io::split(b));
    let (client, server) = tokio::join!(
        client::connect(a.0, a.1, &client),
        server::accept(b.0, b.1, &server)
    );
    (client.expect("a client"), server.expect("a server"))
}

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

fn certified(subject: u8, ca: u8, kind: CertType, key_id: &str, principal: &str) -> CertifiedKey {
    let public = key(subject).public_key().clone();
    let mut builder = Builder::new([7; 16], public, 0, u64::MAX - 1).expect("a builder");
    builder.cert_type(kind).expect("a type");
    builder.key_id(key_id).expect("a key id");
    builder.valid_principal(principal).expect("a principal");
    CertifiedKey::try_new(&key(subject), builder.sign(&key(ca)).expect("signed")).expect("a pair")
}

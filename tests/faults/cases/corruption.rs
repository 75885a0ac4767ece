//! Bits flip on the way between gateway and relay.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::partitions::{NOTICED, RECOVERED};
use crate::lab::{GatewayPlan, Lab, PATIENCE};
use crate::net::Machine;
use crate::probe;
use crate::runner::{Case, Outcome};
use crate::steer::{Direction, Proxy};
use crate::support::session::Way;
use crate::wait;

/// Offsets into the stream at which a bit is flipped before the tunnel is up: in the greeting, in
/// what negotiates and exchanges keys, and in what authenticates, which begins after some 2 KiB.
const EARLY: [u64; 16] = [
    0, 3, 12, 24, 28, 60, 200, 700, 1100, 1300, 1500, 1700, 1900, 2100, 2600, 3200,
];
/// And while data flows.
const DURING: [u64; 12] = [
    0, 1, 4, 5, 17, 64, 1000, 4096, 16_384, 40_000, 100_000, 300_000,
];
/// Bytes that a session carries in each direction at most.
const MUCH: usize = 64 << 20;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "a_bit_flips_in_a_handshake",
        row: "one bit flipped anywhere in the handshake, in either direction",
        bound: RECOVERED,
        labs: 1,
        run: early,
    },
    Case {
        name: "a_bit_flips_while_data_flows",
        row: "one bit flipped anywhere in bulk data, in either direction; no wrong byte is delivered",
        bound: RECOVERED,
        labs: 1,
        run: during,
    },
];

fn world(lab: &mut Lab) -> Proxy {
    lab.start_platform();
    lab.start_echo(Machine::Gateway);
    lab.start_relay(Machine::Relay);
    let proxy = lab.start_proxy();
    let gateway = lab.start_gateway(Machine::Gateway, &GatewayPlan::pinned());
    lab.wait_up(&gateway);
    lab.assert_works(&lab.way());
    proxy
}

/// The tunnel is cut, and the next one is spoiled at each offset once; the one after it must come
/// up.
fn early(lab: &mut Lab) -> Outcome {
    let mut proxy = world(lab);
    let mut spoils = Spoils::default();
    for direction in [Direction::Up, Direction::Down] {
        for offset in EARLY {
            proxy.flip_next(direction, offset);
            proxy.cut();
            spoils.measure(lab, &proxy, || ());
        }
    }
    spoils.outcome()
}

/// Data is on its way in both directions when the bit flips; the session must end, and all that it
/// gave be right.
fn during(lab: &mut Lab) -> Outcome {
    let mut proxy = world(lab);
    let mut spoils = Spoils::default();
    for direction in [Direction::Up, Direction::Down] {
        for offset in DURING {
            let session = BulkSession::start(&lab.way());
            session.wait_until_it_flows();
            proxy.flip_soon(direction, offset);
            spoils.measure(lab, &proxy, || session.must_end());
        }
    }
    spoils.outcome()
}

/// What is measured for each flipped bit.
#[derive(Default)]
struct Spoils {
    /// From the flip to the end of the connection that is spoiled.
    noticed: Vec<Duration>,
    /// From there to a session that works.
    recovered: Vec<Duration>,
}

impl Spoils {
    /// Waits for the flip, for the end of the connection and of what it carried, and for a session.
    fn measure(&mut self, lab: &Lab, proxy: &Proxy, carried: impl FnOnce()) {
        let wanted = self.noticed.len() + 1;
        let wait = |what: &str, reached: fn((usize, usize)) -> usize| {
            wait::until(what, PATIENCE, || {
                match reached(proxy.flipped_and_ended()) {
                    count if count >= wanted => Ok(Instant::now()),
                    count => Err(format!("{count} of {wanted}")),
                }
            })
        };
        let flipped = wait("the flipped bit", |(flipped, _)| flipped);
        let ended = wait("the end of the spoiled connection", |(_, ended)| ended);
        self.noticed.push(ended - flipped);
        carried();
        // All of it lasts longer than one way is good for.
        let probe = Lab::probe(&lab.way());
        self.recovered.push(probe.success_since(ended, PATIENCE));
    }

    fn outcome(self) -> Outcome {
        let noticed = self.noticed.iter().max().copied().unwrap_or_default();
        Outcome::worst_of(self.recovered).and("noticed", noticed, Some(NOTICED))
    }
}

/// Bytes that differ everywhere, there and back.
struct BulkSession {
    /// How many came back; the other end is the thread.
    came: Arc<AtomicUsize>,
    thread: JoinHandle<io::Result<()>>,
}

impl BulkSession {
    fn start(way: &Way) -> Self {
        let came = Arc::new(AtomicUsize::new(0));
        let (way, counted) = (way.clone(), Arc::clone(&came));
        let thread = std::thread::spawn(move || {
            probe::block_on(async {
                let both_ways = Box::pin(there_and_back(&way, &counted));
                tokio::time::timeout(PATIENCE, both_ways).await?
            })
        });
        Self { came, thread }
    }

    fn wait_until_it_flows(&self) {
        wait::until("data that flows", PATIENCE, || {
            let came = self.came.load(Ordering::Relaxed);
            match came > 100_000 {
                true => Ok(()),
                false => Err(format!("{came} bytes came back")),
            }
        });
    }

    /// Fails if a byte was wrong, or if all went well.
    fn must_end(self) {
        let ended = self.thread.join().expect("no panic");
        let error = ended.expect_err("the session outlived the flipped bit");
        let wrong = error.get_ref().is_some_and(|inner| inner.is::<WrongByte>());
        assert!(!wrong, "{error}");
        assert_ne!(error.kind(), io::ErrorKind::TimedOut, "it hangs: {error}");
    }
}

/// What is byte number `at`.
fn byte(at: usize) -> u8 {
    let mixed = (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed.to_be_bytes()[0]
}

/// The position of a byte that is not what was sent.
#[derive(Debug, thiserror::Error)]
#[error("byte {0} is wrong")]
struct WrongByte(usize);

/// Fails with [`WrongByte`] at the first byte that is not what was sent.
async fn there_and_back(way: &Way, came: &AtomicUsize) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(way.tcp().await?);
    let sending = async {
        let mut at = 0;
        while at < MUCH {
            let block: Vec<u8> = (at..at + 16_384).map(byte).collect();
            writer.write_all(&block).await?;
            at += block.len();
        }
        writer.flush().await
    };
    let receiving = async {
        let mut buffer = [0; 16_384];
        let mut at = 0;
        while at < MUCH {
            let count = reader.read(&mut buffer).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            for (offset, got) in buffer[..count].iter().enumerate() {
                if *got != byte(at + offset) {
                    return Err(io::Error::other(WrongByte(at + offset)));
                }
            }
            at += count;
            came.store(at, Ordering::Relaxed);
        }
        Ok(())
    };
    tokio::try_join!(sending, receiving).map(|_| ())
}

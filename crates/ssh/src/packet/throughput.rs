//! Not a test: what the cipher suites are worth here.
//! `cargo test --lib ssh::packet::throughput -- --ignored --nocapture`

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::support::{pair, suites};
use super::{Opened, Packet};
use crate::wire::Write as _;

const DATA: usize = 32 * 1024;
const PACKETS: usize = 4096;

#[test]
#[ignore = "prints figures, fails never"]
fn throughput_of_every_suite_is_printed() {
    let data = vec![7; DATA];
    for suite in suites() {
        let (mut sealer, mut opener) = pair(suite);
        let (mut seal, mut open) = (Vec::new(), Vec::new());
        for _ in 0..PACKETS {
            let mut packet = Packet::with_capacity(94, DATA + 9);
            packet.put_u32(0);
            packet.put_string(&data);
            let start = Instant::now();
            sealer.seal(&mut packet).unwrap();
            seal.push(start.elapsed());
            let start = Instant::now();
            let opened = opener.open(packet.wire()).unwrap();
            open.push(start.elapsed());
            assert!(matches!(black_box(opened), Opened::Packet { .. }));
        }
        println!(
            "{:30} {:30} seal {:5.2} GiB/s, open {:5.2} GiB/s",
            suite.cipher.name(),
            suite.mac.map_or("-", |mac| mac.name()),
            rate(seal),
            rate(open)
        );
    }
}

/// Of the median, which other work on the machine hardly moves.
fn rate(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    let median = times[times.len() / 2].as_secs_f64();
    let gib = f64::from(u32::try_from(DATA).unwrap()) / f64::from(1 << 30);
    gib / median
}

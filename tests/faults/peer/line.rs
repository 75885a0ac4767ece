//! A long line below IP: packets that the kernel routes into one end leave at the other end later,
//! at a given rate, or are lost where the line's queue is full. Unlike a proxy it ends no
//! connection, so congestion control of the kernels at either side sees the path.

use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use tun_rs::{DeviceBuilder, SyncDevice};

use crate::net::{LINE_FAR, LINE_NEAR, Line};
use crate::wait;

/// The largest packet of IP.
const PACKET: usize = 64 * 1024;
/// Bits of a byte, for a rate in bits per microsecond.
const BITS: u64 = 8;

/// A packet on its way, and when it arrives.
type Sent = (Instant, Vec<u8>);

/// Joins the two ends until the process is killed.
pub(super) fn run(line: Line) {
    let [near, far] = [LINE_NEAR, LINE_FAR].map(|name| {
        let device = DeviceBuilder::new().name(name).mtu(line.mtu).build_sync();
        device.unwrap_or_else(|error| panic!("the device {name}: {error}"))
    });
    println!("ready");
    thread::scope(|scope| {
        for (from, to, seed) in [(&near, &far, 1), (&far, &near, 2)] {
            let (sender, packets) = mpsc::channel();
            scope.spawn(move || take_in(from, line, seed, &sender));
            scope.spawn(move || give_out(to, &packets));
        }
    });
}

fn take_in(from: &SyncDevice, line: Line, seed: u64, sender: &mpsc::Sender<Sent>) {
    let mut buffer = vec![0; PACKET];
    // When the line has sent all that was accepted so far.
    let mut idle_at = Instant::now();
    let mut random = seed;
    while let Ok(count) = from.recv(&mut buffer) {
        let now = Instant::now();
        idle_at = idle_at.max(now);
        // A constant-time linear congruential generator (Knuth): the same losses in each run.
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let is_lost = (random >> 33) % 100_000 < line.lost_per_100_000;
        if is_lost || idle_at - now > line.queue {
            continue;
        }
        let bits = count as u64 * BITS;
        idle_at += Duration::from_nanos(bits * 1000 / line.megabits.max(1));
        if sender
            .send((idle_at + line.one_way, buffer[..count].to_vec()))
            .is_err()
        {
            return;
        }
    }
}

fn give_out(to: &SyncDevice, packets: &Receiver<Sent>) {
    for (due, packet) in packets {
        let left = due.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            wait::pause(left);
        }
        // A device that is being set up or down loses packets, as a cable does.
        let _ = to.send(&packet);
    }
}

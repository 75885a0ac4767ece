//! Sequences of transfers in one session over a path with a delay and a rate, in virtual time:
//! whatever came before, the streams that are busy fill the path after ten round trips and share it
//! evenly.
//!
//! Packets are not sealed and readers take no time, so that thousands of sequences can be tried.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "rates and times of a simulation, all small"
)]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::apps::Apps;
use super::pair::{CLIENT, Pair};
use super::script::payload;
use super::support::{Random, options, seeds};
use crate::connection::window::BUDGET;
use crate::connection::{BATCH_BYTES, ChannelId, Connection, Room, data_packet};
use crate::packet::Payload;
use crate::transport::Outgoing;
use crate::wire::Write as _;
use crate::{Algorithms, RekeyLimits};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const PACKET: usize = 32 * KIB;
/// The more, the better, and the longer it takes.
const SEEDS: u64 = 20;
/// Sequences that have left part of a path unused: stalled streams that held much of the budget,
/// and a long queue in front of the credit.
const ONCE_SLOW: [u64; 4] = [20741, 21420, 23321, 23934];
/// Bytes per second that a machine carries however short the path is.
const CPU: usize = 400 * MIB;
/// Round trips until the streams of a phase must fill the path, and those in which that is
/// measured.
const WARM_UP: u32 = 10;
const MEASURED: u32 = 10;

/// One direction of the path.
struct Line {
    /// Bytes per second.
    rate: usize,
    delay: Duration,
    /// What the network takes before the sender has to wait, in bytes.
    queue: usize,
    /// When the last byte that was taken leaves.
    free_at: Instant,
    flight: VecDeque<(Instant, Vec<Payload>)>,
    /// Bytes that have arrived.
    carried: usize,
}

impl Line {
    fn time(&self, bytes: usize) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.rate as f64)
    }

    /// When it takes more.
    fn has_room_at(&self, now: Instant) -> Instant {
        let at = self.free_at.checked_sub(self.time(self.queue));
        at.map_or(now, |at| at.max(now))
    }

    fn send(&mut self, packets: Vec<Payload>, now: Instant) {
        let bytes = packets.iter().map(|packet| packet.len() + 32).sum();
        self.free_at = self.free_at.max(now) + self.time(bytes);
        self.flight.push_back((self.free_at + self.delay, packets));
    }
}

/// A channel in which one side writes.
struct Stream {
    /// Its numbers on both sides.
    ids: [ChannelId; 2],
    writer: usize,
    /// It has data.
    is_busy: bool,
    /// Its reader does not read.
    is_stalled: bool,
    read: usize,
}

struct Path {
    sides: [Connection; 2],
    /// From the side of the same number to the other.
    lines: [Line; 2],
    streams: Vec<Stream>,
    now: Instant,
    sequence: u32,
}

impl Path {
    /// Streams that write on the sides `writers`.
    fn new(round_trip: Duration, rates: [usize; 2], queue: usize, writers: &[usize]) -> Self {
        let [mut near, mut far] = [Algorithms::client(), Algorithms::server()].map(options);
        for options in [&mut near, &mut far] {
            options.rekey = RekeyLimits {
                bytes: u64::MAX,
                ..RekeyLimits::DEFAULT
            };
        }
        let mut pair = Pair::with(near, far);
        // A round trip is measured as soon as the session begins.
        for wire in &mut pair.wires {
            wire.delay = round_trip / 2;
        }
        pair.authenticate();
        let mut apps = Apps::default();
        let mut streams = Vec::new();
        for writer in writers {
            let link = apps.connect(&mut pair, CLIENT);
            let ends = apps.links[link].ends.each_ref();
            streams.push(Stream {
                ids: ends.map(|end| end.as_ref().expect("open").id),
                writer: *writer,
                is_busy: false,
                is_stalled: false,
                read: 0,
            });
        }
        let now = pair.now;
        Self {
            sides: pair.sides.map(|side| side.connection),
            lines: rates.map(|rate| Line {
                rate,
                delay: round_trip / 2,
                queue,
                free_at: now,
                flight: VecDeque::new(),
                carried: 0,
            }),
            streams,
            now,
            sequence: 1000,
        }
    }

    /// So much time passes.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            while self.turn() {}
            let arrivals = self.lines.iter().filter_map(|line| line.flight.front());
            let arrivals = arrivals.map(|(at, _)| *at);
            let rooms = self.lines.iter().map(|line| line.has_room_at(self.now));
            let next = arrivals.chain(rooms).filter(|at| *at > self.now).min();
            match next {
                Some(next) if next <= end => self.now = next,
                _ => break,
            }
        }
        self.now = end;
    }

    /// What happens without waiting; false if nothing does.
    fn turn(&mut self) -> bool {
        let mut has_moved = false;
        for stream in &mut self.streams {
            let (from, to) = (stream.writer, 1 - stream.writer);
            if stream.is_busy {
                has_moved |= write(&mut self.sides[from], stream.ids[from]);
            }
            if !stream.is_stalled {
                let bytes = read(&mut self.sides[to], stream.ids[to]);
                stream.read += bytes;
                has_moved |= bytes > 0;
            }
        }
        for (line, index) in self.lines.iter_mut().zip(0..) {
            while line.has_room_at(self.now) <= self.now {
                let mut batch = Vec::new();
                self.sides[index].poll_transmit(&mut batch, self.now);
                if batch.is_empty() {
                    break;
                }
                has_moved = true;
                let packets = batch.into_iter().map(|outgoing| match outgoing {
                    Outgoing::Packet(packet) => payload(packet),
                    Outgoing::Line(_) | Outgoing::Keys(_) => panic!("an exchange of keys"),
                });
                line.send(packets.collect(), self.now);
            }
            while line.flight.front().is_some_and(|(at, _)| *at <= self.now) {
                let (_, packets) = line.flight.pop_front().expect("there");
                for packet in packets {
                    line.carried += packet.len();
                    self.sequence += 1;
                    let side = &mut self.sides[1 - index];
                    let handled = side.handle_packet(packet, self.sequence, self.now);
                    handled.expect("it is right");
                }
                has_moved = true;
            }
        }
        for side in &mut self.sides {
            // The streams look for themselves.
            while side.poll_event().is_some() {}
        }
        has_moved
    }

    /// What a packet takes there and back behind others, and the time from the end of one
    /// measurement of it to the beginning of the next.
    fn loaded_round_trip(&self) -> Duration {
        let times = self
            .lines
            .iter()
            .map(|line| line.delay + line.time(line.queue + BATCH_BYTES));
        times.sum::<Duration>() + ms(5)
    }

    /// After the warm-up of a phase the directions with busy streams are full, and those share
    /// evenly.
    fn assert_filled(&mut self, what: &str) {
        let time = self.loaded_round_trip() * MEASURED;
        self.run(self.loaded_round_trip() * WARM_UP);
        let before: Vec<usize> = self.streams.iter().map(|stream| stream.read).collect();
        let carried = [0, 1].map(|side: usize| self.lines[side].carried);
        self.run(time);
        for (line, side) in self.lines.iter().zip(0..) {
            let streams = self.streams.iter().zip(&before);
            let busy = streams.filter(|(stream, _)| {
                stream.writer == side && stream.is_busy && !stream.is_stalled
            });
            let read: Vec<usize> = busy.map(|(stream, before)| stream.read - before).collect();
            let Some(most) = read.iter().max() else {
                continue;
            };
            // What others had queued, and what fills the windows of stalled ones, is carried too. A
            // batch may have arrived just before or be just about to.
            let carried = line.carried - carried[side] + BATCH_BYTES;
            let share = carried as f64 / (line.rate as f64 * time.as_secs_f64());
            assert!(share >= 0.9, "{share:.2} of the path with {read:?}: {what}");
            // Less than a packet of each is a matter of whose turn it is.
            let least = read.iter().min().expect("there is one");
            assert!(*most <= 2 * least + 2 * PACKET, "{read:?}: {what}");
        }
        for side in &self.sides {
            side.channels.check();
            assert!(side.channels.totals().budget <= BUDGET);
        }
    }
}

fn write(side: &mut Connection, id: ChannelId) -> bool {
    let mut has_written = false;
    while let Room::Bytes { length, recipient } = side.reserve(id, PACKET) {
        let mut packet = data_packet(recipient, length);
        packet.put(&[0; PACKET][..length]);
        side.submit(id, packet);
        has_written = true;
    }
    has_written
}

fn read(side: &mut Connection, id: ChannelId) -> usize {
    let mut received = VecDeque::new();
    side.take_received(id, &mut received);
    let bytes = received.iter().map(|data| data.len()).sum();
    if bytes > 0 {
        side.read(id, bytes);
    }
    bytes
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Streams with these numbers are busy, the others rest.
fn busy(path: &mut Path, streams: std::ops::Range<usize>) {
    for (stream, index) in path.streams.iter_mut().zip(0..) {
        stream.is_busy = streams.contains(&index);
    }
}

/// What was measured to go wrong: transfers one after another, while the channels of the earlier
/// ones stay open.
#[test]
fn later_transfers_match_the_first_ones_speed() {
    for (counts, round_trip) in [
        (&[1, 8, 1][..], ms(80)),
        (&[2, 3, 1, 24], ms(60)),
        (&[8, 1, 8, 1], ms(60)),
        (&[1, 1, 1, 1, 1, 1], ms(80)),
        (&[3, 24, 3], ms(200)),
    ] {
        for writer in 0..2 {
            let total: usize = counts.iter().sum();
            let rate = (10 * MIB) as f64 / round_trip.as_secs_f64();
            let mut path = Path::new(round_trip, [rate as usize; 2], MIB, &vec![writer; total]);
            let mut begin = 0;
            for count in counts {
                busy(&mut path, begin..begin + count);
                begin += count;
                path.assert_filled(&format!("{count} of {counts:?} from {writer}"));
            }
        }
    }
}

/// Any number of streams, directions, idle phases and stalls on any path.
#[test]
fn busy_streams_fill_the_path() {
    for seed in seeds(SEEDS) {
        fill_the_path(seed);
    }
}

#[test]
fn formerly_slow_sequences_fill_the_path() {
    for seed in ONCE_SLOW {
        fill_the_path(seed);
    }
}

fn fill_the_path(seed: u64) {
    let mut random = Random::new(seed);
    let round_trip = ms(1 + random.size(300) as u64);
    let product = (128 * KIB) << random.below(7);
    let product = [product, (product >> random.below(4)).max(128 * KIB)];
    let rates = product.map(|bytes| {
        let rate = bytes as f64 / round_trip.as_secs_f64();
        rate.min(CPU as f64) as usize
    });
    // Shallow and deep ones, as the path has them.
    let least = round_trip
        .mul_f64(rates[0].min(rates[1]) as f64)
        .as_secs_f64() as usize;
    let queue = (least >> (1 + random.below(3))).max(PACKET);
    let count = 1 + random.size(64);
    let writers: Vec<usize> = (0..count).map(|_| random.below(2)).collect();
    let mut path = Path::new(round_trip, rates, queue, &writers);
    for phase in 0..4 {
        // What is stalled keeps its part of the budget, so this happens once.
        let stalls = phase == 1 && random.one_in(2);
        let share = 1 + random.below(4);
        for stream in &mut path.streams {
            stream.is_stalled = stream.is_stalled && random.one_in(2);
            stream.is_stalled |= stalls && stream.is_busy && random.one_in(2);
            stream.is_busy = random.one_in(share);
        }
        let what = format!(
            "phase {phase} of seed {seed}: {round_trip:?}, {rates:?} bytes/s, \
             a queue of {queue} bytes, {count} streams"
        );
        path.assert_filled(&what);
    }
}

//! Random programs on random wires: every byte arrives once and in order, and nothing is left at
//! the end.

use std::time::Duration;

use super::apps::Apps;
use super::pair::{CLIENT, Pair, SERVER};
use super::support::{Random, ms, options, seeds};
use crate::connection::channels::{CHANNEL_QUEUE, LITTLE, SESSION_QUEUE};
use crate::connection::window::{BASE, BUDGET};
use crate::{Algorithms, RekeyLimits};

fn random_limits(random: &mut Random) -> RekeyLimits {
    let mut limits = RekeyLimits::DEFAULT;
    if random.one_in(2) {
        limits.bytes = 4096 << random.below(8);
    }
    if random.one_in(2) {
        limits.packets = 8 << random.below(6);
    }
    if random.one_in(3) {
        limits.time = ms(4 << random.below(6));
    }
    // Both sides exchange keys far more often than a peer may.
    limits.peer_burst = u32::MAX;
    limits
}

fn random_pair(random: &mut Random) -> Pair {
    let mut near = options(Algorithms::client());
    let mut far = options(Algorithms::server());
    near.rekey = random_limits(random);
    far.rekey = random_limits(random);
    let mut pair = Pair::with(near, far);
    for wire in &mut pair.wires {
        let delay = random.below(3) * random.below(20);
        wire.delay = ms(delay as u64);
        // A byte per microsecond at least.
        wire.capacity = random.size(512 * 1024).max(64).max(delay * 1000);
        wire.piece = random.size(64 * 1024).max(16);
    }
    pair
}

fn assert_bounded(pair: &Pair) {
    for side in &pair.sides {
        let totals = side.connection.channels.totals();
        assert!(totals.fullest_queue <= CHANNEL_QUEUE);
        assert!(totals.queued <= SESSION_QUEUE + totals.channels * LITTLE);
        assert_eq!(totals.queued, totals.in_queues);
        assert!(totals.budget <= BUDGET);
        let windows = totals.channels * BASE as usize + BUDGET as usize;
        assert!(totals.received <= windows);
        assert!(totals.listed <= 4 * totals.channels, "{totals:?}");
    }
}

/// Does `steps` things at random.
fn act(pair: &mut Pair, apps: &mut Apps, random: &mut Random, steps: usize) {
    for _ in 0..steps {
        let side = random.below(2);
        let link = random.below(apps.links.len());
        match random.below(16) {
            0 if apps.links.len() < 40 => drop(apps.open(pair, side)),
            1 | 2 => {
                if let Some((side, id)) = apps.waiting.pop() {
                    if random.one_in(6) {
                        pair.sides[side].connection.refuse(id);
                    } else {
                        apps.accept(pair, side, id);
                    }
                }
            }
            _ if apps.links.is_empty() => {}
            3..=5 => {
                let size = random.size(300_000);
                apps.write_all(pair, link, side, size);
            }
            6..=8 => apps.read(pair, link, side, random.size(300_000)),
            9 if random.one_in(4) => apps.finish(pair, link, side),
            10 if random.one_in(6) => apps.release(pair, link, side),
            11 if random.one_in(4) => drop(pair.sides[side].connection.ping(pair.now)),
            _ => pair.run(Duration::from_micros(random.size(40_000) as u64)),
        }
        apps.listen(pair);
        assert_bounded(pair);
    }
}

#[test]
fn every_byte_arrives_once_in_any_order() {
    let (mut exchanges, mut bytes) = (0, 0);
    for seed in seeds(20) {
        let mut random = Random::new(seed);
        let mut pair = random_pair(&mut random);
        pair.authenticate();
        let mut apps = Apps::default();
        act(&mut pair, &mut apps, &mut random, 400);
        apps.complete(&mut pair);
        for side in [CLIENT, SERVER] {
            let side = &pair.sides[side];
            assert!(side.end.is_none(), "{:?}", side.end);
            assert_eq!(side.connection.channels.totals(), super::Totals::default());
            exchanges += side.exchanges;
        }
        let ends = apps
            .links
            .iter()
            .flat_map(|link| link.ends.iter().flatten());
        bytes += ends.map(|end| end.read).sum::<usize>();
    }
    // The schedules are worth something.
    if seeds(2).len() > 1 {
        assert!(exchanges > 200, "{exchanges} exchanges");
        assert!(bytes > 5_000_000, "{bytes} bytes");
    }
}

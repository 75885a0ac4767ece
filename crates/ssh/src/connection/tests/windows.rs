//! Windows: how they grow, what they hold, and who waits for whom.

use std::time::Duration;

use super::apps::Apps;
use super::pair::{CLIENT, Pair, SERVER};
use super::support::ms;
use crate::connection::channels::{CHANNEL_QUEUE, LITTLE, SESSION_QUEUE};
use crate::connection::window::{BASE, BUDGET};
use crate::connection::{Room, data_packet};
use crate::wire::Write as _;

const MIB: usize = 1024 * 1024;

fn window(pair: &Pair, apps: &Apps, link: usize) -> u32 {
    let end = apps.links[link].ends[SERVER].as_ref().expect("an end");
    let channels = &pair.sides[SERVER].connection.channels;
    channels.window(end.id).expect("a channel")
}

fn received(apps: &Apps, link: usize) -> usize {
    apps.links[link].ends[SERVER].as_ref().expect("an end").read
}

/// The client writes all it can on `links`, and the server reads all that comes.
fn stream(pair: &mut Pair, apps: &mut Apps, links: &[usize], time: Duration) {
    let end = pair.now + time;
    while pair.now < end {
        loop {
            pair.settle();
            apps.listen(pair);
            let mut written = 0;
            for link in links {
                written += apps.write(pair, *link, CLIENT, 32 * 1024);
            }
            pair.settle();
            apps.listen(pair);
            for link in links {
                apps.read(pair, *link, SERVER, usize::MAX);
            }
            pair.settle();
            apps.listen(pair);
            if written == 0 {
                break;
            }
        }
        let next = pair.next().expect("something to wait for").min(end);
        pair.now = next;
    }
}

fn far(capacity: usize) -> (Pair, Apps) {
    let mut pair = Pair::new();
    for wire in &mut pair.wires {
        wire.delay = ms(40);
        wire.capacity = capacity;
    }
    pair.authenticate();
    (pair, Apps::default())
}

#[test]
fn bulk_stream_gets_a_long_paths_window() {
    // 8 MiB in 40 ms.
    let (mut pair, mut apps) = far(8 * MIB);
    let [bulk, idle] = [(); 2].map(|()| apps.connect(&mut pair, CLIENT));
    stream(&mut pair, &mut apps, &[bulk], ms(800));
    assert!(
        window(&pair, &apps, bulk) >= 24 * BASE,
        "{}",
        window(&pair, &apps, bulk)
    );
    assert_eq!(window(&pair, &apps, idle), BASE);
    let (before, size) = (received(&apps, bulk), window(&pair, &apps, bulk));
    stream(&mut pair, &mut apps, &[bulk], ms(160));
    // A window in each round trip, or nearly so.
    let rate = (received(&apps, bulk) - before) / 2;
    assert!(rate >= size as usize / 2, "{rate} of {size}");
    apps.release_all(&mut pair);
    pair.run(ms(1000));
    for side in &pair.sides {
        assert_eq!(side.connection.channels.totals(), super::Totals::default());
    }
}

#[test]
fn first_channel_grows_like_a_later_one() {
    let (mut pair, mut apps) = far(MIB);
    for _ in 0..2 {
        let link = apps.connect(&mut pair, CLIENT);
        stream(&mut pair, &mut apps, &[link], ms(600));
        assert!(window(&pair, &apps, link) > BASE);
    }
}

#[test]
fn first_data_of_a_session_are_measured() {
    let (mut pair, mut apps) = (Pair::authenticated(), Apps::default());
    let link = apps.connect(&mut pair, CLIENT);
    let now = pair.now;
    assert!(pair.sides[SERVER].connection.liveness.may_measure(now));
    apps.write(&mut pair, link, CLIENT, 1);
    pair.settle();
    assert!(!pair.sides[SERVER].connection.liveness.may_measure(now));
}

#[test]
fn stalled_reader_stops_its_own_writer_only() {
    let (mut pair, mut apps) = (Pair::authenticated(), Apps::default());
    let [stalled, other] = [(); 2].map(|()| apps.connect(&mut pair, CLIENT));
    for _ in 0..100 {
        apps.write_all(&mut pair, stalled, CLIENT, MIB);
        pair.settle();
        apps.listen(&mut pair);
    }
    let written = apps.links[stalled].ends[CLIENT]
        .as_ref()
        .expect("it")
        .written;
    assert_eq!(written, BASE as usize);
    let totals = pair.sides[SERVER].connection.channels.totals();
    assert_eq!(totals.received, BASE as usize);
    while received(&apps, other) < MIB {
        assert!(apps.write(&mut pair, other, CLIENT, 32 * 1024) > 0);
        pair.settle();
        apps.read(&mut pair, other, SERVER, usize::MAX);
        pair.settle();
        apps.listen(&mut pair);
    }
    assert!(pair.sides[SERVER].connection.ping(pair.now).is_some());
    pair.settle();
    apps.listen(&mut pair);
    assert_eq!(apps.answers, 1);
    apps.complete(&mut pair);
}

#[test]
fn small_channel_waits_for_few_bulk_packets() {
    let (mut pair, mut apps) = (Pair::authenticated(), Apps::default());
    let bulk: Vec<usize> = (0..50).map(|_| apps.connect(&mut pair, CLIENT)).collect();
    let little = apps.connect(&mut pair, CLIENT);
    for link in &bulk {
        apps.write_all(&mut pair, *link, CLIENT, MIB);
    }
    let end = apps.links[little].ends[CLIENT].as_ref().expect("an end").id;
    let channels = |pair: &mut Pair| pair.sides[CLIENT].connection.channels.next_packet();
    // Three more packets of each wait.
    for _ in 0..60 {
        channels(&mut pair).expect("something to send");
    }
    assert_eq!(apps.write(&mut pair, little, CLIENT, 100), 100);
    let peer = pair.sides[CLIENT]
        .connection
        .channels
        .peer(end)
        .expect("open");
    let mut waited = 0;
    while channels(&mut pair).expect("it comes").payload()[1..5] != peer.to_be_bytes() {
        waited += 1;
    }
    assert!(waited <= 2, "it waited for {waited} packets");
}

#[test]
fn bulk_channels_share_the_wire_evenly() {
    let (mut pair, mut apps) = (Pair::authenticated(), Apps::default());
    let links: Vec<usize> = (0..10).map(|_| apps.connect(&mut pair, CLIENT)).collect();
    for link in &links {
        apps.write_all(&mut pair, *link, CLIENT, MIB);
    }
    let mut sent = [0_u32; 10];
    for _ in 0..30 {
        let packet = pair.sides[CLIENT].connection.channels.next_packet();
        let packet = packet.expect("something to send");
        sent[usize::from(packet.payload()[4])] += 1;
    }
    assert!(sent.iter().all(|sent| (2..=4).contains(sent)), "{sent:?}");
}

#[test]
fn queues_are_bounded_while_nothing_is_sent() {
    let mut pair = Pair::authenticated();
    let mut apps = Apps::default();
    let links: Vec<usize> = (0..100).map(|_| apps.connect(&mut pair, CLIENT)).collect();
    for wire in &mut pair.wires {
        wire.capacity = 0;
    }
    for link in &links {
        apps.write_all(&mut pair, *link, CLIENT, MIB);
    }
    let totals = pair.sides[CLIENT].connection.channels.totals();
    assert_eq!(totals.fullest_queue, CHANNEL_QUEUE);
    let full = SESSION_QUEUE / CHANNEL_QUEUE;
    assert_eq!(totals.queued, SESSION_QUEUE + (links.len() - full) * LITTLE);
    for wire in &mut pair.wires {
        wire.capacity = MIB;
    }
    apps.complete(&mut pair);
}

#[test]
fn unread_data_are_bounded_by_windows() {
    let mut pair = Pair::new();
    pair.wires[CLIENT].capacity = 4 * MIB;
    for wire in &mut pair.wires {
        wire.delay = ms(20);
    }
    pair.authenticate();
    let mut apps = Apps::default();
    let links: Vec<usize> = (0..8).map(|_| apps.connect(&mut pair, CLIENT)).collect();
    stream(&mut pair, &mut apps, &links, ms(400));
    // From now on no one reads.
    for _ in 0..300 {
        for link in &links {
            apps.write_all(&mut pair, *link, CLIENT, MIB);
        }
        pair.run(ms(1));
        apps.listen(&mut pair);
    }
    let totals = pair.sides[SERVER].connection.channels.totals();
    let windows = links.len() * BASE as usize + BUDGET as usize;
    assert!(totals.budget > 0 && totals.budget <= BUDGET);
    assert!(totals.received <= windows, "{totals:?}");
    assert!(totals.received_memory <= 2 * windows, "{totals:?}");
    apps.complete(&mut pair);
}

#[test]
fn unread_crumbs_take_little_memory() {
    let (mut pair, mut apps) = (Pair::authenticated(), Apps::default());
    let link = apps.connect(&mut pair, CLIENT);
    for _ in 0..20_000 {
        apps.write(&mut pair, link, CLIENT, 1);
        pair.settle();
    }
    let totals = pair.sides[SERVER].connection.channels.totals();
    assert_eq!(totals.received, 20_000);
    assert!(totals.received_memory < 4 * totals.received, "{totals:?}");
    apps.complete(&mut pair);
}

#[test]
fn small_packets_do_not_enlarge_queues() {
    let (mut pair, mut apps) = (Pair::authenticated(), Apps::default());
    let links: Vec<usize> = (0..4).map(|_| apps.connect(&mut pair, CLIENT)).collect();
    for wire in &mut pair.wires {
        wire.capacity = 0;
    }
    let channels = &mut pair.sides[CLIENT].connection.channels;
    let id = channels.open(&[]).expect("a number");
    channels
        .handle_confirmation(id.0, 7, u32::MAX, 256)
        .expect("asked for");
    while let Room::Bytes { length, recipient } = channels.reserve(id, MIB) {
        let mut packet = data_packet(recipient, length);
        packet.put(&vec![0; length]);
        channels.submit(id, packet);
    }
    let totals = channels.totals();
    assert!(totals.queue_memory <= 2 * CHANNEL_QUEUE, "{totals:?}");
    // Others are not concerned.
    apps.write_all(&mut pair, links[0], CLIENT, MIB);
    let totals = pair.sides[CLIENT].connection.channels.totals();
    assert_eq!(totals.fullest_queue, CHANNEL_QUEUE);
}

#[test]
fn writer_waits_once_for_session_room() {
    let (mut pair, mut apps) = (Pair::authenticated(), Apps::default());
    let links: Vec<usize> = (0..100).map(|_| apps.connect(&mut pair, CLIENT)).collect();
    for wire in &mut pair.wires {
        wire.capacity = 0;
    }
    for _ in 0..50 {
        for link in &links {
            apps.write_all(&mut pair, *link, CLIENT, MIB);
        }
        let channels = &mut pair.sides[CLIENT].connection.channels;
        channels.next_packet().expect("something to send");
        let (waiting, marked) = channels.waiting_for_room();
        assert_eq!(waiting, marked);
        let events = std::mem::take(&mut channels.events);
        pair.sides[CLIENT].events.extend(events);
        apps.listen(&mut pair);
    }
}

#[test]
fn many_openings_are_not_counted_as_questions() {
    let mut pair = Pair::authenticated();
    for wire in &mut pair.wires {
        wire.delay = ms(10);
    }
    let connection = &mut pair.sides[CLIENT].connection;
    for _ in 0..10_000 {
        connection
            .open(("localhost", 0), ("192.0.2.1", 1))
            .expect("room");
    }
    assert!(connection.is_listening());
    assert!(pair.sides[SERVER].connection.ping(pair.now).is_some());
    pair.run(ms(1000));
    for side in &pair.sides {
        assert!(side.end.is_none(), "{:?}", side.end);
    }
}

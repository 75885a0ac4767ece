//! What channels hold and who is notified, packet by packet.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::send::{CHANNEL_QUEUE, LITTLE, SESSION_QUEUE};
use super::{ChannelId, Channels, Event, Room, data_packet};
use crate::connection::window::{BASE, LEAST};
use crate::net::buffers::Pool;
use crate::packet::{Opened, Opener, Packet, Payload, Sealer};
use crate::wire::Write as _;

/// An open channel that the peer has granted all credit for.
fn open(channels: &mut Channels, peer: u32, max_packet: u32) -> ChannelId {
    channels.handle_open(super::DIRECT_TCPIP, peer, u32::MAX, max_packet);
    let Some(Event::Incoming(id)) = channels.events.pop_front() else {
        panic!("not opened");
    };
    assert!(channels.accept(id));
    channels.control.clear();
    id
}

/// Data as they come out of a packet.
fn data(length: usize) -> Payload {
    let mut packet = Packet::from_payload(&vec![7; length]);
    Sealer::new().seal(&mut packet).expect("sealed");
    match Opener::new().open(packet.wire()).expect("opened") {
        Opened::Packet { payload, .. } => payload,
        Opened::Needs(bytes) => panic!("needs {bytes} bytes"),
    }
}

/// Writes as much as there is room for; how much that was.
fn write(channels: &mut Channels, id: ChannelId, bytes: usize) -> usize {
    match channels.reserve(id, bytes) {
        Room::Bytes { length, recipient } => {
            let mut packet = data_packet(recipient, length);
            packet.put(&vec![7; length]);
            channels.submit(id, packet);
            length
        }
        Room::Pending => 0,
        Room::Closed => panic!("closed"),
    }
}

#[test]
fn writer_waits_for_room_in_one_place() {
    let mut channels = Channels::default();
    let count = SESSION_QUEUE / CHANNEL_QUEUE * 2;
    let ids: Vec<ChannelId> = (0..count)
        .map(|peer| {
            open(
                &mut channels,
                u32::try_from(peer).expect("small"),
                super::MAX_DATA,
            )
        })
        .collect();
    for id in &ids {
        while write(&mut channels, *id, 30_000) > 0 {}
    }
    for _ in 0..20 * count {
        assert!(channels.next_packet().is_some());
        while let Some(event) = channels.events.pop_front() {
            if let Event::Writable(id) = event {
                while write(&mut channels, id, 30_000) > 0 {}
            }
        }
        assert!(
            channels.blocked.len() <= count,
            "{}",
            channels.blocked.len()
        );
    }
}

#[test]
fn unread_small_packets_take_little_memory() {
    let mut channels = Channels::default();
    let id = open(&mut channels, 0, super::MAX_DATA);
    for length in [1, 30, 2000].into_iter().cycle().take(300) {
        channels.handle_data(id.0, data(length)).expect("taken");
    }
    let received = &channels.slot(id).expect("there").received;
    let bytes: usize = received.iter().map(|chunk| chunk.len()).sum();
    let memory: usize = received
        .iter()
        .map(|chunk| chunk.memory() + size_of::<Payload>())
        .sum();
    assert_eq!(bytes, 2031 * 100);
    assert!(memory <= 3 * bytes, "{memory} for {bytes}");
    for _ in 0..50_000 {
        channels.handle_data(id.0, data(1)).expect("taken");
    }
    let received = &channels.slot(id).expect("there").received;
    let memory: usize = received
        .iter()
        .map(|chunk| chunk.memory() + size_of::<Payload>())
        .sum();
    assert!(memory <= 3 * (bytes + 50_000), "{memory}");
}

#[test]
fn peer_with_tiny_packets_gets_no_channel() {
    for (max_packet, is_taken) in [(0, false), (1, false), (255, false), (256, true)] {
        let mut channels = Channels::default();
        channels.handle_open(super::DIRECT_TCPIP, 1, u32::MAX, max_packet);
        assert_eq!(channels.events.pop_front().is_some(), is_taken);
        let id = channels.open(b"").expect("a number");
        let answer = channels.handle_confirmation(id.0, 1, u32::MAX, max_packet);
        assert_eq!(answer.is_ok(), is_taken);
    }
}

/// A session of the only owner of `pool`.
fn accounted(pool: &Arc<Pool>) -> Channels {
    let mut channels = Channels::default();
    channels.charge_to(pool.account("owner"));
    channels
}

/// A channel that we opened, and the window that it was opened with.
fn opened(channels: &mut Channels) -> (ChannelId, u32) {
    let id = channels.open(b"").expect("a number");
    channels
        .handle_confirmation(id.0, id.0, u32::MAX, super::MAX_DATA)
        .expect("asked for");
    let window = channels.slot(id).expect("there").receive.granted();
    (id, window)
}

/// Windows of an owner whose share is used up are one packet, and do not grow; those of another one
/// are as large as ever.
#[test]
fn windows_stay_small_without_buffer_memory() {
    let limit = 8 * (BASE - LEAST) as usize;
    let pool = Pool::new(limit);
    let (mut one, mut two) = (accounted(&pool), accounted(&pool));
    let windows: Vec<u32> = (0..20)
        .flat_map(|_| [opened(&mut one).1, opened(&mut two).1])
        .collect();
    assert_eq!(windows.iter().filter(|size| **size == BASE).count(), 7);
    assert!(windows.iter().all(|size| *size >= LEAST));
    let beyond = windows.iter().map(|size| (*size - LEAST) as usize);
    assert_eq!(pool.used(), beyond.sum::<usize>());
    assert!(pool.used() <= limit - limit / 8, "{}", pool.used());

    let (id, window) = opened(&mut two);
    let far = Duration::from_millis(80);
    for _ in 0..5 {
        two.begin_round();
        two.handle_data(id.0, data(LEAST as usize / 2))
            .expect("taken");
        two.handle_data(id.0, data(LEAST as usize / 2))
            .expect("taken");
        two.take_received(id, &mut VecDeque::new());
        two.read(id, LEAST as usize);
        two.end_round(far, far);
        while two.next_packet().is_some() {}
        assert_eq!(two.window(id), Some(window), "no growth");
    }
    two.check();

    let mut other = Channels::default();
    other.charge_to(pool.account("another"));
    assert!(opened(&mut other).1 > LEAST);
    drop((one, two, other));
    assert_eq!(pool.used(), 0);
}

/// Writers of an owner whose share is used up go on with a little at a time.
#[test]
fn queues_stay_short_without_buffer_memory() {
    let pool = Pool::new(4 * CHANNEL_QUEUE);
    let mut channels = accounted(&pool);
    let count = 16;
    let ids: Vec<ChannelId> = (0..count).map(|_| opened(&mut channels).0).collect();
    let windows = pool.used();
    for id in &ids {
        while write(&mut channels, *id, 30_000) > 0 {}
        assert!(channels.slot(*id).expect("there").queued >= LITTLE);
    }
    channels.check();
    let queued = channels.queued();
    let charged = pool.used() - windows;
    assert_eq!(queued, charged + count * LITTLE);
    assert!(pool.used() <= pool.limit(), "{}", pool.used());
    assert_eq!(channels.buffered(), queued);

    // Each packet that has gone makes room for its writer.
    let mut sent = 0;
    for _ in 0..10 * count {
        sent += usize::from(channels.next_packet().is_some());
        while let Some(event) = channels.events.pop_front() {
            if let Event::Writable(id) = event {
                while write(&mut channels, id, 30_000) > 0 {}
            }
        }
    }
    assert_eq!(sent, 10 * count, "no writer is forgotten");
    channels.check();
    channels.end();
    assert_eq!(pool.used(), windows, "nothing is queued any more");
}

/// What readers have not taken is counted, and what is closed is given back.
#[test]
fn closed_channels_give_everything_back() {
    let pool = Pool::new(usize::MAX);
    let mut channels = accounted(&pool);
    let (id, window) = opened(&mut channels);
    channels.handle_data(id.0, data(1000)).expect("taken");
    let window = (window - LEAST) as usize;
    assert_eq!((channels.buffered(), pool.used()), (1000, window));
    write(&mut channels, id, LITTLE + 500);
    assert_eq!(channels.buffered(), LITTLE + 1500);
    assert_eq!(pool.used(), window + 500);
    channels.handle_close(id.0).expect("open");
    assert_eq!((channels.buffered(), pool.used()), (1000, window));
    channels.release(id);
    while channels.next_packet().is_some() {}
    assert_eq!(
        (channels.used(), channels.buffered(), pool.used()),
        (0, 0, 0)
    );
}

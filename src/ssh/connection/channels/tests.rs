//! What channels hold and who is told, packet by packet.

use super::send::{CHANNEL_QUEUE, SESSION_QUEUE};
use super::{ChannelId, Channels, Event, Room, data_packet};
use crate::ssh::packet::{Opened, Opener, Packet, Payload, Sealer};
use crate::ssh::wire::Write as _;

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
fn the_first_data_of_a_session_are_measured() {
    let mut channels = Channels::default();
    let id = open(&mut channels, 0, super::MAX_DATA);
    channels.handle_data(id.0, data(100)).expect("taken");
    assert!(channels.is_receiving());
}

#[test]
fn a_writer_waits_for_the_sessions_room_in_one_place_only() {
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
fn small_packets_that_nobody_reads_take_little_more_memory_than_their_data() {
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
fn a_peer_that_takes_tiny_packets_only_gets_no_channel() {
    for (max_packet, is_taken) in [(0, false), (1, false), (255, false), (256, true)] {
        let mut channels = Channels::default();
        channels.handle_open(super::DIRECT_TCPIP, 1, u32::MAX, max_packet);
        assert_eq!(channels.events.pop_front().is_some(), is_taken);
        let id = channels.open(b"").expect("a number");
        let answer = channels.handle_confirmation(id.0, 1, u32::MAX, max_packet);
        assert_eq!(answer.is_ok(), is_taken);
    }
}

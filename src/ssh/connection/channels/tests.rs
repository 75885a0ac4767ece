//! Channels without a connection around them.

use std::collections::VecDeque;

use super::{Channels, Event, LITTLE, MAX_DATA, Reading, Room, SESSION_QUEUE, data_packet};
use crate::ssh::connection::channel::ChannelId;
use crate::ssh::packet::{Opened, Opener, Packet, Payload, Sealer};
use crate::ssh::wire::Write as _;

/// The peer opens a channel with all the credit there is.
fn accepted(channels: &mut Channels, number: u32) -> ChannelId {
    channels.handle_open(b"direct-tcpip", number, u32::MAX, MAX_DATA);
    let Some(Event::Incoming(id)) = channels.events.pop_front() else {
        panic!("a channel comes in");
    };
    assert!(channels.accept(id));
    channels.control.clear();
    id
}

/// Data as they come, so many bytes of the same.
fn data(byte: u8, length: usize) -> Payload {
    let mut packet = Packet::from_payload(&vec![byte; length]);
    Sealer::new().seal(&mut packet).expect("sealed");
    match Opener::new().open(packet.wire()).expect("opened") {
        Opened::Packet { payload, .. } => payload,
        Opened::Needs(bytes) => panic!("{bytes} bytes are needed"),
    }
}

#[test]
fn many_small_data_are_held_in_a_few_buffers_in_their_order() {
    let mut channels = Channels::default();
    let id = accepted(&mut channels, 0);
    let mut sent = Vec::new();
    let lengths = [1, 1, 2000, 3, 1023, 1024].repeat(50);
    let lengths = lengths.into_iter().chain(std::iter::repeat_n(1, 10_000));
    for (number, length) in (0_u8..=255).cycle().zip(lengths) {
        let data = data(number, length);
        sent.extend_from_slice(&data);
        channels.handle_data(id.0, data).expect("within the window");
    }
    channels.check();
    let mut received = VecDeque::new();
    assert_eq!(channels.take_received(id, &mut received), Reading::Data);
    let memory: usize = received.iter().map(|data| data.memory() + 32).sum();
    assert!(memory < 2 * sent.len(), "{memory} for {}", sent.len());
    let received: Vec<u8> = received.iter().flat_map(|data| data.to_vec()).collect();
    assert!(received == sent, "in their order");
}

/// Writes as long as there is room.
fn write(channels: &mut Channels, id: ChannelId) {
    while let Room::Bytes { length, recipient } = channels.reserve(id, LITTLE) {
        let mut packet = data_packet(recipient, length);
        packet.put(&vec![0; length]);
        channels.submit(id, packet);
    }
}

#[test]
fn writers_that_wait_for_room_again_and_again_wait_in_one_place_each() {
    let mut channels = Channels::default();
    // Each may queue a little, however full the session is: together they keep it full.
    let many = u32::try_from(SESSION_QUEUE / LITTLE + 100).expect("a number");
    for number in 0..many {
        let id = accepted(&mut channels, number);
        write(&mut channels, id);
    }
    for _ in 0..4 * many {
        assert!(channels.next_packet().is_some(), "they keep it full");
        while let Some(event) = channels.events.pop_front() {
            let Event::Writable(id) = event else {
                panic!("{event:?}");
            };
            write(&mut channels, id);
        }
    }
    channels.check();
}

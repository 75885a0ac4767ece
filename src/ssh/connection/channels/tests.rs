//! Channels without a connection around them.

use super::{Channels, Event, LITTLE, MAX_DATA, Room, SESSION_QUEUE, data_packet};
use crate::ssh::connection::channel::ChannelId;
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

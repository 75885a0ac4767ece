//! What channels hold and who is told, packet by packet.

use super::{ChannelId, Channels, Event};
use crate::ssh::packet::{Opened, Opener, Packet, Payload, Sealer};

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

#[test]
fn the_first_data_of_a_session_are_measured() {
    let mut channels = Channels::default();
    let id = open(&mut channels, 0, super::MAX_DATA);
    channels.handle_data(id.0, data(100)).expect("taken");
    assert!(channels.is_receiving());
}

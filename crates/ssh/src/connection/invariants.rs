//! What holds of a connection at any time, whatever the peer says: for fuzzers and tests.

use super::{Connection, MAX_CONTROL};
use crate::packet::Packet;

/// Promised in this module's parent for the time before authentication.
const MAX_EARLY: usize = 200 * 1024;

impl Connection {
    /// Panics if one of them is broken. To be asked when events have been taken.
    pub(crate) fn check(&self) {
        self.channels.check();
        let control = &self.channels.control;
        // The last message may bring one too many, which ends the connection.
        assert!(control.len() <= MAX_CONTROL + 1, "answers without end");
        assert!(self.questions.len() <= 64, "questions without end");
        if !self.is_authenticated {
            let packets = self.early.iter().chain(control);
            let bytes: usize = packets.map(memory).sum();
            assert!(bytes <= MAX_EARLY, "{bytes} bytes before authentication");
        }
    }
}

/// About what a packet takes of the host's memory.
fn memory(packet: &Packet) -> usize {
    packet.payload().len().max(128).saturating_add(88)
}

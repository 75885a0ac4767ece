//! What is to be written into bytes of the connection. Pure.

use super::packet::Sealer;
use super::transport::Outgoing;
use super::{Error, packet};

/// See the module.
pub(super) struct Output {
    sealer: Sealer,
}

impl Output {
    pub(super) fn new() -> Self {
        Self {
            sealer: Sealer::new(),
        }
    }

    /// The bytes to be written, if any.
    ///
    /// # Errors
    /// The cryptography fails.
    pub(super) fn seal(&mut self, outgoing: Outgoing) -> Result<Option<Vec<u8>>, Error> {
        match outgoing {
            Outgoing::Line(line) => Ok(Some(line)),
            Outgoing::Packet(mut packet) => {
                self.sealer.seal(&mut packet).map_err(unwritable)?;
                Ok(Some(packet.into_bytes()))
            }
            Outgoing::Keys(change) => {
                self.sealer
                    .set_keys(change.suite, &change.keys, change.reset_sequence)
                    .map_err(unwritable)?;
                Ok(None)
            }
        }
    }
}

fn unwritable(error: packet::Error) -> Error {
    Error::Protocol(error.to_string())
}

//! Sockets: dialling, listening, accepting, copying. Knows nothing of tunnels.

pub mod accept;
pub mod copy;
pub mod dial;
mod failures;
pub(crate) mod handshakes;
pub(crate) mod limits;
pub mod listen;
mod lookups;
pub mod on_demand;
mod race;
pub mod reset;
pub mod resolve;
pub mod source;
pub mod status;
pub mod turn;

//! The gateway's connection to a relay: when it is made, with what, and for how long it is kept.
//!
//! [`state`] decides and does no I/O; [`run`] does what it decides; [`policy`] holds every duration
//! and bound.

pub(super) mod active_tunnel;
pub(super) mod cached_relay;
pub mod handover;
pub(super) mod handshake_race;
mod path;
pub(super) mod policy;
pub mod reconnect_trigger;
pub(super) mod relay_reselection;
pub(super) mod relay_selection;
pub(super) mod run;
pub mod session;
pub(super) mod state;
pub(super) mod tunnel;

//! Client and server against each other and against peers that misbehave, under simulated time.

mod apps;
mod breaks;
mod certificates;
mod handshake;
mod misbehaviour;
mod model;
mod pair;
mod reclaims;
mod script;
mod support;
mod transfers;
mod windows;
mod wire;

use super::channels::Totals;

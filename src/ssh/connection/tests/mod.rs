//! Client and server against each other and against peers that misbehave, under simulated time.

mod apps;
mod model;
mod pair;
mod support;
mod windows;
mod wire;

use super::channels::Totals;

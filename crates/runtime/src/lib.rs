//! What every part of the program is built on: tasks, waits, sockets, errors, events, secrets,
//! names and time. Nothing here knows the platform's API, SSH or a role.

pub mod backoff;
pub mod clock;
pub mod error;
pub mod events;
pub mod health;
pub mod humanize;
pub mod log_throttle;
pub mod names;
pub mod net;
pub mod scope;
pub mod secret;
pub mod threads;
pub mod trust;
pub mod unit_name;

//! The Infisical gateway, relay, client and embedded platform: one crate, one binary.

pub mod api;
pub mod backoff;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connect;
pub mod dev;
pub mod error;
pub mod events;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod gateway;
pub mod health;
pub mod host;
pub mod install;
pub mod log_throttle;
pub mod names;
pub mod net;
pub mod pki;
pub mod platform;
pub mod relay;
pub mod scope;
pub mod secret;
pub mod ssh;
pub mod threads;
pub mod trust;
pub mod unit_name;
pub mod words;

//! The Infisical gateway, relay, client and embedded platform: one crate, one binary.

pub mod cli;
pub mod dev;
#[cfg(test)]
mod fuzzing;
pub mod install;

pub use infisical_agent as agent;
pub use infisical_api as api;
pub use infisical_config as config;
pub use infisical_connect as connect;
pub use infisical_gateway as gateway;
pub use infisical_host as host;
pub use infisical_pki as pki;
pub use infisical_platform as platform;
pub use infisical_relay as relay;
pub use infisical_runtime::{
    backoff, clock, error, events, health, log_throttle, names, net, scope, secret, threads, trust,
    unit_name, words,
};
pub use infisical_ssh as ssh;

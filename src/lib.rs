//! The program `infisical`: its command line, the installer, and the sample that `infisical dev`
//! runs.

pub mod cli;
mod dev;
#[cfg(test)]
mod fuzzing;
pub mod install;
mod metrics;

use infisical_agent as agent;
use infisical_api as api;
use infisical_config as config;
use infisical_connect as connect;
use infisical_gateway as gateway;
use infisical_host as host;
use infisical_platform as platform;
use infisical_relay as relay;
use infisical_runtime::{
    backoff, clock, error, event, events, health, humanize, names, net, scope, secret, threads,
    trust, unit_name,
};
use infisical_ssh as ssh;

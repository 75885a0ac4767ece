//! Configuration: from flags, environment and file to the validated [`settings`] of a role.
//!
//! Three stages: [`raw`] holds what was given, each value with its origin; [`assemble_gateway`] and
//! [`assemble_relay`] judge it, and report everything that is wrong at once; [`settings`] are ready
//! to use. Flags win over the environment, which wins over the file, which wins over defaults.

use infisical_runtime::{backoff, error, names, secret, trust, unit_name};

mod assemble;
#[cfg(test)]
mod case;
pub mod cli_files;
pub mod cloud;
pub mod credential;
mod domain;
pub mod effective;
pub mod env;
pub mod file;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod fuzzing;
mod gateway;
mod gateway_targets;
pub mod listen;
pub mod log;
mod login;
pub mod metrics;
mod no_proxy;
pub mod proxy;
pub mod raw;
mod relay;
pub mod relay_host;
pub mod role;
pub mod settings;
pub mod table;
pub mod targets;
pub mod token;
pub mod value;
pub mod warning;

pub use assemble::{Assembled, Inputs, default_directory};
pub use gateway::{GatewayEgress, assemble_gateway, assemble_gateway_egress};
pub use gateway_targets::{GatewayTargets, assemble_gateway_targets};
pub use relay::{assemble_relay, relay_asks_for_low_port};

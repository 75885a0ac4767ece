//! The platform's HTTP API: its client, the logins, and the wire types that the embedded platform
//! uses too.

pub mod access;
mod answer;
mod client;
mod error;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod fuzzing;
mod lenient;
pub mod login;
mod outbound;
pub mod people;
pub mod provider_client;
mod resolve;
mod retry_after;
pub mod services;
pub mod session_reports;
pub mod types;
pub mod unverified;

use infisical_config as config;
use infisical_runtime::{clock, humanize, log_throttle, names, net, secret, trust};

pub use client::Client;
pub use error::{Error, Foreign, Redirect};

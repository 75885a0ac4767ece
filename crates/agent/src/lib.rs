//! What gateway and relay both do: log in, enroll, renew their credentials, send heartbeats, and
//! follow changes of their settings.

use infisical_api as api;
use infisical_config as config;
use infisical_runtime::{backoff, clock, error, event, events, log_throttle, scope, secret, trust};

pub mod access;
pub mod enroll;
pub mod heartbeat;
pub mod last_known_good;
pub mod refusals;
pub mod reload;
pub mod renew;

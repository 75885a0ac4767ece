//! What gateway and relay both do: log in, enroll, read and renew their credentials, send
//! heartbeats, follow changes of their settings, and publish their status.

use infisical_api as api;
use infisical_config as config;
use infisical_host as host;
use infisical_pki as pki;
use infisical_runtime::{
    backoff, clock, error, event, events, humanize, log_throttle, names, net, scope, secret, trust,
};
use infisical_ssh as ssh;

pub mod access;
pub mod announce;
pub mod credentials;
pub mod enroll;
pub mod heartbeat;
pub mod last_known_good;
pub mod refusals;
pub mod reload;
pub mod renew;
pub mod status;

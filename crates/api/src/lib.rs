//! The wire types of the platform's HTTP API, the same for its client and for the embedded platform.

mod lenient;
pub mod types;

use infisical_runtime::{names, secret};

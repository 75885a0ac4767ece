//! The crate `infisical-host`, and what of the host needs configuration files.

pub mod known;

pub use infisical_host::*;

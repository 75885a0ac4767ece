//! What gateway and relay both do on the machine they run on.

use infisical_config as config;
use infisical_runtime::error;

pub mod known;

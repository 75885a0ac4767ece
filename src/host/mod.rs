//! The host: the service manager's notifications and signals. Knows nothing of tunnels.

pub mod notify;
pub mod parent;
pub mod ready_file;
pub mod signals;

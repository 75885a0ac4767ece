//! The host: the service manager's notifications, signals and limits. Knows nothing of tunnels.

pub mod journal;
pub mod limits;
pub mod notify;
pub mod parent;
pub mod ready_file;
pub mod signals;

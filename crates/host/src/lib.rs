//! The host: the service manager's notifications, its journal, signals, limits and privileges.
//! Knows nothing of tunnels.

use infisical_runtime::{backoff, error, event, events, health, humanize, net, scope};

pub mod handover;
pub mod journal;
pub mod limits;
pub mod notify;
pub mod parent;
pub mod privileges;
pub mod ready_file;
pub mod signals;
pub mod system_events;
pub mod systemd;
pub mod unit;
pub mod watchdog;

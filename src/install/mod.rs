//! Installing a gateway or a relay as a service: which files, what is in them, what of it changes,
//! and in which order it is done. The words of the commands and what is printed are `cli`'s.
//!
//! - [`lock`]: one installation at a time.
//! - [`online`]: waiting until a gateway's tunnel is up.
//! - [`place`]: the names of units, files and directories; pure.
//! - [`unit_templates`]: the unit files, as they are in `systemd/`, made to fit this machine.
//! - [`conflict`]: whether a name is in use by anything that this program did not write.
//! - [`foreign`]: lines of an environment file that are no settings; pure.
//! - [`handed_over`]: whether a service has the configuration that is in its file.
//! - [`existing`]: what a unit file that is already there is; nothing foreign is overwritten.
//! - [`private`]: the configuration's files and directories, root's alone; what a crash left of
//!   them.
//! - [`program`]: whether the unit could execute this program where it lies.
//! - [`existing_unit`]: what a unit that is to be replaced says itself; pure.
//! - [`rotation`]: the rule for logrotate that the deployed installer wrote beside its unit.
//! - [`sandbox`]: which paths a service does not see.
//! - [`setting_file`]: whether a service can use a file that a setting names.
//! - [`config_changes`]: what the configuration file must say, and no longer say; pure.
//! - [`plan`]: all files with their changes, then made; an account of them.
//!
//! Nothing here contacts the platform: an enrollment token is exchanged by its role, between the
//! plan and its execution.

pub(crate) mod config_changes;
pub(crate) mod conflict;
pub(crate) mod existing;
pub(crate) mod existing_unit;
pub(crate) mod foreign;
pub(crate) mod handed_over;
pub(crate) mod lock;
pub mod memory;
pub(crate) mod online;
pub mod place;
pub(crate) mod plan;
pub mod platform;
pub(crate) mod private;
pub(crate) mod program;
pub(crate) mod rotation;
pub(crate) mod sandbox;
pub(crate) mod setting_file;
pub mod unit_templates;

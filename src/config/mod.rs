//! Configuration: from flags, environment and file to the validated [`settings`] of a role.

pub mod settings;

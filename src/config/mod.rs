//! Configuration: from flags, environment and file to the validated [`settings`] of a role.

pub mod env;
pub mod file;
pub mod settings;
pub mod token;

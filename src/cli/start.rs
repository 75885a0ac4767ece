//! What starting a gateway and starting a relay have in common: from flags to settings, with
//! everything that is wrong reported and everything remarkable logged.

use std::path::Path;

use super::exit::Failure;
use super::global::Global;
use super::logging::Handle;
use crate::config::env::Environment;
use crate::config::file;
use crate::config::raw::Flags;
use crate::config::role::RoleKeys;
use crate::config::settings::LogSettings;
use crate::config::warning::Warning;
use crate::config::{Assembled, Inputs, default_directory};
use crate::error::{Reason, chain};
use crate::host::notify;

/// Settings of a role, assembled by `assemble` from `flags`, the environment and the file `config`,
/// or the file named after the role's name in the default directory. They go through
/// `log`, so that what is remarkable about them is logged as they say.
pub(crate) fn assemble<S>(
    global: &Global,
    flags: &Flags,
    config: Option<&Path>,
    keys: &RoleKeys,
    assemble: impl FnOnce(&Inputs<'_>) -> Assembled<S>,
    log: impl FnOnce(&S) -> anyhow::Result<()>,
) -> anyhow::Result<S> {
    let (settings, effective) = with_inputs(&global.environment, flags, config, keys, assemble)
        .map_err(Failure::problems)?;
    log(&settings)?;
    effective.warnings.iter().for_each(Warning::log);
    Ok(settings)
}

/// New settings while the role runs, from the same `assemble`; `logs` follow them, and are opened
/// again if they are wrong.
pub(crate) fn again<S>(
    logs: &Handle,
    assemble: impl Fn(&dyn Fn(&LogSettings) -> anyhow::Result<()>) -> anyhow::Result<S>,
) -> anyhow::Result<S> {
    let taken = assemble(&|log| {
        logs.follow(log);
        Ok(())
    });
    taken.inspect_err(|_| logs.reopen())
}

/// The error that ends a role; it is the last that the service manager hears of it.
pub(crate) fn failed(
    reason: Reason,
    error: impl std::error::Error + Send + Sync + 'static,
) -> anyhow::Error {
    notify::status(&format!("failed: {}", chain(&error)));
    // A unit is not restarted after 77. Final for a role are the platform's refusal and a place
    // where it can keep nothing: another file that is denied now may be just being replaced.
    Failure::of(reason.into(), error.into()).into()
}

/// Hands `read` what an assembly begins with.
pub(crate) fn with_inputs<T>(
    environment: &Environment,
    flags: &Flags,
    config: Option<&Path>,
    keys: &RoleKeys,
    read: impl FnOnce(&Inputs<'_>) -> T,
) -> T {
    let is_root = nix::unistd::geteuid().is_root();
    let directory = default_directory(environment, is_root, keys.folder);
    let credentials = environment.credentials_directory.as_deref();
    let load = |path: &Path| match credentials {
        Some(credentials) if path.starts_with(credentials) => file::load_credential(path),
        Some(_) | None => file::load_own(path),
    };
    read(&Inputs {
        flags,
        environment,
        config,
        directory: &directory,
        load: &load,
    })
}

//! `systemd check-reload`: what the unit of a service with a user of its own asks before a reload.

use std::path::PathBuf;

use clap::Args;

use super::exit::Failure;
use super::service::say;
use crate::install::handed_over;

/// Fail if the configuration has changed since the service manager handed it over
#[derive(Debug, Args)]
pub(crate) struct CheckReloadArgs {
    /// The configuration file
    file: PathBuf,
    /// What the service has of it
    credential: PathBuf,
}

/// Fails if a reload would go on with an old configuration.
pub(crate) fn run(args: &CheckReloadArgs) -> anyhow::Result<()> {
    let is_current = handed_over::is_current(&args.file, &args.credential);
    if is_current.map_err(Failure::unavailable)? {
        return Ok(());
    }
    // The manager keeps credentials in a directory named after the unit.
    let directory = args.credential.parent();
    let unit = directory.and_then(|path| path.file_name()?.to_str());
    let text = format!(
        "{} was changed after the service started, and systemd hands it over at a start only; the \
         service goes on with the old configuration until it is restarted: systemctl restart '{}'",
        args.file.display(),
        unit.unwrap_or("UNIT")
    );
    // The journal may not know the unit of a process that ends at once, but knows whose output
    // this is.
    say(&text);
    let text = "the configuration was changed after the start";
    Err(Failure::unavailable(anyhow::Error::msg(text)))
}

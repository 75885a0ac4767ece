//! What the deployed CLI keeps for the person who types the command.

use std::io::{self, IsTerminal as _};

use crate::config::cli_files::CliDomains;
use crate::config::env::Environment;

/// The domains of the person's login and project. Root, services and other programs without a
/// terminal have none, so that they do not depend on who started them, and where.
pub(super) fn cli_domains(environment: &Environment) -> CliDomains {
    let user = nix::unistd::geteuid();
    let has_terminal =
        io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal();
    if user.is_root() || !has_terminal {
        return CliDomains::default();
    }
    let directory = std::env::current_dir().ok();
    let home = environment.home.as_deref();
    CliDomains::read(home, directory.as_deref(), user.as_raw())
}

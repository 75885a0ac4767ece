//! `infisical dev`: everything on one machine.

use std::path::PathBuf;

use super::exit::Failure;
use super::global::Global;
use crate::dev::console::Console;
use crate::dev::{self, Settings};
use crate::scope::Scope;

/// Try everything: platform, relay, gateway and a sample service on this machine
///
/// Starts the three roles as processes of their own, on loopback only, and says which commands
/// reach the sample services through them. Ctrl-C stops everything.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Fetch a page and a checksum through relay and gateway, say what came back, and end
    #[arg(long)]
    check: bool,
    /// Directory for state, tokens and logs, kept for the next time [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) async fn run(args: Args, global: &Global, scope: Scope) -> anyhow::Result<()> {
    let settings = Settings {
        check: args.check,
        directory: args.dir,
        program: dev::program_as_called(),
    };
    let console = Console::stdout(global.environment.no_color);
    dev::run(settings, console, scope)
        .await
        .map_err(|error| Failure::new(error.reason(), error).into())
}

//! The command line: what may be said, and which role it starts.
//!
//! The doc comments of the argument types are the help that people read. Each role has a module with its
//! arguments and a `run`, which turns them into the role's settings and starts it; nothing of what the role
//! does is decided here. Mistakes in the words themselves end with exit code 64, mistakes in what they add up to
//! with 78 ([`exit`]).

mod admin;
mod announce;
mod check;
mod check_reload;
pub mod connect;
pub mod dev;
pub mod exit;
pub mod gateway;
pub mod global;
mod install;
mod instances;
mod legacy;
pub mod logging;
pub mod platform;
pub mod print;
pub mod relay;
mod reload;
mod service;
mod setting_args;
mod start;
mod uninstall;

use clap::{Parser, Subcommand};

use crate::config::env::Environment;
use crate::config::settings::LogLevel;
use crate::host::{parent, privileges, signals};
use crate::scope::Scope;
use crate::trust;
use exit::Failure;
use global::{Global, GlobalArgs};
use logging::Handle;

/// Reaches private services without opening a port to them.
///
/// A gateway runs beside the services and dials out to a relay; clients reach the services through the relay, by
/// sessions that the platform grants. This one program is the gateway, the relay, the client and a small platform to
/// try it all with.
#[derive(Debug, Parser)]
#[command(
    name = "infisical",
    version,
    args_override_self = true,
    max_term_width = 100,
    after_help = "\
Examples:
  infisical dev                                      Try everything on this machine
  infisical gateway start edge-1 --token-file token  Run a gateway
  infisical connect edge-1 --to db.internal:5432     Reach a service behind it

Exit codes:
  0 success, 64 wrong usage, 69 something needed is unavailable, 70 a defect in the program,
  77 permission denied, 78 wrong configuration, 141 the reader of standard output has gone"
)]
pub struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Gateway(gateway::Args),
    Relay(relay::Args),
    Platform(platform::Args),
    Connect(connect::Args),
    Dev(dev::Args),
}

impl Cli {
    /// How to log: flags, then environment, then defaults. From here on a log file may be moved away.
    ///
    /// # Errors
    /// The environment asks for a level that does not exist.
    pub fn logging(&self, environment: &Environment) -> anyhow::Result<logging::Logging> {
        signals::survive_user_signals().map_err(Failure::unavailable)?;
        let default = match self.command {
            Command::Gateway(_) | Command::Relay(_) | Command::Platform(_) => LogLevel::Info,
            // A person reads along, or a program such as ssh that passes on what we say.
            Command::Connect(_) | Command::Dev(_) => LogLevel::Warn,
        };
        let mut logging = self.global.logging(environment, default)?;
        if self.installs() {
            // That is where the service will log; this command speaks to a person.
            logging.settings.file = None;
        }
        Ok(logging)
    }

    fn installs(&self) -> bool {
        match &self.command {
            Command::Gateway(args) => args.installs(),
            Command::Relay(args) => args.installs(),
            Command::Platform(_) | Command::Connect(_) | Command::Dev(_) => false,
        }
    }

    /// Gives up what a gateway or a relay does not need to be allowed. Call it before the runtime makes threads, and
    /// after logging has begun.
    pub fn give_up_privileges(&self, environment: &Environment) {
        let keep = match &self.command {
            Command::Gateway(args) => args.keeps(),
            Command::Relay(args) => args.keeps(environment),
            // A person's own process, which may be asked to start others.
            Command::Platform(_) | Command::Connect(_) | Command::Dev(_) => None,
        };
        if let Some(keep) = keep {
            privileges::give_up(keep);
        }
    }

    /// Does what was asked, until it is done or a signal ends it. Must be called inside the runtime.
    ///
    /// # Errors
    /// Whatever made it fail; [`exit::Code::of`] gives its exit code.
    pub async fn run(self, environment: Environment, logs: Handle) -> anyhow::Result<()> {
        let global = Global::new(self.global, environment);
        trust::roots().set_source(global.root_certificates());
        let reopen = logs.clone();
        signals::on_reopen(move || reopen.reopen()).map_err(Failure::unavailable)?;
        let scope = Scope::new("infisical");
        if global.args.exit_on_stdin_close {
            parent::stop_with_parent(&scope).map_err(Failure::unavailable)?;
        }
        run(self.command, &global, logs, scope).await?;
        print::finish()
    }
}

async fn run(command: Command, global: &Global, logs: Handle, scope: Scope) -> anyhow::Result<()> {
    match command {
        // These two read all of their configuration first, which a single ^C may still end.
        Command::Gateway(args) => Box::pin(gateway::run(args, global, &logs, scope)).await,
        Command::Relay(args) => Box::pin(relay::run(args, global, &logs, scope)).await,
        Command::Platform(args) => {
            stop_on_signal(&scope, &logs)?;
            Box::pin(platform::run(args, global, scope)).await
        }
        Command::Connect(args) => {
            stop_on_signal(&scope, &logs)?;
            Box::pin(connect::run(args, global, scope)).await
        }
        Command::Dev(args) => {
            stop_on_signal(&scope, &logs)?;
            Box::pin(dev::run(args, global, scope)).await
        }
    }
}

fn stop_on_signal(scope: &Scope, logs: &Handle) -> anyhow::Result<()> {
    let logs = logs.clone();
    let last_words = move || drop(logs.written_at_the_end());
    signals::stop_on_signal(scope, last_words).map_err(Failure::unavailable)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Cli;

    #[test]
    fn the_command_tree_is_sound() {
        Cli::command().debug_assert();
    }
}

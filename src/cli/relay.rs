//! `infisical relay`: arguments to settings, settings to a running relay.

use clap::{Args as ClapArgs, Subcommand};

use super::check;
use super::doctor;
use super::exit::Failure;
use super::global::Global;
use super::handover::InitialCharge;
use super::legacy::Rest;
use super::logging::Handle;
use super::setting_args::Relay;
use super::start::{self, Duties, Start, check_help};
use super::{install, status};
use crate::config::env::Environment;
use crate::config::{relay_asks_for_low_port, role};
use crate::host::privileges::Keep;
use crate::install::place::Role;
use crate::metrics::Counted;
use crate::relay::{self, metrics::Metrics};
use crate::scope::Scope;

/// Run a relay: the meeting point of gateways and clients
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a relay and serve until it is stopped
    #[command(after_help = START_HELP)]
    Start(Box<Start<Relay>>),
    /// Show what a start would use, and where each setting comes from, without starting anything
    #[command(after_help = check_help(Role::Relay))]
    Check(Box<check::CheckArgs<Relay>>),
    /// Install a relay as a systemd service, or remove it
    Systemd(Box<install::SystemdArgs<Relay>>),
    /// Show how a relay that runs here is
    Status(status::StatusArgs),
    /// Exit with 0 if a relay that runs here is healthy, and print nothing
    Healthcheck(status::HealthcheckArgs),
    /// Check each layer between this machine and a working relay, and name what to change
    Doctor(Box<doctor::Args<Relay>>),
    #[command(hide = true)]
    Install(Rest),
    #[command(hide = true)]
    Uninstall(Rest),
}

const START_HELP: &str = "\
Gateways and clients always use the ports 2222 and 8443 of the relay's host.

Configuration comes from flags, then environment variables, then the file, then defaults. The file holds \
KEY=value lines with the names of the environment variables, or the same as TOML; it belongs to its owner alone \
(chmod 600), and is by default /etc/infisical/relays/NAME.conf for root, ~/.infisical/relays/NAME.conf for others.

Examples:
  # A relay of your organization, enrolled with a one-time token.
  infisical relay start --name eu-1 --host relay.example.com \\
    --enroll-method=token --token-file enrollment-token

  # A relay of your own instance.
  INFISICAL_RELAY_AUTH_SECRET=... \\
    infisical relay start --type=instance --name eu-1 --host relay.example.com";

impl Args {
    /// It installs a service, or removes one.
    pub(crate) fn installs(&self) -> bool {
        matches!(self.command, Command::Systemd(_))
    }

    /// It shows how relays are; nothing is to be logged beside that.
    pub(crate) fn shows(&self) -> bool {
        matches!(self.command, Command::Status(_) | Command::Healthcheck(_))
    }

    /// What a relay that starts needs of root's powers; `None` for other commands.
    pub(crate) fn keeps(&self, environment: &Environment) -> Option<Keep> {
        let Command::Start(start) = &self.command else {
            return None;
        };
        let flags = start.flags_unread();
        let config = start.config.as_deref();
        let read = relay_asks_for_low_port;
        let asked = start::with_inputs(environment, &flags, config, &role::RELAY, read);
        Some(if asked { Keep::LowPorts } else { Keep::Nothing })
    }
}

pub(crate) async fn run(
    args: Args,
    global: &Global,
    logs: &Handle,
    scope: Scope,
) -> anyhow::Result<()> {
    let start = match args.command {
        Command::Systemd(args) => {
            return Box::pin(install::run(*args, global, logs, &scope)).await;
        }
        Command::Install(_) | Command::Uninstall(_) => {
            return Err(Failure::usage(
                "a relay is installed with: infisical relay systemd install --name NAME, and removed \
                 with: infisical relay systemd uninstall NAME",
            )
            .into());
        }
        Command::Status(args) => {
            super::stop_on_signal(&scope, logs)?;
            return status::status(Role::Relay, &args, global, &scope).await;
        }
        Command::Healthcheck(args) => {
            return status::healthcheck(Role::Relay, &args, global).await;
        }
        Command::Doctor(args) => return doctor::relay(&args, global).await,
        Command::Check(args) => return check::run(&args, global).await,
        Command::Start(start) => start,
    };
    let metrics = Metrics::default();
    let counted = Counted::Relay(metrics.clone());
    let role = async |settings, last_known_good, reporter, responder, scope| {
        Box::pin(relay::run(
            settings,
            &last_known_good,
            reporter,
            metrics,
            responder,
            scope,
        ))
        .await
    };
    let duties = Duties {
        counted,
        charge: InitialCharge::Own,
        handing: None,
    };
    start
        .run(global, logs, scope, duties, role, relay::Error::reason)
        .await
}

//! `infisical relay`: arguments to settings, settings to a running relay.

use std::io;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use tokio::sync::watch;

use super::check::Check;
use super::exit::Failure;
use super::global::Global;
use super::legacy::Rest;
use super::logging::{self, Handle};
use super::setting_args::{self, SettingArgs};
use super::{install, reload, start};
use crate::agent::known::Known;
use crate::config::env::{Environment, RELAY_NAME};
use crate::config::raw::Flags;
use crate::config::settings::LogSettings;
use crate::config::{assemble_relay, relay_asks_for_low_port, role};
use crate::health;
use crate::host::privileges::Keep;
use crate::host::signals::{self, Hangups};
use crate::host::{limits, watchdog};
use crate::scope::Scope;
use crate::trust;

/// Run a relay: the meeting point of gateways and clients
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Start(Box<Start>),
    /// Show what a start would use, and where each setting comes from, without starting anything
    #[command(after_help = CHECK_HELP)]
    Check(Box<Start>),
    Systemd(Box<install::RelayArgs>),
    #[command(hide = true)]
    Install(Rest),
    #[command(hide = true)]
    Uninstall(Rest),
}

const CHECK_HELP: &str = "\
The arguments are those of start. Without a name and --config the file is /etc/infisical/relay.conf. Secrets are shown \
as <secret>; no connection is made. Everything that is wrong is told at once, with exit code 78.";

/// Start a relay and serve until it is stopped
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
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
    infisical relay start --type=instance --name eu-1 --host relay.example.com")]
pub(crate) struct Start {
    /// Name of the relay, as a gateway's is given
    #[arg(id = "NAME", hide = true)]
    name: Option<String>,
    /// Configuration file, which also keeps the access token of an enrolled relay
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingArgs<setting_args::Relay>,
}

impl Args {
    /// It installs a service, or removes one.
    pub(crate) fn installs(&self) -> bool {
        matches!(self.command, Command::Systemd(_))
    }

    /// What a relay that starts needs of root's powers; `None` for other commands.
    pub(crate) fn keeps(&self, environment: &Environment) -> Option<Keep> {
        let Command::Start(start) = &self.command else {
            return None;
        };
        let mut flags = Flags::default();
        flags.add(&RELAY_NAME, "NAME", start.name.as_deref());
        start.settings.add_unread(&mut flags);
        let config = start.config.as_deref();
        let asked = start::with_inputs(
            environment,
            &flags,
            config,
            &role::RELAY,
            relay_asks_for_low_port,
        );
        Some(if asked { Keep::LowPorts } else { Keep::Nothing })
    }
}

impl Start {
    fn flags(&self, global: &Global, input: impl io::Read) -> Flags {
        let mut flags = Flags::default();
        flags.add(&RELAY_NAME, "NAME", self.name.as_deref());
        self.settings.add_to(&mut flags, input);
        global.args.add_to(&mut flags);
        flags
    }
}

async fn check(start: &Start, global: &Global) -> anyhow::Result<()> {
    let check = Check {
        flags: &start.flags(global, io::stdin()),
        config: start.config.as_deref(),
        keys: &role::RELAY,
    };
    check.run(global, assemble_relay).await
}

pub(crate) async fn run(
    args: Args,
    global: &Global,
    logs: &Handle,
    scope: Scope,
) -> anyhow::Result<()> {
    let start = match args.command {
        Command::Systemd(args) => {
            super::stop_on_signal(&scope, logs)?;
            signals::stop_on_hangup(&scope).map_err(Failure::unavailable)?;
            return Box::pin(install::relay(*args, global, &scope)).await;
        }
        Command::Install(_) | Command::Uninstall(_) => {
            return Err(Failure::usage(
                "a relay is installed with: infisical relay systemd install --name NAME, and removed \
                 with: infisical relay systemd uninstall NAME",
            )
            .into());
        }
        Command::Check(start) => return check(&start, global).await,
        Command::Start(start) => start,
    };
    let flags = start.flags(global, io::stdin());
    let config = start.config.as_deref();
    let assemble = |log: &dyn Fn(&LogSettings) -> anyhow::Result<()>| {
        start::assemble(
            global,
            &flags,
            config,
            &role::RELAY,
            assemble_relay,
            |settings| {
                trust::roots().set_source(settings.common.roots.clone());
                log(&settings.common.log)
            },
        )
    };
    let settings = assemble(&|log| logs.apply(log).map_err(logging::failure))?;
    super::stop_on_signal(&scope, logs)?;
    let hangups = Hangups::catch().map_err(Failure::unavailable)?;
    limits::raise_descriptors();
    let (settings, followed) = watch::channel(settings);
    let (responder, probe) = health::liveness();
    let beside = Scope::new("beside the relay");
    beside.spawn("watchdog", watchdog::run(probe));
    let again = || start::again(logs, assemble);
    let handed_over = reload::is_handed_over(config, &global.environment);
    let reloading = reload::follow(hangups, handed_over, again, settings, |_| ());
    let known = Known::new(global.environment.state_directory.clone());
    let running = Box::pin(crate::relay::run(followed, &known, responder, scope));
    let ended = tokio::select! {
        ended = running => ended,
        () = reloading => Ok(()),
    };
    ended.map_err(|error| start::failed(error.reason(), error))
}

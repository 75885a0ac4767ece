//! `infisical gateway systemd` and `infisical relay systemd`: words to an order, which is first
//! decided on and then carried out.
//!
//! The order of things is what makes it safe to run: everything is judged before anything is
//! written ([`decide`]); a one-time token is spent next, and what it obtains is saved at once; units
//! come last ([`execute`]). What fails can be run again, and does only what is left.

mod decide;
mod execute;
mod only;
mod paths;
mod platform;
mod units;

pub(crate) use only::with_name_of;
pub(crate) use platform::{PlatformArgs, platform};
pub(crate) use units::{refusal, stale_rotation};

use std::io;

use clap::{Args as ClapArgs, Subcommand};

use super::check_reload::{self, CheckReloadArgs};
use super::global::Global;
use super::service;
use super::setting_args::{self, SettingArgs};
use super::uninstall::{self, UninstallArgs};
use crate::config::env::{GATEWAY_NAME, RELAY_NAME, Variable};
use crate::config::raw::Flags;
use crate::config::warning::Problem;
use crate::host::systemd::Systemd;
use crate::host::unit::Version;
use crate::install::place::{Place, Role};
use crate::scope::Scope;
use units::Found;

/// Install a gateway as a systemd service, or remove it
#[derive(Debug, ClapArgs)]
pub(crate) struct GatewayArgs {
    #[command(subcommand)]
    command: GatewayCommand,
}

#[derive(Debug, Subcommand)]
enum GatewayCommand {
    Install(Box<GatewayInstall>),
    Uninstall(UninstallArgs),
    #[command(hide = true)]
    CheckReload(CheckReloadArgs),
}

/// Install a relay as a systemd service, or remove it
#[derive(Debug, ClapArgs)]
pub(crate) struct RelayArgs {
    #[command(subcommand)]
    command: RelayCommand,
}

#[derive(Debug, Subcommand)]
enum RelayCommand {
    Install(Box<RelayInstall>),
    Uninstall(UninstallArgs),
    #[command(hide = true)]
    CheckReload(CheckReloadArgs),
}

macro_rules! after_help {
    ($examples:literal) => {
        concat!(
            "What flags and environment give is kept in the configuration file, which only root can read; a one-time token is \
             exchanged at once. The same command run again changes what differs, and nothing else.\n\n\
             The service logs to the journal, or with --log-file to a file in a directory of its own below /var/log.\n\n\
             Examples:\n",
            $examples
        )
    };
}

/// Write the configuration and the unit, enable it for boot and start it
#[derive(Debug, ClapArgs)]
#[command(after_help = after_help!(
    "  sudo infisical gateway systemd install --enroll-method=token --token-file enrollment-token --user\n\
     \x20 sudo infisical gateway systemd install edge-2 --token-file token --target-relay-name eu-1"
))]
struct GatewayInstall {
    /// Name of the gateway as one of several on this machine: its service is called NAME. Without
    /// it the service is infisical-gateway
    #[arg(value_name = "NAME")]
    instance: Option<String>,
    #[command(flatten)]
    unit: UnitArgs,
    #[command(flatten)]
    settings: SettingArgs<setting_args::Gateway>,
}

/// Write the configuration and the unit, enable it for boot and start it
#[derive(Debug, ClapArgs)]
#[command(after_help = after_help!(
    "  sudo infisical relay systemd install --name eu-1 --host relay.example.com \\\n\
     \x20   --enroll-method=token --token-file enrollment-token --user"
))]
struct RelayInstall {
    /// Name of the relay as one of several on this machine: its service is called NAME. Without it
    /// the service is infisical-relay
    #[arg(value_name = "NAME")]
    instance: Option<String>,
    #[command(flatten)]
    unit: UnitArgs,
    #[command(flatten)]
    settings: SettingArgs<setting_args::Relay>,
}

#[derive(Debug, ClapArgs)]
struct UnitArgs {
    /// Recommended: run as a user of its own instead of root
    #[arg(long, visible_alias = "dynamic-user", help_heading = "Service")]
    user: bool,
    /// Do not start it at boot
    #[arg(long, help_heading = "Service")]
    no_enable: bool,
    /// Do not start it now
    #[arg(long, help_heading = "Service")]
    no_start: bool,
    /// Show what would be written, and write nothing
    #[arg(long, help_heading = "Service")]
    dry_run: bool,
}

/// `infisical gateway systemd …`.
pub(crate) async fn gateway(
    args: GatewayArgs,
    global: &Global,
    scope: &Scope,
) -> anyhow::Result<()> {
    match args.command {
        GatewayCommand::Uninstall(args) => uninstall::run(Role::Gateway, &args, scope).await,
        GatewayCommand::CheckReload(args) => check_reload::run(&args),
        GatewayCommand::Install(args) => {
            let mut place = service::place(Role::Gateway, args.instance.as_deref())?;
            let instance = args.instance.as_deref();
            let flags = flags(&GATEWAY_NAME, instance, &args.settings, global);
            // As the deployed program does.
            if let Some(only) = with_name_of(&place) {
                service::say(&format!(
                    "This gateway is installed already as {}, and stays that.",
                    only.short()
                ));
                place = only;
            }
            Install {
                place,
                unit: &args.unit,
                global,
                scope,
            }
            .run(flags)
            .await
        }
    }
}

/// `infisical relay systemd …`.
pub(crate) async fn relay(args: RelayArgs, global: &Global, scope: &Scope) -> anyhow::Result<()> {
    match args.command {
        RelayCommand::Uninstall(args) => uninstall::run(Role::Relay, &args, scope).await,
        RelayCommand::CheckReload(args) => check_reload::run(&args),
        RelayCommand::Install(args) => {
            let place = service::place(Role::Relay, args.instance.as_deref())?;
            let instance = args.instance.as_deref();
            let mut flags = flags(&RELAY_NAME, instance, &args.settings, global);
            if let Some(only) = with_name_of(&place) {
                flags.problems.push(Problem::new(format!(
                    "this relay is installed already as {}; run the same command without NAME",
                    only.short()
                )));
            }
            Install {
                place,
                unit: &args.unit,
                global,
                scope,
            }
            .run(flags)
            .await
        }
    }
}

/// What the command was told; `instance` is the positional name of a role, whose setting is `name`.
fn flags<R>(
    name: &'static Variable,
    instance: Option<&str>,
    settings: &SettingArgs<R>,
    global: &Global,
) -> Flags {
    let mut flags = Flags::default();
    flags.add(name, "NAME", instance);
    let only = settings.value("--name");
    if instance.is_some() && only.is_some() && instance != only {
        let text = "NAME and --name differ: NAME is the name of one of several, --name that of the only one";
        flags.problems.push(Problem::new(text));
    }
    settings.add_to(&mut flags, io::stdin());
    global.args.add_to(&mut flags);
    flags
}

/// One installation, as it was ordered.
struct Install<'a> {
    place: Place,
    unit: &'a UnitArgs,
    global: &'a Global,
    scope: &'a Scope,
}

impl Install<'_> {
    async fn run(&self, flags: Flags) -> anyhow::Result<()> {
        let systemd = if self.unit.dry_run {
            Systemd::find().await.ok()
        } else {
            Some(service::administrator(&self.place.command("install")).await?)
        };
        let version = systemd.as_ref().map_or(Version::NEWEST, Systemd::version);
        // What is decided on must not be changed by another installation meanwhile.
        let _lock = match (&systemd, self.unit.dry_run) {
            (Some(_), false) => Some(service::alone(self.scope).await?),
            (Some(_) | None, _) => None,
        };
        let found = Found::look(systemd.as_ref(), &self.place).await?;
        let decided = self.decide(flags, found, version)?;
        match systemd.filter(|_| !self.unit.dry_run) {
            Some(systemd) => self.execute(decided, &systemd).await,
            None => self.show(&decided),
        }
    }
}

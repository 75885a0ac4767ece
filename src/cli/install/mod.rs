//! `infisical gateway systemd` and `infisical relay systemd`: words to an order, which is first
//! decided on and then carried out.
//!
//! The order of things is what makes it safe to run: everything is judged before anything is
//! written ([`decide`]); a one-time token is spent next, and what it obtains is saved at once;
//! units come last ([`execute`]). What fails can be run again, and does only what is left.

mod decide;
mod execute;
pub(super) mod only;
mod paths;
mod platform;
mod units;

pub(crate) use only::with_name_of;
pub(crate) use platform::{PlatformArgs, platform};
pub(crate) use units::{refusal, stale_rotation};

use std::io;

use clap::{Args as ClapArgs, Subcommand};

use super::check_reload::{self, CheckReloadArgs};
use super::exit::Failure;
use super::global::Global;
use super::logging::Handle;
use super::service;
use super::setting_args::SettingArgs;
use super::start::Daemon;
use super::uninstall::{self, UninstallArgs};
use crate::config::raw::Flags;
use crate::config::warning::Problem;
use crate::host::signals;
use crate::host::systemd::Systemd;
use crate::host::unit::Version;
use crate::install::place::{Place, Role};
use crate::scope::Scope;
use units::Found;

#[derive(Debug, ClapArgs)]
pub(crate) struct SystemdArgs<R: Daemon> {
    #[command(subcommand)]
    command: Command<R>,
}

#[derive(Debug, Subcommand)]
enum Command<R: Daemon> {
    Install(Box<InstallArgs<R>>),
    Uninstall(UninstallArgs),
    #[command(hide = true)]
    CheckReload(CheckReloadArgs),
}

/// Write the configuration and the unit, enable it for boot and start it
#[derive(Debug, ClapArgs)]
#[command(after_help = R::INSTALL_HELP)]
struct InstallArgs<R: Daemon> {
    #[arg(value_name = "NAME", help = format!(
        "Name of the {0} as one of several on this machine: its service is called NAME. Without it \
         the service is infisical-{0}", R::ROLE))]
    instance: Option<String>,
    #[command(flatten)]
    unit: UnitArgs,
    #[command(flatten)]
    settings: SettingArgs<R>,
}

#[derive(Debug, ClapArgs)]
struct UnitArgs {
    /// Recommended: run as a user of its own instead of root
    #[arg(long, visible_alias = "dynamic-user", help_heading = "Service")]
    user: bool,
    #[command(flatten, next_help_heading = "Service")]
    steps: Steps,
}

/// How far an installation goes.
#[derive(Debug, ClapArgs)]
struct Steps {
    /// Do not start it at boot
    #[arg(long)]
    no_enable: bool,
    /// Do not start it now
    #[arg(long)]
    no_start: bool,
    /// Show what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
}

impl Steps {
    /// The service manager, of which a dry run has no need.
    async fn systemd(&self, command: &str) -> anyhow::Result<Option<Systemd>> {
        if self.dry_run {
            return Ok(Systemd::find().await.ok());
        }
        Ok(Some(service::administrator(command).await?))
    }
}

/// `infisical gateway systemd …` and `infisical relay systemd …`.
pub(crate) async fn run<R: Daemon>(
    args: SystemdArgs<R>,
    global: &Global,
    logs: &Handle,
    scope: &Scope,
) -> anyhow::Result<()> {
    super::stop_on_signal(scope, logs)?;
    signals::stop_on_hangup(scope).map_err(Failure::unavailable)?;
    let args = match args.command {
        Command::Uninstall(args) => return uninstall::run(R::ROLE, &args, scope).await,
        Command::CheckReload(args) => return check_reload::run(&args),
        Command::Install(args) => args,
    };
    let mut place = service::place(R::ROLE, args.instance.as_deref())?;
    let mut flags = args.flags(global);
    if let Some(only) = with_name_of(&place) {
        let short = only.short();
        match R::ROLE {
            // As the deployed program does.
            Role::Gateway => {
                service::say(&format!(
                    "This gateway is installed already as {short}, and stays that."
                ));
                place = only;
            }
            Role::Relay => flags.problems.push(Problem::new(format!(
                "this relay is installed already as {short}; run the same command without NAME"
            ))),
        }
    }
    let install = Install {
        place,
        unit: &args.unit,
        global,
        scope,
    };
    install.run(flags).await
}

impl<R: Daemon> InstallArgs<R> {
    /// What the command was told.
    fn flags(&self, global: &Global) -> Flags {
        let mut flags = Flags::default();
        let instance = self.instance.as_deref();
        flags.add(R::ROLE.keys().name, "NAME", instance);
        let only = self.settings.value("--name");
        if instance.is_some() && only.is_some() && instance != only {
            let text = "NAME and --name differ: NAME is the name of one of several, --name that of the only one";
            flags.problems.push(Problem::new(text));
        }
        self.settings.add_to(&mut flags, io::stdin());
        global.args.add_to(&mut flags);
        flags
    }
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
        let steps = &self.unit.steps;
        let systemd = steps.systemd(&self.place.command("install")).await?;
        let version = systemd.as_ref().map_or(Version::NEWEST, Systemd::version);
        // What is decided on must not be changed by another installation meanwhile.
        let _lock = match (&systemd, steps.dry_run) {
            (Some(_), false) => Some(service::alone(self.scope).await?),
            (Some(_) | None, _) => None,
        };
        let found = Found::look(systemd.as_ref(), &self.place).await?;
        let decided = self.decide(flags, found, version)?;
        match systemd.filter(|_| !steps.dry_run) {
            Some(systemd) => Box::pin(self.execute(decided, &systemd)).await,
            None => self.show(&decided),
        }
    }
}

//! `infisical gateway systemd` and `infisical relay systemd`: words to an order, which is first decided on and then carried
//! out.
//!
//! The order of things is what makes it safe to run: everything is judged before anything is written ([`decide`]); a
//! one-time token is spent next, and what it buys is saved at once; units come last ([`execute`]). What fails can be run
//! again, and does only what is left.

mod decide;
mod execute;

pub(crate) use decide::refusal;

use std::io;
use std::net::SocketAddr;

use clap::{Args as ClapArgs, Subcommand};

use super::global::Global;
use super::identity::IdentityArgs;
use super::service;
use super::uninstall::{self, UninstallArgs};
use crate::config::env::{
    GATEWAY_ENROLL_METHOD, GATEWAY_ID, GATEWAY_NAME, RELAY_AUTH_SECRET, RELAY_ENROLL_METHOD,
    RELAY_HOST, RELAY_ID, RELAY_NAME, RELAY_SSH_LISTEN, RELAY_TLS_LISTEN, RELAY_TYPE,
};
use crate::config::raw::Flags;
use crate::config::remark::Problem;
use crate::host::systemd::Systemd;
use crate::host::unit::Version;
use crate::install::place::{Place, Role};
use crate::scope::Scope;

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
    /// Name of the gateway as one of several on this machine: its service is infisical-gateway@NAME. Without it the
    /// service is infisical-gateway
    #[arg(value_name = "NAME")]
    instance: Option<String>,
    /// Name of the only gateway, by default that of the machine [env: INFISICAL_GATEWAY_NAME]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Use this relay; otherwise the nearest healthy one is chosen [env: INFISICAL_RELAY_NAME]
    #[arg(long, value_name = "NAME")]
    target_relay_name: Option<String>,
    /// Older spelling of --target-relay-name
    #[arg(long, value_name = "NAME", hide = true)]
    relay: Option<String>,
    #[command(flatten)]
    unit: UnitArgs,
    /// Id of the gateway, for --enroll-method=aws [env: INFISICAL_GATEWAY_ID]
    #[arg(long, value_name = "ID", help_heading = "Credentials")]
    gateway_id: Option<String>,
    #[command(flatten)]
    identity: IdentityArgs,
}

/// Write the configuration and the unit, enable it for boot and start it
#[derive(Debug, ClapArgs)]
#[command(after_help = after_help!(
    "  sudo infisical relay systemd install --name eu-1 --host relay.example.com \\\n\
     \x20   --enroll-method=token --token-file enrollment-token --user"
))]
struct RelayInstall {
    /// Name of the relay as one of several on this machine: its service is infisical-relay@NAME. Without it the service
    /// is infisical-relay
    #[arg(value_name = "NAME")]
    instance: Option<String>,
    /// Name of the only relay [env: INFISICAL_RELAY_NAME]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// DNS name or IP address at which gateways and clients reach it [env: INFISICAL_RELAY_HOST]
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Whose relay it is, by default org: the organization's or the whole instance's [env: INFISICAL_RELAY_TYPE]
    #[arg(long = "type", value_name = "TYPE", value_parser = ["org", "instance"])]
    kind: Option<String>,
    /// Where gateways are awaited, by default port 2222 of every address
    #[arg(long, value_name = "ADDR:PORT")]
    ssh_listen: Option<SocketAddr>,
    /// Where clients are awaited, by default port 8443 of every address
    #[arg(long, value_name = "ADDR:PORT")]
    tls_listen: Option<SocketAddr>,
    /// Secret that the instance shares with its relays, for --type=instance; rather give it by the environment
    /// [env: INFISICAL_RELAY_AUTH_SECRET]
    #[arg(long, value_name = "SECRET", help_heading = "Credentials")]
    relay_auth_secret: Option<String>,
    #[command(flatten)]
    unit: UnitArgs,
    /// Id of the relay, for --enroll-method=aws [env: INFISICAL_RELAY_ID]
    #[arg(long, value_name = "ID", help_heading = "Credentials")]
    relay_id: Option<String>,
    #[command(flatten)]
    identity: IdentityArgs,
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
        GatewayCommand::Install(args) => {
            let place = service::place(Role::Gateway, args.instance.as_deref())?;
            let mut flags = Flags::default();
            flags.add(&GATEWAY_NAME, "NAME", args.instance.as_deref());
            flags.add(&GATEWAY_NAME, "--name", args.name.as_deref());
            flags.add(
                &RELAY_NAME,
                "--target-relay-name",
                args.target_relay_name.as_deref(),
            );
            flags.add(&RELAY_NAME, "--relay", args.relay.as_deref());
            let method = args.identity.enroll_method.as_deref();
            flags.add(&GATEWAY_ENROLL_METHOD, "--enroll-method", method);
            flags.add(&GATEWAY_ID, "--gateway-id", args.gateway_id.as_deref());
            one_name(args.instance.as_deref(), args.name.as_deref(), &mut flags);
            add_common(&mut flags, global, &args.identity);
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
        RelayCommand::Install(args) => {
            let place = service::place(Role::Relay, args.instance.as_deref())?;
            let mut flags = Flags::default();
            flags.add(&RELAY_NAME, "NAME", args.instance.as_deref());
            flags.add(&RELAY_NAME, "--name", args.name.as_deref());
            flags.add(&RELAY_HOST, "--host", args.host.as_deref());
            flags.add(&RELAY_TYPE, "--type", args.kind.as_deref());
            let secret = args.relay_auth_secret.as_deref();
            flags.add(&RELAY_AUTH_SECRET, "--relay-auth-secret", secret);
            let listen = |address: Option<SocketAddr>| address.map(|address| address.to_string());
            flags.add(
                &RELAY_SSH_LISTEN,
                "--ssh-listen",
                listen(args.ssh_listen).as_deref(),
            );
            flags.add(
                &RELAY_TLS_LISTEN,
                "--tls-listen",
                listen(args.tls_listen).as_deref(),
            );
            let method = args.identity.enroll_method.as_deref();
            flags.add(&RELAY_ENROLL_METHOD, "--enroll-method", method);
            flags.add(&RELAY_ID, "--relay-id", args.relay_id.as_deref());
            one_name(args.instance.as_deref(), args.name.as_deref(), &mut flags);
            add_common(&mut flags, global, &args.identity);
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

fn one_name(instance: Option<&str>, name: Option<&str>, flags: &mut Flags) {
    if instance.is_some() && name.is_some() && instance != name {
        let text = "NAME and --name differ: NAME is the name of one of several, --name that of the only one";
        flags.problems.push(Problem::new(text));
    }
}

fn add_common(flags: &mut Flags, global: &Global, identity: &IdentityArgs) {
    global.args.add_to(flags);
    identity.add_to(flags, io::stdin());
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
        let decided = self.decide(flags, version)?;
        match systemd.filter(|_| !self.unit.dry_run) {
            Some(systemd) => self.execute(decided, &systemd).await,
            None => {
                self.show(&decided);
                Ok(())
            }
        }
    }
}

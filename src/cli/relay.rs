//! `infisical relay`: arguments to settings, settings to a running relay.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, Subcommand};
use tokio::sync::watch;

use super::check::Check;
use super::exit::Failure;
use super::global::Global;
use super::identity::IdentityArgs;
use super::logging::{self, Handle};
use super::{install, reload, start};
use crate::config::env::{
    Environment, RELAY_AUTH_SECRET, RELAY_ENROLL_METHOD, RELAY_HOST, RELAY_ID, RELAY_MAX_CLIENTS,
    RELAY_MAX_GATEWAYS, RELAY_MAX_HANDSHAKES, RELAY_MAX_PER_GATEWAY, RELAY_MAX_PER_SOURCE,
    RELAY_NAME, RELAY_SSH_LISTEN, RELAY_TLS_LISTEN, RELAY_TYPE,
};
use crate::config::raw::Flags;
use crate::config::settings::LogSettings;
use crate::config::{assemble_relay, explain_relay, relay_asks_for_low_port};
use crate::health;
use crate::host::known::Known;
use crate::host::privileges::Keep;
use crate::host::signals::{self, Hangups};
use crate::host::{limits, watchdog};
use crate::scope::Scope;

/// The folder of the files that are named after relays.
const ROLES: &str = "relays";

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
}

const CHECK_HELP: &str = "\
The arguments are those of start. Without a name and --config the file is /etc/infisical/relay.conf. Secrets are shown \
as <secret>; nobody is contacted. Everything that is wrong is told at once, with exit code 78.";

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
    /// Name of the relay [env: INFISICAL_RELAY_NAME]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// DNS name or IP address at which gateways and clients reach it [env: INFISICAL_RELAY_HOST]
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Whose relay it is, by default org: the organization's or the whole instance's [env: INFISICAL_RELAY_TYPE]
    #[arg(long = "type", value_name = "TYPE", value_parser = ["org", "instance"])]
    kind: Option<String>,
    /// Where gateways are awaited, by default port 2222 of every address [env: INFISICAL_RELAY_SSH_LISTEN]
    #[arg(long, value_name = "ADDR:PORT")]
    ssh_listen: Option<String>,
    /// Where clients are awaited, by default port 8443 of every address [env: INFISICAL_RELAY_TLS_LISTEN]
    #[arg(long, value_name = "ADDR:PORT")]
    tls_listen: Option<String>,
    /// Configuration file, which also keeps the access token of an enrolled relay
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Secret that the instance shares with its relays, for --type=instance; rather give it by the environment or
    /// the file [env: INFISICAL_RELAY_AUTH_SECRET]
    #[arg(long, value_name = "SECRET", help_heading = "Credentials")]
    relay_auth_secret: Option<String>,
    /// Id of the relay, for --enroll-method=aws [env: INFISICAL_RELAY_ID]
    #[arg(long, value_name = "ID", help_heading = "Credentials")]
    relay_id: Option<String>,
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    limits: LimitArgs,
}

/// Bounds on what the relay takes on.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Connections of each port that have not proved themselves yet, by default 512; further ones wait, and one source gets seven
    /// times what is free [env: INFISICAL_RELAY_MAX_HANDSHAKES]
    #[arg(long, value_name = "N")]
    max_handshakes: Option<String>,
    /// Connections from one IPv4 address or IPv6 network of 64 bits, by default 8192; further ones are closed
    /// [env: INFISICAL_RELAY_MAX_CONNECTIONS_PER_SOURCE]
    #[arg(long, value_name = "N")]
    max_connections_per_source: Option<String>,
    /// Gateways that are connected, by default 8192; further ones are told so and disconnected
    /// [env: INFISICAL_RELAY_MAX_GATEWAYS]
    #[arg(long, value_name = "N")]
    max_gateways: Option<String>,
    /// Clients that are connected, by default 16384; further ones are closed [env: INFISICAL_RELAY_MAX_CLIENTS]
    #[arg(long, value_name = "N")]
    max_clients: Option<String>,
    /// Clients of one gateway, by default 4096; further ones are closed
    /// [env: INFISICAL_RELAY_MAX_CLIENTS_PER_GATEWAY]
    #[arg(long, value_name = "N")]
    max_clients_per_gateway: Option<String>,
}

impl LimitArgs {
    fn add_to(&self, flags: &mut Flags) {
        for (variable, flag, value) in [
            (
                &RELAY_MAX_HANDSHAKES,
                "--max-handshakes",
                &self.max_handshakes,
            ),
            (
                &RELAY_MAX_PER_SOURCE,
                "--max-connections-per-source",
                &self.max_connections_per_source,
            ),
            (&RELAY_MAX_GATEWAYS, "--max-gateways", &self.max_gateways),
            (&RELAY_MAX_CLIENTS, "--max-clients", &self.max_clients),
            (
                &RELAY_MAX_PER_GATEWAY,
                "--max-clients-per-gateway",
                &self.max_clients_per_gateway,
            ),
        ] {
            flags.add(variable, flag, value.as_deref());
        }
    }
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
        flags.add(&RELAY_NAME, "--name", start.name.as_deref());
        start.add_listen(&mut flags);
        let config = start.config.as_deref();
        let asked = start::with_inputs(environment, &flags, config, ROLES, relay_asks_for_low_port);
        Some(if asked { Keep::LowPorts } else { Keep::Nothing })
    }
}

impl Start {
    fn add_listen(&self, flags: &mut Flags) {
        let (ssh, tls) = (self.ssh_listen.as_deref(), self.tls_listen.as_deref());
        flags.add(&RELAY_SSH_LISTEN, "--ssh-listen", ssh);
        flags.add(&RELAY_TLS_LISTEN, "--tls-listen", tls);
    }

    fn flags(&self, global: &Global, input: impl io::Read) -> Flags {
        let mut flags = Flags::default();
        flags.add(&RELAY_NAME, "--name", self.name.as_deref());
        flags.add(&RELAY_HOST, "--host", self.host.as_deref());
        flags.add(&RELAY_TYPE, "--type", self.kind.as_deref());
        flags.add(
            &RELAY_AUTH_SECRET,
            "--relay-auth-secret",
            self.relay_auth_secret.as_deref(),
        );
        self.add_listen(&mut flags);
        self.limits.add_to(&mut flags);
        global.args.add_to(&mut flags);
        flags.add(
            &RELAY_ENROLL_METHOD,
            "--enroll-method",
            self.identity.enroll_method.as_deref(),
        );
        flags.add(&RELAY_ID, "--relay-id", self.relay_id.as_deref());
        self.identity.add_to(&mut flags, input);
        flags
    }
}

fn check(start: &Start, global: &Global) -> anyhow::Result<()> {
    let check = Check {
        flags: &start.flags(global, io::stdin()),
        config: start.config.as_deref(),
        name: &RELAY_NAME,
        only: Path::new("/etc/infisical/relay.conf"),
        roles: ROLES,
    };
    check.run(global, explain_relay)
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
        Command::Check(start) => return check(&start, global),
        Command::Start(start) => start,
    };
    let flags = start.flags(global, io::stdin());
    let config = start.config.as_deref();
    let assemble = |log: &dyn Fn(&LogSettings) -> anyhow::Result<()>| {
        start::assemble(global, &flags, config, ROLES, assemble_relay, |settings| {
            log(&settings.log)
        })
    };
    let settings = assemble(&|log| logs.apply(log).map_err(logging::failure))?;
    super::stop_on_signal(&scope, logs)?;
    let hangups = Hangups::catch().map_err(Failure::unavailable)?;
    limits::raise_descriptors();
    let (settings, followed) = watch::channel(settings);
    let (heart, pulse) = health::heart();
    let beside = Scope::new("beside the relay");
    beside.spawn("watchdog", watchdog::run(pulse));
    let again = || start::again(logs, assemble);
    let reloading = reload::follow(hangups, again, settings, |_| ());
    let known = Known::new(global.environment.state_directory.clone());
    let running = Box::pin(crate::relay::run(followed, &known, heart, scope));
    let ended = tokio::select! {
        ended = running => ended,
        () = reloading => Ok(()),
    };
    ended.map_err(|error| start::failed(error.reason(), error))
}

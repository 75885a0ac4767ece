//! `infisical gateway`: arguments to settings, settings to a running gateway.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand};
use tokio::sync::watch;

use super::announce::announce;
use super::check::Check;
use super::exit::Failure;
use super::global::Global;
use super::legacy::{self, Rest};
use super::logging::{self, Handle};
use super::setting_args::{self, SettingArgs};
use super::{install, reload, service, start};
use crate::agent::known::Known;
use crate::config::env::GATEWAY_NAME;
use crate::config::raw::Flags;
use crate::config::settings::LogSettings;
use crate::config::{assemble_gateway, role};
use crate::gateway::connection::reconnect_trigger::{ReconnectTrigger, ReconnectTriggers};
use crate::gateway::{self, service::http::Cluster};
use crate::health;
use crate::host::privileges::Keep;
use crate::host::signals::{self, Hangups};
use crate::host::{limits, watchdog};
use crate::scope::Scope;
use crate::trust;

/// How long the last status may take to be told; it is one datagram.
const LAST_STATUS: Duration = Duration::from_secs(1);

/// Run a gateway: the program beside your private services
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The first gateway was started with a token and no command.
    #[arg(long, hide = true)]
    token: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Start(Box<Start>),
    /// Show what a start would use, and where each setting comes from, without starting anything
    #[command(after_help = CHECK_HELP)]
    Check(Box<Start>),
    Systemd(Box<install::GatewayArgs>),
    WaitOnline(service::WaitArgs),
    Reconnect(service::ReconnectArgs),
    #[command(hide = true)]
    Install(Rest),
    #[command(hide = true)]
    Uninstall(Rest),
}

const CHECK_HELP: &str = "\
The arguments are those of start. Without a name and --config the file is /etc/infisical/gateway.conf. Secrets are shown \
as <secret>; no connection is made. Everything that is wrong is told at once, with exit code 78.";

/// Start a gateway and keep it connected to a relay until it is stopped
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Configuration comes from flags, then environment variables, then the file, then defaults. The file holds \
KEY=value lines with the names of the environment variables, or the same as TOML; it belongs to its owner alone \
(chmod 600), and is by default /etc/infisical/gateways/NAME.conf for root, ~/.infisical/gateways/NAME.conf for others.

Examples:
  # Enroll with a one-time token; the same command starts it from then on.
  infisical gateway start edge-1 --enroll-method=token --token-file enrollment-token

  # As a machine identity, through a relay of your choice.
  INFISICAL_UNIVERSAL_AUTH_CLIENT_ID=... INFISICAL_UNIVERSAL_AUTH_CLIENT_SECRET=... \\
    infisical gateway start edge-1 --auth-method=universal-auth --target-relay-name eu-1

  # In a pod, as the machine identity that trusts its service account.
  infisical gateway start edge-1 --auth-method=kubernetes --machine-identity-id ID

  # Enrolled for the AWS role of this machine.
  infisical gateway start edge-1 --enroll-method=aws --gateway-id ID")]
pub(crate) struct Start {
    /// Name of the gateway [env: INFISICAL_GATEWAY_NAME]
    #[arg(id = "NAME")]
    name: Option<String>,
    /// Configuration file, which also keeps the access token of an enrolled gateway
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingArgs<setting_args::Gateway>,
}

impl Args {
    /// It installs a service, or removes one.
    pub(crate) fn installs(&self) -> bool {
        matches!(self.command, Some(Command::Systemd(_)))
    }

    /// What a gateway that starts needs of root's powers; `None` for other commands.
    pub(crate) fn keeps(&self) -> Option<Keep> {
        match &self.command {
            Some(Command::Start(_)) => Some(Keep::Nothing),
            None
            | Some(
                Command::Check(_)
                | Command::Systemd(_)
                | Command::WaitOnline(_)
                | Command::Reconnect(_)
                | Command::Install(_)
                | Command::Uninstall(_),
            ) => None,
        }
    }
}

impl Start {
    fn flags(&self, global: &Global, input: impl io::Read) -> Flags {
        let mut flags = Flags::default();
        flags.add(&GATEWAY_NAME, "NAME", self.name.as_deref());
        self.settings.add_to(&mut flags, input);
        global.args.add_to(&mut flags);
        flags
    }
}

async fn check(start: &Start, global: &Global) -> anyhow::Result<()> {
    let check = Check {
        flags: &start.flags(global, io::stdin()),
        config: start.config.as_deref(),
        keys: &role::GATEWAY,
    };
    check.run(global, assemble_gateway).await
}

pub(crate) async fn run(
    args: Args,
    global: &Global,
    logs: &Handle,
    scope: Scope,
) -> anyhow::Result<()> {
    if args.token.is_some() {
        return Err(legacy::first_gateway());
    }
    let start = match args.command {
        None => {
            // The advice comes last, where it is seen.
            let _ = writeln!(io::stderr(), "{}", super::Cli::help_of("gateway"));
            return Err(legacy::first_gateway());
        }
        Some(Command::Install(_) | Command::Uninstall(_)) => {
            return Err(legacy::first_gateway());
        }
        Some(Command::Systemd(args)) => {
            super::stop_on_signal(&scope, logs)?;
            signals::stop_on_hangup(&scope).map_err(Failure::unavailable)?;
            return Box::pin(install::gateway(*args, global, &scope)).await;
        }
        Some(Command::WaitOnline(args)) => {
            super::stop_on_signal(&scope, logs)?;
            return service::wait_online(&args, &scope).await;
        }
        Some(Command::Reconnect(args)) => return service::reconnect(&args).await,
        Some(Command::Check(start)) => return check(&start, global).await,
        Some(Command::Start(start)) => start,
    };
    let flags = start.flags(global, io::stdin());
    let config = start.config.as_deref();
    let assemble = |log: &dyn Fn(&LogSettings) -> anyhow::Result<()>| {
        start::assemble(
            global,
            &flags,
            config,
            &role::GATEWAY,
            assemble_gateway,
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
    let (reporter, monitor) = gateway::connection::status::monitor();
    let triggers = ReconnectTriggers::default();
    let sender = triggers.sender();
    signals::on_reconnect(move || {
        tracing::info!("asked to look at the tunnel at once");
        let sender = sender.clone();
        drop(tokio::task::spawn_blocking(move || {
            trust::roots().reload_or_warn();
            // Full: the gateway is about to act already.
            let _ = sender.try_send(ReconnectTrigger::UserRequest);
        }));
    })
    .map_err(Failure::unavailable)?;
    let (responder, probe) = health::liveness();
    let beside = Scope::new("beside the gateway");
    beside.spawn("watchdog", watchdog::run(probe));
    let runtime = global.environment.runtime_directory.clone();
    let announcing = Scope::new("announcing");
    announcing.spawn("notify", async move {
        announce(monitor, runtime.as_deref()).await;
    });
    let told = reporter.clone();
    let again = || start::again(logs, assemble);
    let handed_over = reload::is_handed_over(config, &global.environment);
    let reloading = reload::follow(hangups, handed_over, again, settings, |refused| {
        told.configuration(refused);
    });
    let known = Known::new(global.environment.state_directory.clone());
    let cluster = Cluster::of_this_pod(global.environment.kubernetes_api.clone());
    let running = Box::pin(gateway::run(
        followed, cluster, reporter, triggers, known, responder, scope,
    ));
    let ended = tokio::select! {
        ended = running => ended,
        () = reloading => Ok(()),
    };
    drop(told);
    // It ends with the last line, which must be told before the process is gone.
    announcing.finish(LAST_STATUS).await;
    ended.map_err(|error| start::failed(error.reason(), error))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::{Args, Command};
    use crate::cli::Cli;
    use crate::cli::global::Global;
    use crate::config::env::{
        API_URL, AUTH_METHOD, CLIENT_ID, CLIENT_SECRET, Environment, GATEWAY_ENROLL_METHOD,
        GATEWAY_ID, GATEWAY_NAME, GCP_KEY_PATH, JWT, JWT_FILE, KUBERNETES_TOKEN_PATH,
        MACHINE_IDENTITY_ID, ORGANIZATION_SLUG, RELAY_NAME, TOKEN, Variable,
    };
    use crate::config::raw::{Flags, Raw};

    fn flags(words: &[&str], input: &str) -> Result<Flags, clap::error::ErrorKind> {
        let words = ["infisical", "gateway", "start"].iter().chain(words);
        let cli = Cli::try_parse_from(words).map_err(|error| error.kind())?;
        let global = Global::new(cli.global, Environment::default());
        let crate::cli::Command::Gateway(Args {
            command: Some(Command::Start(start)),
            ..
        }) = cli.command
        else {
            panic!("another command");
        };
        Ok(start.flags(&global, input.as_bytes()))
    }

    fn given(flags: &Flags, variable: &'static Variable) -> Option<(String, String)> {
        let environment = Environment::default();
        let raw = Raw {
            flags,
            environment: &environment,
            file: None,
        };
        let value = raw.value(variable)?;
        Some((value.origin.to_string(), value.text.expose().to_owned()))
    }

    #[test]
    fn every_flag_of_the_deployed_gateway_is_understood() {
        for (words, variable, flag, value) in [
            (&["edge"][..], &GATEWAY_NAME, "NAME", "edge"),
            (&["--name", "edge"], &GATEWAY_NAME, "--name", "edge"),
            (&["new", "--name=old"], &GATEWAY_NAME, "NAME", "new"),
            (&["--token=t"], &TOKEN, "--token", "t"),
            (&["--token", "-"], &TOKEN, "--token -", "from-input"),
            (&["--relay=r"], &RELAY_NAME, "--relay", "r"),
            (
                &["--relay=r", "--target-relay-name=n"],
                &RELAY_NAME,
                "--target-relay-name",
                "n",
            ),
            (&["--domain", "http://h"], &API_URL, "--domain", "http://h"),
            (
                &["--enroll-method=aws"],
                &GATEWAY_ENROLL_METHOD,
                "--enroll-method",
                "aws",
            ),
            (
                &["--auth-method=gcp-id-token"],
                &AUTH_METHOD,
                "--auth-method",
                "gcp-id-token",
            ),
            (&["--client-id=i"], &CLIENT_ID, "--client-id", "i"),
            (
                &["--client-secret=s"],
                &CLIENT_SECRET,
                "--client-secret",
                "s",
            ),
            (
                &["--machine-identity-id=m"],
                &MACHINE_IDENTITY_ID,
                "--machine-identity-id",
                "m",
            ),
            (
                &["--service-account-token-path=/t"],
                &KUBERNETES_TOKEN_PATH,
                "--service-account-token-path",
                "/t",
            ),
            (
                &["--service-account-key-file-path=/k"],
                &GCP_KEY_PATH,
                "--service-account-key-file-path",
                "/k",
            ),
            (&["--jwt=j"], &JWT, "--jwt", "j"),
            (&["--jwt-file=/j"], &JWT_FILE, "--jwt-file", "/j"),
            (
                &["--organization-slug=o"],
                &ORGANIZATION_SLUG,
                "--organization-slug",
                "o",
            ),
            (&["--gateway-id=g"], &GATEWAY_ID, "--gateway-id", "g"),
        ] {
            let flags = flags(words, "from-input\n").expect("understood");
            let expected = Some((flag.to_owned(), value.to_owned()));
            assert_eq!(given(&flags, variable), expected, "{words:?}");
            assert!(flags.problems.is_empty(), "{words:?}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_a_mistake_of_usage() {
        use clap::error::ErrorKind;
        for (words, kind) in [
            (
                &["--token=t", "--token-file=f"][..],
                ErrorKind::ArgumentConflict,
            ),
            (
                &["--token=t", "--auth-method=universal-auth"],
                ErrorKind::ArgumentConflict,
            ),
            (
                &["--enroll-method=token", "--auth-method=universal-auth"],
                ErrorKind::ArgumentConflict,
            ),
            (&["--jwt=j", "--jwt-file=f"], ErrorKind::ArgumentConflict),
            (&["--enroll-method=magic"], ErrorKind::InvalidValue),
            (&["--auth-method=magic"], ErrorKind::InvalidValue),
            (&["a", "b"], ErrorKind::UnknownArgument),
        ] {
            assert_eq!(flags(words, "").err(), Some(kind), "{words:?}");
        }
    }

    #[test]
    fn a_token_that_is_read_is_not_exposed_and_one_that_cannot_be_is_a_problem() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("token");
        std::fs::write(&path, "from-file\n").expect("written");
        let path = path.to_str().expect("text");
        let read = flags(&["--token-file", path], "").expect("understood");
        assert_eq!(read.exposed().count(), 0);
        assert_eq!(given(&read, &TOKEN).expect("a token").1, "from-file");
        let words = ["--token", "t", "--client-secret", "s", "--jwt", "j"];
        let typed = flags(&words, "").expect("understood");
        assert!(typed.exposed().eq(["--token", "--client-secret", "--jwt"]));
        let absent = flags(&["--token-file", "/nonexistent/token"], "").expect("understood");
        assert_eq!(absent.problems.len(), 1);
        let empty = flags(&["--token", "-"], "\n").expect("understood");
        assert_eq!(
            empty.problems.first().expect("a problem").to_string(),
            "--token -: standard input must hold a token and nothing else, on one line: the value is empty"
        );
    }

    #[tokio::test]
    async fn the_first_gateways_commands_say_what_replaced_them() {
        use crate::cli::exit::Code;
        use crate::cli::logging;
        for words in [
            &["gateway"][..],
            &["gateway", "--token", "hunter2"],
            &["gateway", "install", "--token", "hunter2"],
            &["gateway", "uninstall"],
        ] {
            let cli = Cli::try_parse_from(["infisical"].iter().chain(words)).expect("understood");
            let error = cli
                .run(Environment::default(), logging::unread())
                .await
                .expect_err("gone");
            assert_eq!(Code::of(&error), Code::Usage, "{words:?}");
            assert!(
                error
                    .to_string()
                    .contains("infisical gateway systemd install")
            );
        }
    }
}

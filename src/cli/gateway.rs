//! `infisical gateway`: arguments to settings, settings to a running gateway.

use std::io::{self, Write as _};

use clap::{Args as ClapArgs, Subcommand};

use super::check;
use super::doctor;
use super::exit::Failure;
use super::global::Global;
use super::handover::{Handing, InitialCharge};
use super::legacy::{self, Rest};
use super::logging::Handle;
use super::setting_args::Gateway;
use super::start::{Duties, Start, check_help};
use super::{egress, install, policy, service, status, upgrade};
use crate::error::chain;
use crate::gateway::audit::Audit;
use crate::gateway::connection::handover::succession;
use crate::gateway::connection::reconnect_trigger::{ReconnectTrigger, ReconnectTriggers};
use crate::gateway::{self, service::http::Cluster};
use crate::host::privileges::Keep;
use crate::host::{self, signals};
use crate::install::place::Role;
use crate::metrics::Counted;
use crate::scope::Scope;
use crate::trust;

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
    /// Start a gateway and keep it connected to a relay until it is stopped
    #[command(after_help = START_HELP)]
    Start(Box<Start<Gateway>>),
    /// Show what a start would use, and where each setting comes from, without starting anything
    #[command(after_help = check_help(Role::Gateway))]
    Check(Box<check::CheckArgs<Gateway>>),
    /// Install a gateway as a systemd service, or remove it
    Systemd(Box<install::SystemdArgs<Gateway>>),
    /// Show how a gateway that runs here is
    Status(status::StatusArgs),
    /// Show the open sessions of a gateway that runs here
    Sessions(status::SessionsArgs),
    /// Show which hosts and ports a firewall has to let the gateway reach
    Egress(Box<egress::EgressArgs>),
    /// Show what the policy for targets says
    Policy(policy::PolicyArgs),
    /// Exit with 0 if a gateway that runs here is healthy, and print nothing
    Healthcheck(status::HealthcheckArgs),
    /// Check each layer between this machine and a working gateway, and name what to change
    Doctor(Box<doctor::GatewayArgs>),
    WaitOnline(service::WaitArgs),
    Reconnect(service::ReconnectArgs),
    Upgrade(upgrade::UpgradeArgs),
    #[command(hide = true)]
    Install(Rest),
    #[command(hide = true)]
    Uninstall(Rest),
}

const START_HELP: &str = "\
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
  infisical gateway start edge-1 --enroll-method=aws --gateway-id ID";

impl Args {
    /// It installs a service, or removes one.
    pub(crate) fn installs(&self) -> bool {
        matches!(self.command, Some(Command::Systemd(_)))
    }

    /// It shows how gateways are; nothing is to be logged beside that.
    pub(crate) fn shows(&self) -> bool {
        let shows = |command: &Command| {
            matches!(
                command,
                Command::Status(_) | Command::Sessions(_) | Command::Healthcheck(_)
            )
        };
        self.command.as_ref().is_some_and(shows)
    }

    /// What a gateway that starts needs of root's powers; `None` for other commands.
    pub(crate) fn keeps(&self) -> Option<Keep> {
        matches!(self.command, Some(Command::Start(_))).then_some(Keep::Nothing)
    }
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
            return Box::pin(install::run(*args, global, logs, &scope)).await;
        }
        Some(Command::WaitOnline(args)) => {
            super::stop_on_signal(&scope, logs)?;
            return service::wait_online(&args, &scope).await;
        }
        Some(Command::Status(args)) => {
            super::stop_on_signal(&scope, logs)?;
            return status::status(Role::Gateway, &args, global, &scope).await;
        }
        Some(Command::Sessions(args)) => return status::sessions(&args, global).await,
        Some(Command::Egress(args)) => return egress::run(&args, global).await,
        Some(Command::Policy(args)) => return policy::run(&args, global).await,
        Some(Command::Healthcheck(args)) => {
            return status::healthcheck(Role::Gateway, &args, global).await;
        }
        Some(Command::Reconnect(args)) => return service::reconnect(&args).await,
        Some(Command::Upgrade(args)) => {
            super::stop_on_signal(&scope, logs)?;
            return Box::pin(upgrade::upgrade(&args, global, &scope)).await;
        }
        Some(Command::Doctor(args)) => return doctor::gateway(&args, global).await,
        Some(Command::Check(args)) => return check::run(&args, global).await,
        Some(Command::Start(start)) => start,
    };
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
    let audit = {
        let logs = logs.clone();
        Audit::new(move |line| logs.audit(line))
    };
    let recorded = audit.clone();
    let (charge, predecessor) = InitialCharge::of(&global.environment)?;
    let (control, successions) = succession();
    let handing = Handing::new(control, global.args.exit_on_stdin_close)?;
    let role = async |settings, last_known_good, reporter, responder, scope| {
        let cluster = Cluster::of_this_pod(global.environment.kubernetes_api.clone());
        let setup = gateway::Setup {
            cluster,
            audit: recorded,
            triggers,
            last_known_good,
            successions,
            predecessor,
        };
        let running = gateway::run(settings, setup, reporter, responder, scope);
        Box::pin(running).await
    };
    let duties = Duties {
        counted: Counted::Gateway(audit),
        charge,
        handing: Some(handing),
    };
    let reason = gateway::Error::reason;
    let running = start.run(global, logs, scope, duties, role, reason);
    let ended = Box::pin(running).await;
    if let Err(error) = &ended
        && global.environment.successor.is_some()
    {
        host::handover::fail(&chain(error.as_ref()).to_string());
    }
    ended
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
    fn every_deployed_gateway_flag_is_understood() {
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
    fn conflicting_arguments_are_a_usage_mistake() {
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
    fn token_file_is_read_without_exposure() {
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
    async fn first_gateways_commands_name_their_replacement() {
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

//! The command line: what may be said, and which role it starts.
//!
//! The doc comments of the argument types are the help that people read. Each role has a module
//! with its arguments and a `run`, which turns them into the role's settings and starts it; nothing
//! of what the role does is decided here. Mistakes in the words themselves end with exit code 64,
//! mistakes in what they add up to with 78 ([`exit`]).

mod admin;
mod check;
mod check_reload;
mod completions;
mod connect;
mod deployed;
mod dev;
mod doctor;
mod egress;
mod examples;
pub mod exit;
mod front;
mod gateway;
mod global;
mod hand_over_tls;
mod handover;
mod install;
mod instances;
mod legacy;
pub mod logging;
mod login;
mod manual;
mod person;
mod platform;
mod platform_access;
mod platform_audit;
mod platform_audit_verify;
mod platform_backup;
mod platform_ca;
mod platform_lists;
mod platform_oidc;
mod platform_services;
mod platform_sessions;
mod policy;
pub mod print;
mod progress;
mod relay;
mod reload;
mod service;
mod setting_args;
mod start;
mod status;
mod uninstall;
mod upgrade;

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches as _, Parser, Subcommand};

use crate::config::env::{API_URL, Environment};
use crate::config::settings::LogLevel;
use crate::config::warning::Warning;
use crate::host::{parent, privileges, signals};
use crate::scope::Scope;
use crate::trust;
use exit::Failure;
use global::{Global, GlobalArgs};
use logging::Handle;

/// What `--version` says. `make portable` adds the commit and its date; other builds know neither.
const VERSION: &str = match option_env!("INFISICAL_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

/// Reaches private services without opening a port to them.
///
/// A gateway runs beside the services and dials out to a relay; clients reach the services through
/// the relay, by sessions that the platform grants. This one program is the gateway, the relay, the
/// client and a small platform to try it all with.
#[derive(Debug, Parser)]
#[command(
    name = "infisical",
    version = VERSION,
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
    Login(login::LoginArgs),
    Logout(login::LogoutArgs),
    Dev(dev::Args),
    Completions(completions::Args),
    #[command(hide = true)]
    Man(manual::Args),
    /// Show the version
    #[command(hide = true)]
    Version,
}

impl Cli {
    /// Reads the words of a command line, the program's own name first.
    ///
    /// # Errors
    /// They are wrong, or ask for the help or the version.
    pub fn parse_words(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut command = Self::full_command();
        let words: Vec<OsString> = words.into_iter().collect();
        if let Some(error) = deployed::one_dash(&command, &words) {
            return Err(error);
        }
        let matches = command
            .try_get_matches_from_mut(words)
            .map_err(|error| deployed::without_hidden(&command, error))?;
        Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
    }

    /// Answers a shell that asks which words may come next; false if none asks.
    ///
    /// # Errors
    /// It is a shell for which there is no script, or standard output cannot be written to.
    pub fn complete(
        words: impl IntoIterator<Item = OsString>,
        environment: &Environment,
    ) -> Result<bool, clap::Error> {
        completions::answer(Self::full_command, words.into_iter().collect(), environment)
    }

    /// What to do instead of what `error` says is wrong, for commands of the deployed CLI.
    #[must_use]
    pub fn hint(error: &clap::Error) -> Option<String> {
        deployed::hint(error)
    }

    /// The command tree. Commands of a client and of an administrator have another default domain
    /// than the roles.
    #[must_use]
    pub fn full_command() -> clap::Command {
        let local = |command: clap::Command| {
            let help = format!(
                "{} [default: {}] [env: {}]",
                "Domain of the platform",
                global::LOCAL_DOMAIN,
                API_URL.name
            );
            command.arg(
                clap::Arg::new("domain")
                    .long("domain")
                    .global(true)
                    .value_name("URL")
                    .help_heading("Global options")
                    .help(help),
            )
        };
        let command = <Self as CommandFactory>::command();
        // It starts a platform of its own.
        let without = |command: clap::Command| {
            command.arg(
                clap::Arg::new("domain")
                    .long("domain")
                    .global(true)
                    .hide(true),
            )
        };
        let command = command
            .mut_subcommand("dev", without)
            .mut_subcommand("connect", local)
            .mut_subcommand("login", local)
            .mut_subcommand("logout", local)
            .mut_subcommand("platform", local);
        examples::add_to(command)
    }

    /// The help of `command`, as text.
    fn help_of(command: &str) -> String {
        let mut root = Self::full_command();
        root.build();
        let found = root.find_subcommand_mut(command);
        found.map_or_else(String::new, |command| command.render_help().to_string())
    }

    /// How to log: flags, then environment, then defaults; and what is to be logged about that.
    /// From here on a log file may be moved away.
    ///
    /// # Errors
    /// The environment asks for a level that does not exist.
    pub fn logging(
        &self,
        environment: &Environment,
    ) -> anyhow::Result<(logging::Logging, Vec<Warning>)> {
        signals::survive_user_signals().map_err(Failure::unavailable)?;
        let default = match &self.command {
            Command::Gateway(args) if args.shows() => LogLevel::Warn,
            Command::Relay(args) if args.shows() => LogLevel::Warn,
            Command::Gateway(_) | Command::Relay(_) | Command::Platform(_) => LogLevel::Info,
            // A person reads along, or a program such as ssh that passes on what we say.
            Command::Connect(_)
            | Command::Login(_)
            | Command::Logout(_)
            | Command::Dev(_)
            | Command::Completions(_)
            | Command::Man(_)
            | Command::Version => LogLevel::Warn,
        };
        let mut warnings = Vec::new();
        let mut logging = self.global.logging(environment, default, &mut warnings)?;
        if self.installs() {
            // That is where the service will log; this command speaks to a person.
            logging.settings.file = None;
        }
        match self.command {
            // They say the same about their whole configuration.
            Command::Gateway(_) | Command::Relay(_) => warnings.clear(),
            Command::Platform(_)
            | Command::Connect(_)
            | Command::Login(_)
            | Command::Logout(_)
            | Command::Dev(_) => {
                warnings.extend_from_slice(&environment.misspelled);
            }
            Command::Completions(_) | Command::Man(_) | Command::Version => {}
        }
        Ok((logging, warnings))
    }

    fn installs(&self) -> bool {
        match &self.command {
            Command::Gateway(args) => args.installs(),
            Command::Relay(args) => args.installs(),
            Command::Platform(_)
            | Command::Connect(_)
            | Command::Login(_)
            | Command::Logout(_)
            | Command::Dev(_)
            | Command::Completions(_)
            | Command::Man(_)
            | Command::Version => false,
        }
    }

    /// Gives up what a gateway, a relay or a platform does not need to be allowed. Call it before
    /// the runtime makes threads, and after logging has begun.
    pub fn give_up_privileges(&self, environment: &Environment) {
        let keep = match &self.command {
            Command::Gateway(args) => args.keeps(),
            Command::Relay(args) => args.keeps(environment),
            Command::Platform(args) => args.keeps(),
            // A person's own process, which may be asked to start others.
            Command::Connect(_)
            | Command::Login(_)
            | Command::Logout(_)
            | Command::Dev(_)
            | Command::Completions(_)
            | Command::Man(_)
            | Command::Version => None,
        };
        if let Some(keep) = keep {
            privileges::give_up(keep);
        }
    }

    /// Does what was asked, until it is done or a signal ends it. Must be called inside the
    /// runtime.
    ///
    /// # Errors
    /// Whatever made it fail; [`exit::Code::of`] gives its exit code.
    pub async fn run(self, environment: Environment, logs: Handle) -> anyhow::Result<()> {
        let mut environment = environment;
        if !self.installs() {
            environment.cli_domains = person::cli_domains(&environment);
        }
        let global = Global::new(self.global, environment);
        progress::configure(global.progress().display());
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
        Command::Login(args) => {
            stop_on_signal(&scope, &logs)?;
            Box::pin(login::run(args, global, scope)).await
        }
        Command::Logout(args) => Box::pin(login::log_out(args, global)).await,
        Command::Dev(args) => {
            stop_on_signal(&scope, &logs)?;
            Box::pin(dev::run(args, global, scope)).await
        }
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => manual::run(&args, Cli::full_command()),
        Command::Version => print::print(&Cli::full_command().render_version()),
    }
}

fn stop_on_signal(scope: &Scope, logs: &Handle) -> anyhow::Result<()> {
    let logs = logs.clone();
    let last_lines = move || drop(logs.written_at_the_end());
    signals::stop_on_signal(scope, last_lines).map_err(Failure::unavailable)
}

#[cfg(test)]
mod tests {
    use super::{API_URL, Cli};

    #[test]
    fn the_command_tree_is_sound() {
        Cli::full_command().debug_assert();
    }

    #[test]
    fn help_shows_the_default_domain() {
        for (command, domain) in [
            ("gateway", "https://app.infisical.com"),
            ("relay", "https://app.infisical.com"),
            ("connect", "http://127.0.0.1:8080"),
            ("platform", "http://127.0.0.1:8080"),
        ] {
            let help = Cli::help_of(command);
            let line = help.lines().find(|line| line.contains("--domain"));
            let at = help.find("--domain").unwrap_or_default();
            let shown = help.get(at..).is_some_and(|rest| {
                let rest: String = rest.split_whitespace().collect::<Vec<_>>().join(" ");
                rest.starts_with(&format!(
                    "--domain <URL> Domain of the platform [default: {domain}]"
                )) || rest.contains(&format!("omain of the platform [default: {domain}]"))
            });
            assert!(line.is_some() && shown, "{command}: {help}");
        }
    }

    #[test]
    fn domain_counts_before_and_after_the_command() {
        let parse = |words: &[&str]| {
            let words = words.iter().map(std::ffi::OsString::from);
            let cli = Cli::parse_words(words).expect("understood");
            cli.global.settings.of(&API_URL).map(str::to_owned)
        };
        let (a, b) = (Some("https://a".to_owned()), Some("https://b".to_owned()));
        let connect = ["connect", "g", "--to", "h:1"];
        let before = [&["infisical", "--domain=https://a"], &connect[..]].concat();
        assert_eq!(parse(&before), a);
        let after = [&["infisical"], &connect[..], &["--domain=https://b"]].concat();
        assert_eq!(parse(&after), b);
        let both = [&before[..], &["--domain=https://b"]].concat();
        assert_eq!(parse(&both), b);
    }
}

//! What every command understands: the platform's domain, logging, and the environment.

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context as _;
use clap::Args;

use super::exit::Failure;
use super::logging::{Logging, Stream};
use super::login::sessions::Sessions;
use super::progress;
use super::setting_args::{Every, SettingArgs};
use crate::config::env::{
    API_URL, CA_FILE, CUSTOM_HEADERS, Environment, Kind, LOG_DESTINATION, LOG_FILE, LOG_FORMAT,
    LOG_LEVEL, TOKEN, Variable,
};
use crate::config::log::LogFormat;
use crate::config::proxy::Proxies;
use crate::config::raw::{Flags, Raw, Source};
use crate::config::settings::{ApiBase, CustomHeaders, LogLevel, LogSettings};
use crate::config::token;
use crate::config::warning::{Problem, Warning};
use crate::host::journal;
use crate::install;
use crate::secret::Secret;
use crate::trust::{self, NamedFile};

/// The embedded platform's own default, for commands of a client or an administrator.
pub(crate) const LOCAL_DOMAIN: &str = "http://127.0.0.1:8080";
/// The administrator's token, in the directory of the embedded platform.
pub(crate) const ADMIN_TOKEN: &str = "admin-token";
/// Why the administrator's token is looked for.
const NOT_GIVEN: &str =
    "neither --token-file nor INFISICAL_TOKEN is given, and no one is logged in (infisical login)";
/// Where the token of a session comes from.
const LOGIN_SOURCE: &str = "infisical login (run it again)";

/// What a client's token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Sessions with gateways.
    Connect,
    /// Administration of the platform.
    Administer,
}

/// A truth value, as Go's flags have it.
fn parse_bool(text: &str) -> Result<bool, &'static str> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("must be true or false"),
    }
}

/// Flags of every command.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    #[command(flatten)]
    pub(crate) settings: SettingArgs<Every>,
    /// Do not show progress
    #[arg(long, global = true)]
    pub(crate) quiet: bool,
    /// Accepted as in the deployed programs: this program shows neither tips nor news of updates
    #[arg(long, global = true, hide = true, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = parse_bool)]
    pub(crate) silent: Option<bool>,
    /// Accepted as in the deployed programs: this program sends no telemetry
    #[arg(long, global = true, hide = true, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = parse_bool)]
    pub(crate) telemetry: Option<bool>,
    /// Stop when standard input, a pipe that the parent process holds, is closed
    #[arg(long, global = true, hide = true)]
    pub(crate) exit_on_stdin_close: bool,
}

impl GlobalArgs {
    /// How to log: flags, environment, or `default`. Variables that are not understood are among
    /// `warnings`.
    pub(crate) fn logging(
        &self,
        environment: &Environment,
        default: LogLevel,
        warnings: &mut Vec<Warning>,
    ) -> anyhow::Result<Logging> {
        let mut flags = Flags::default();
        self.add_to(&mut flags);
        let raw = raw(&flags, environment);
        let level = given(&raw, &LOG_LEVEL, str::parse, warnings)?;
        let file = match self.settings.of(&LOG_FILE) {
            // An empty one is a mistake, unlike an empty variable.
            Some(path) => Some(
                LogSettings::parse_file(path).map_err(|error| invalid(error, LOG_FILE.flag()))?,
            ),
            None => given(&raw, &LOG_FILE, LogSettings::parse_file, warnings)?,
        };
        let format = given(&raw, &LOG_FORMAT, str::parse, warnings)?;
        let destination = given(&raw, &LOG_DESTINATION, str::parse, warnings)?;
        let stream = environment.journal_stream.as_deref();
        Ok(Logging {
            settings: LogSettings {
                level,
                file,
                // It belongs to one role, and has no place in what every command has.
                audit_file: None,
                format,
                destination,
            },
            default,
            colour: !environment.no_color,
            stderr: Stream {
                is_journal: journal::is_behind(io::stderr(), stream),
                is_terminal: io::stderr().is_terminal(),
            },
            stdout: Stream {
                is_journal: journal::is_behind(io::stdout(), stream),
                is_terminal: io::stdout().is_terminal(),
            },
        })
    }

    /// Adds what is said here of the settings that a configuration file may hold too.
    pub(crate) fn add_to(&self, flags: &mut Flags) {
        self.settings.add_unread(flags);
    }
}

fn raw<'a>(flags: &'a Flags, environment: &'a Environment) -> Raw<'a> {
    Raw {
        flags,
        environment,
        file: None,
    }
}

/// What a flag gives, else a variable. One that other programs use as well may hold what only they
/// understand.
fn given<T, E: StdError + Send + Sync + 'static>(
    raw: &Raw<'_>,
    variable: &'static Variable,
    parse: impl FnOnce(&str) -> Result<T, E>,
    warnings: &mut Vec<Warning>,
) -> anyhow::Result<Option<T>> {
    let Some(value) = raw.value(variable) else {
        return Ok(None);
    };
    match parse(value.text.expose()) {
        Ok(parsed) => Ok(Some(parsed)),
        Err(error) if raw.source(variable) == Some(Source::Shared) => {
            warnings.push(Warning::NotUnderstood {
                name: value.origin.to_string(),
                expected: error.to_string(),
            });
            Ok(None)
        }
        Err(error) => Err(invalid(error, value.origin)),
    }
}

/// What every command is given.
#[derive(Debug)]
pub(crate) struct Global {
    pub(crate) args: GlobalArgs,
    pub(crate) environment: Environment,
    flags: Flags,
}

impl Global {
    pub(crate) fn new(args: GlobalArgs, environment: Environment) -> Self {
        let mut flags = Flags::default();
        args.add_to(&mut flags);
        Self {
            args,
            environment,
            flags,
        }
    }

    fn raw(&self) -> Raw<'_> {
        raw(&self.flags, &self.environment)
    }

    /// What is said of how to show progress.
    pub(super) fn progress(&self) -> progress::Preferences {
        let format = self.raw().value(&LOG_FORMAT);
        let format = format.map(|value| value.text.expose().parse());
        progress::Preferences {
            is_quiet: self.args.quiet,
            is_json: matches!(format, Some(Ok(LogFormat::Json))),
            may_draw: self.environment.can_draw() && !self.environment.no_color,
        }
    }

    /// Where the root certificates are: variables, and a private CA's file by flag or variable.
    pub(crate) fn root_certificates(&self) -> trust::Source {
        trust::Source {
            cert_file: self.environment.ssl_cert_file.clone(),
            cert_dirs: self.environment.ssl_cert_dirs.clone(),
            ca_file: self.raw().value(&CA_FILE).map(|value| NamedFile {
                setting: value.origin.to_string(),
                path: PathBuf::from(value.text.expose()),
            }),
        }
    }

    /// The platform for commands of a client: flag, environment, or `default`.
    pub(crate) fn domain(&self, default: &str) -> anyhow::Result<ApiBase> {
        self.check_readable(&API_URL)?;
        match self.raw().value(&API_URL) {
            Some(value) => {
                ApiBase::parse(value.text.expose()).map_err(|error| invalid(error, value.origin))
            }
            None => ApiBase::parse(default).map_err(|error| invalid(error, "default domain")),
        }
    }

    /// The extra headers of every request.
    pub(crate) fn headers(&self) -> anyhow::Result<CustomHeaders> {
        self.check_readable(&CUSTOM_HEADERS)?;
        let Some(value) = self.raw().value(&CUSTOM_HEADERS) else {
            return Ok(CustomHeaders::default());
        };
        CustomHeaders::parse(value.text.expose()).map_err(|error| invalid(error, value.origin))
    }

    /// A variable that is set and cannot be read must not count as unset.
    fn check_readable(&self, variable: &Variable) -> anyhow::Result<()> {
        let mut unreadable = self.environment.unreadable.iter();
        if let Some(name) = unreadable.find(|name| variable.names().any(|known| known == **name)) {
            return Err(wrong(format!(
                "environment variable {name}: the value is not UTF-8 text"
            )));
        }
        Ok(())
    }

    /// The proxies of this machine.
    pub(crate) fn proxies(&self) -> anyhow::Result<Proxies> {
        self.environment.proxy.proxies().map_err(|problems| {
            let problem = |(place, why)| Problem::new(format!("{place}: {why}"));
            Failure::problems(problems.into_iter().map(problem).collect())
        })
    }

    /// The platform for commands of a person: flag, environment, that of the only session, or
    /// `default`.
    pub(crate) fn client_domain(&self, default: &str) -> anyhow::Result<ApiBase> {
        self.check_readable(&API_URL)?;
        if self.raw().value(&API_URL).is_none() {
            let sessions = Sessions::of(&self.environment).map(|sessions| sessions.all());
            if let [session] = sessions.transpose()?.unwrap_or_default().as_slice() {
                return Ok(session.domain.clone());
            }
        }
        self.domain(default)
    }

    /// The token for commands of a client, and where it comes from: `file` (the flag), the
    /// environment, or `default`.
    fn token(
        &self,
        file: Option<&Path>,
        default: impl FnOnce() -> anyhow::Result<(Secret, String)>,
    ) -> anyhow::Result<(Secret, String)> {
        if let Some(file) = file {
            let token = token::load_private(file).map_err(Failure::configuration)?;
            return Ok((token, format!("--token-file {}", file.display())));
        }
        self.check_readable(&TOKEN)?;
        if let Some(value) = self.raw().value_from(Source::Environment, &TOKEN) {
            return match Kind::Secret.check(value.text.expose()) {
                Ok(()) => Ok((value.text.clone(), value.origin.to_string())),
                Err(error) => Err(invalid(error, value.origin)),
            };
        }
        default()
    }

    /// The token for commands of a client that ask the platform at `domain`, and where it comes
    /// from; by default that of a person's session there, or the administrator's of an embedded
    /// platform on this machine. That one is for this machine only: to a platform elsewhere it is
    /// never sent unless it was named.
    ///
    /// Where both are there, a person who has logged in connects as themselves, and root administers
    /// its own platform, no matter who is logged in.
    pub(crate) fn client_token(
        &self,
        file: Option<&Path>,
        domain: &ApiBase,
        purpose: Purpose,
    ) -> anyhow::Result<(Secret, String)> {
        if domain.is_plain_http_beyond_loopback() {
            let domain = domain.to_string();
            Warning::PlainHttp { domain }.log();
        }
        self.token(file, || {
            let administrators = || self.administrators_token(domain);
            let found = match purpose {
                Purpose::Connect => None,
                Purpose::Administer => administrators().ok(),
            };
            if let Some(found) = found {
                return Ok(found);
            }
            let sessions = Sessions::of(&self.environment);
            let session = sessions.map(|sessions| sessions.load(domain));
            match session.transpose()?.flatten() {
                Some(session) if session.has_ended(SystemTime::now()) => Err(session.ended()),
                Some(session) => Ok((session.token, LOGIN_SOURCE.to_owned())),
                None => administrators(),
            }
        })
    }

    /// The administrator's token of an embedded platform on this machine, if `domain` is one.
    fn administrators_token(&self, domain: &ApiBase) -> anyhow::Result<(Secret, String)> {
        if !domain.is_loopback() {
            let url = domain.domain();
            return Err(wrong(format!(
                "{url} is not on this machine, so this machine's administrator token is not sent to it; run \
                 infisical login --domain {url}, or give --token-file or {}",
                TOKEN.name
            )));
        }
        let directory = self.running_platform_directory().ok_or_else(|| {
            wrong(format!(
                "{NOT_GIVEN}, and without HOME there is no administrator's token of this machine"
            ))
        })?;
        let file = directory.join(ADMIN_TOKEN);
        let token = token::load_private(&file).map_err(Failure::configuration);
        let token = token.context(NOT_GIVEN)?;
        Ok((token, file.display().to_string()))
    }

    /// The state directory of the platform that this user administers: that of the service, or that
    /// of one started by hand.
    pub(crate) fn running_platform_directory(&self) -> Option<PathBuf> {
        let service = PathBuf::from(install::platform::STATE);
        let is_root = nix::unistd::Uid::effective().is_root();
        let by_hand = self.platform_directory();
        let is_by_hand = by_hand.as_ref().is_some_and(|directory| directory.exists());
        if is_root && !is_by_hand && service.exists() {
            return Some(service);
        }
        by_hand
    }

    /// Where an embedded platform keeps its state unless told otherwise; `None` if there is no
    /// home.
    pub(crate) fn platform_directory(&self) -> Option<PathBuf> {
        let state = if nix::unistd::Uid::effective().is_root() {
            PathBuf::from("/var/lib")
        } else {
            let home = self.environment.home.as_ref();
            let home = || home.map(|home| home.join(".local/state"));
            self.environment.xdg_state_home.clone().or_else(home)?
        };
        Some(state.join("infisical/platform"))
    }
}

/// The value from `place` is wrong.
fn invalid(error: impl Into<anyhow::Error>, place: impl fmt::Display) -> anyhow::Error {
    Failure::configuration(error.into().context(place.to_string()))
}

/// The configuration is wrong in the way that `message` says.
fn wrong(message: String) -> anyhow::Error {
    Failure::configuration(anyhow::Error::msg(message))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::Sessions;
    use super::{Global, GlobalArgs, Purpose};
    use crate::api::people::{LoggedIn, WhoAmI};
    use crate::cli::exit::Code;
    use crate::cli::setting_args::SettingArgs;
    use crate::config::env::{API_URL, Environment, LOG_LEVEL};
    use crate::config::settings::{ApiBase, LogLevel};
    use crate::secret::Secret;

    fn global(domain: Option<&str>, variables: &[(&str, &str)]) -> Global {
        let args = GlobalArgs {
            settings: SettingArgs::giving(&API_URL, domain),
            ..GlobalArgs::default()
        };
        Global::new(args, Environment::from_vars(variables.iter().copied()))
    }

    #[test]
    fn flag_wins_over_environment_and_default() {
        let variables = [
            ("INFISICAL_API_URL", "https://env"),
            ("INFISICAL_TOKEN", "from-env"),
        ];
        for (flag, variables, domain) in [
            (Some("https://flag"), &variables[..], "https://flag/api"),
            (None, &variables[..], "https://env/api"),
            (None, &[], "https://default/api"),
        ] {
            let global = global(flag, variables);
            let found = global.domain("https://default").expect("a domain");
            assert_eq!(found.as_url().as_str(), domain);
        }
        let directory = tempfile::tempdir().expect("a directory");
        let named = directory.path().join("named");
        std::fs::write(&named, "from-file\n").expect("written");
        std::fs::set_permissions(&named, Permissions::from_mode(0o600)).expect("private");
        let default = || Ok((Secret::new("from-default"), "the default".to_owned()));
        for (file, variables, token) in [
            (Some(named.as_path()), &variables[..], "from-file"),
            (None, &variables[..], "from-env"),
            (None, &[], "from-default"),
        ] {
            let found = global(None, variables).token(file, default);
            assert_eq!(found.expect("a token").0, Secret::new(token));
        }
        std::fs::set_permissions(&named, Permissions::from_mode(0o644)).expect("public");
        let error = global(None, &[]).token(Some(&named), default);
        assert_eq!(Code::of(&error.expect_err("public")), Code::Configuration);
    }

    /// A session that has ended is an error, and no reason to use another token.
    #[test]
    fn session_of_the_domain_is_used() {
        let home = tempfile::tempdir().expect("a directory");
        let variables = [("HOME", home.path().to_str().expect("text"))];
        let global = global(None, &variables);
        let sessions = Sessions::of(&global.environment).expect("a home");
        let domain = ApiBase::parse("https://platform.example").expect("a domain");
        let session = |end: &str| LoggedIn {
            access_token: Secret::new("from-session"),
            who: WhoAmI {
                id: None,
                name: "alice".to_owned(),
                roles: Vec::new(),
                groups: Vec::new(),
                expires_at: Some(end.to_owned()),
            },
        };
        sessions
            .save(&domain, session("2999-01-01T00:00:00Z"))
            .expect("saved");
        for purpose in [Purpose::Connect, Purpose::Administer] {
            let found = global
                .client_token(None, &domain, purpose)
                .expect("a token");
            assert_eq!(found.0, Secret::new("from-session"));
        }
        let default = global
            .client_domain("http://127.0.0.1:8080")
            .expect("a domain");
        assert_eq!(default, domain);
        sessions
            .save(&domain, session("2000-01-01T00:00:00Z"))
            .expect("saved");
        let error = global.client_token(None, &domain, Purpose::Connect);
        let error = error.expect_err("it has ended");
        assert_eq!(Code::of(&error), Code::Permission);
        assert!(
            error.to_string().contains("infisical login --domain"),
            "{error}"
        );
        let other = ApiBase::parse("https://other.example").expect("a domain");
        sessions
            .save(&other, session("2999-01-01T00:00:00Z"))
            .expect("saved");
        let default = global
            .client_domain("http://127.0.0.1:8080")
            .expect("a domain");
        assert_eq!(default.to_string(), "http://127.0.0.1:8080/api");
    }

    #[test]
    fn local_administrator_token_stays_local() {
        let directory = tempfile::tempdir().expect("a directory");
        let named = directory.path().join("named");
        std::fs::write(&named, "from-file\n").expect("written");
        std::fs::set_permissions(&named, Permissions::from_mode(0o600)).expect("private");
        let variable = [("INFISICAL_TOKEN", "from-env")];
        for elsewhere in ["http://platform.example", "https://platform.example"] {
            let domain = ApiBase::parse(elsewhere).expect("a domain");
            let error = global(None, &[]).client_token(None, &domain, Purpose::Connect);
            let error = error.expect_err("no token for it");
            assert_eq!(Code::of(&error), Code::Configuration);
            let text = error.to_string();
            for word in ["platform.example", "--token-file", "INFISICAL_TOKEN"] {
                assert!(text.contains(word), "{text}");
            }
            let found = global(None, &variable).client_token(None, &domain, Purpose::Connect);
            assert_eq!(found.expect("a token").0, Secret::new("from-env"));
            let found =
                global(None, &variable).client_token(Some(&named), &domain, Purpose::Connect);
            assert_eq!(found.expect("a token").0, Secret::new("from-file"));
        }
    }

    #[test]
    fn level_comes_from_flag_or_environment() {
        for (flag, variable, expected) in [
            (Some("debug"), "warn", Some(Some(LogLevel::Debug))),
            (None, "WARN", Some(Some(LogLevel::Warn))),
            (None, "", Some(None)),
            (None, "loud", None),
        ] {
            let args = GlobalArgs {
                settings: SettingArgs::giving(&LOG_LEVEL, flag),
                ..GlobalArgs::default()
            };
            let environment = Environment::from_vars([("INFISICAL_LOG_LEVEL", variable)]);
            let found = args
                .logging(&environment, LogLevel::Info, &mut Vec::new())
                .map(|logging| logging.settings.level);
            assert_eq!(found.ok(), expected, "{variable}");
        }
    }
}

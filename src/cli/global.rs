//! What every command understands: the platform's domain, logging, and the environment.

use std::error::Error as StdError;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;
use clap::Args;

use super::exit::Failure;
use super::logging::{Logging, Stream};
use super::setting_args::{Every, SettingArgs};
use crate::config::env::{
    API_URL, CA_FILE, CUSTOM_HEADERS, Environment, LOG_DESTINATION, LOG_FILE, LOG_FORMAT,
    LOG_LEVEL, TOKEN, Variable,
};
use crate::config::proxy::Proxies;
use crate::config::raw::Flags;
use crate::config::settings::{ApiBase, CustomHeaders, LogLevel, LogSettings};
use crate::config::token;
use crate::config::value::{Shape, clean};
use crate::config::warning::{Problem, Warning};
use crate::host::journal;
use crate::install;
use crate::secret::Secret;
use crate::trust::{self, NamedFile};

/// The embedded platform's own default, for commands of a client or an administrator.
pub(crate) const LOCAL_DOMAIN: &str = "http://127.0.0.1:8080";
/// The administrator's token, in the directory of the embedded platform.
pub(crate) const ADMIN_TOKEN: &str = "admin-token";

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
pub struct GlobalArgs {
    #[command(flatten)]
    pub(crate) settings: SettingArgs<Every>,
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
        let level = self.given(&LOG_LEVEL, environment, warnings)?;
        let flag = self.settings.of(&LOG_FILE);
        let file = match (flag, environment.value_with_name(&LOG_FILE)) {
            (Some(path), _) => Some((path, LOG_FILE.flag().to_owned())),
            (None, Some((name, path))) => Some((path.expose(), in_environment(name))),
            (None, None) => None,
        };
        let file = file.map(|(path, place)| {
            LogSettings::parse_file(path).map_err(|error| invalid(error, place))
        });
        let file = file.transpose()?;
        let format = self.given(&LOG_FORMAT, environment, warnings)?;
        let destination = self.given(&LOG_DESTINATION, environment, warnings)?;
        let stream = environment.journal_stream.as_deref();
        Ok(Logging {
            settings: LogSettings {
                level,
                file,
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

    /// What a flag gives, else a variable. One that other programs use as well may hold what only they
    /// understand.
    fn given<T: FromStr<Err: StdError + Send + Sync + 'static>>(
        &self,
        variable: &Variable,
        environment: &Environment,
        warnings: &mut Vec<Warning>,
    ) -> anyhow::Result<Option<T>> {
        let flag = self.settings.of(variable);
        let flag = flag.map(|text| (text, variable.flag().to_owned()));
        let given = flag.or_else(|| {
            let (name, text) = environment.value_with_name(variable)?;
            Some((text.expose(), in_environment(name)))
        });
        if let Some((text, place)) = given {
            let parsed = text.parse().map(Some);
            return parsed.map_err(|error| invalid(error, place));
        }
        let Some((name, text)) = environment.shared_value(variable) else {
            return Ok(None);
        };
        let parsed = text.expose().parse();
        let parsed = parsed.map_err(|error: T::Err| {
            warnings.push(Warning::NotUnderstood {
                name: in_environment(name),
                expected: error.to_string(),
            });
        });
        Ok(parsed.ok())
    }
}

/// What every command is given.
#[derive(Debug)]
pub(crate) struct Global {
    pub(crate) args: GlobalArgs,
    pub(crate) environment: Environment,
}

impl Global {
    pub(crate) fn new(args: GlobalArgs, environment: Environment) -> Self {
        Self { args, environment }
    }

    /// Where the root certificates are: variables, and a private CA's file by flag or variable.
    pub(crate) fn root_certificates(&self) -> trust::Source {
        let environment = &self.environment;
        let named = |setting: &str, path: PathBuf| NamedFile {
            setting: setting.to_owned(),
            path,
        };
        let flag = self
            .args
            .settings
            .of(&CA_FILE)
            .filter(|path| !path.is_empty());
        let ca_file = match (flag, environment.value(&CA_FILE)) {
            (Some(path), _) => Some(named(CA_FILE.flag(), PathBuf::from(path))),
            (None, Some(path)) => Some(named(
                &format!("environment variable {}", CA_FILE.name),
                PathBuf::from(path.expose()),
            )),
            (None, None) => None,
        };
        trust::Source {
            cert_file: environment.ssl_cert_file.clone(),
            cert_dirs: environment.ssl_cert_dirs.clone(),
            ca_file,
        }
    }

    /// The platform for commands of a client: flag, environment, or `default`.
    pub(crate) fn domain(&self, default: &str) -> anyhow::Result<ApiBase> {
        let flag = self.args.settings.of(&API_URL);
        let flag = flag.filter(|flag| !clean(flag).is_empty());
        let (given, place) = match (flag, self.environment.value_with_name(&API_URL)) {
            (Some(flag), _) => (flag, API_URL.flag().to_owned()),
            (None, Some((name, value))) => (value.expose(), in_environment(name)),
            (None, None) => (default, "default domain".to_owned()),
        };
        self.check_readable(&API_URL)?;
        ApiBase::parse(given).map_err(|error| invalid(error, place))
    }

    /// The extra headers of every request.
    pub(crate) fn headers(&self) -> anyhow::Result<CustomHeaders> {
        self.check_readable(&CUSTOM_HEADERS)?;
        let Some((name, text)) = self.environment.value_with_name(&CUSTOM_HEADERS) else {
            return Ok(CustomHeaders::default());
        };
        CustomHeaders::parse(text.expose()).map_err(|error| invalid(error, in_environment(name)))
    }

    /// A variable that is set and cannot be read must not count as unset.
    fn check_readable(&self, variable: &Variable) -> anyhow::Result<()> {
        let mut unreadable = self.environment.unreadable.iter();
        if let Some(name) = unreadable.find(|name| variable.names().any(|known| known == **name)) {
            let message = format!("{}: the value is not UTF-8 text", in_environment(name));
            return Err(Failure::configuration(anyhow::Error::msg(message)));
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

    /// The token for commands of a client: `file` (the flag), the environment, or the file
    /// `default`.
    pub(crate) fn token(&self, file: Option<&Path>, default: &Path) -> anyhow::Result<Secret> {
        let file = match (file, self.environment.value_with_name(&TOKEN)) {
            (Some(file), _) => file.to_owned(),
            (None, Some((name, token))) => {
                let checked = Shape::Token.check(token.expose());
                checked.map_err(|error| invalid(error, in_environment(name)))?;
                return Ok(token.clone());
            }
            (None, None) => {
                self.check_readable(&TOKEN)?;
                PathBuf::from(default)
            }
        };
        token::load_private(&file).map_err(Failure::configuration)
    }

    /// The token for commands of a client that ask the platform at `domain`, by default the
    /// administrator's of an embedded platform on this machine. That one is for this machine only:
    /// to a platform elsewhere it is never sent unless it was named.
    pub(crate) fn client_token(
        &self,
        file: Option<&Path>,
        domain: &ApiBase,
    ) -> anyhow::Result<Secret> {
        if domain.is_plain_http_beyond_loopback() {
            let domain = domain.to_string();
            Warning::PlainHttp { domain }.log();
        }
        if file.is_none() {
            self.check_readable(&TOKEN)?;
        }
        if file.is_some() || self.environment.value(&TOKEN).is_some() {
            return self.token(file, Path::new(""));
        }
        if !domain.is_loopback() {
            let message = format!(
                "{domain} is not on this machine, so this machine's administrator token is not sent to it; give \
                 --token-file or {}",
                TOKEN.name
            );
            return Err(Failure::configuration(anyhow::Error::msg(message)));
        }
        let missing = || format!("neither --token-file nor {} is given", TOKEN.name);
        let Some(directory) = self.running_platform_directory() else {
            let message = format!(
                "{}, and without HOME there is no administrator's token of this machine",
                missing()
            );
            return Err(Failure::configuration(anyhow::Error::msg(message)));
        };
        let default = directory.join(ADMIN_TOKEN);
        self.token(None, &default).with_context(missing)
    }

    /// The state directory of the platform that this user administers: that of the service, or that
    /// of one started by hand.
    fn running_platform_directory(&self) -> Option<PathBuf> {
        let service = PathBuf::from(install::platform::STATE);
        let is_root = nix::unistd::Uid::effective().is_root();
        let by_hand = self.platform_directory();
        let is_by_hand = by_hand.as_ref().is_some_and(|directory| directory.exists());
        if is_root && !is_by_hand && service.exists() {
            return Some(service);
        }
        by_hand
    }

    /// The variable or file that a client's token comes from, as [`Self::client_token`] chooses it.
    pub(crate) fn client_token_source(&self, file: Option<&Path>) -> String {
        match (file, self.environment.value_with_name(&TOKEN)) {
            (Some(file), _) => format!("--token-file {}", file.display()),
            (None, Some((name, _))) => in_environment(name),
            (None, None) => match self.platform_directory() {
                Some(directory) => directory.join(ADMIN_TOKEN).display().to_string(),
                None => ADMIN_TOKEN.to_owned(),
            },
        }
    }

    /// Where an embedded platform keeps its state unless told otherwise; `None` if there is no
    /// home.
    pub(crate) fn platform_directory(&self) -> Option<PathBuf> {
        let state = if nix::unistd::Uid::effective().is_root() {
            PathBuf::from("/var/lib")
        } else {
            let environment = &self.environment;
            let home = || {
                environment
                    .home
                    .as_ref()
                    .map(|home| home.join(".local/state"))
            };
            environment.xdg_state_home.clone().or_else(home)?
        };
        Some(state.join("infisical/platform"))
    }
}

fn in_environment(name: &str) -> String {
    format!("environment variable {name}")
}

/// The value from `place` is wrong.
fn invalid(error: impl Into<anyhow::Error>, place: String) -> anyhow::Error {
    Failure::configuration(error.into().context(place))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::{Global, GlobalArgs};
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
    fn a_flag_wins_over_the_environment_and_that_over_the_default() {
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
        let (named, default) = (
            directory.path().join("named"),
            directory.path().join("default"),
        );
        for (path, text) in [(&named, "from-file\n"), (&default, "from-default\n")] {
            std::fs::write(path, text).expect("written");
            std::fs::set_permissions(path, Permissions::from_mode(0o600)).expect("private");
        }
        for (file, variables, token) in [
            (Some(named.as_path()), &variables[..], "from-file"),
            (None, &variables[..], "from-env"),
            (None, &[], "from-default"),
        ] {
            let found = global(None, variables).token(file, &default);
            assert_eq!(found.expect("a token"), Secret::new(token));
        }
        std::fs::set_permissions(&default, Permissions::from_mode(0o644)).expect("public");
        let error = global(None, &[]).token(None, &default);
        assert_eq!(Code::of(&error.expect_err("public")), Code::Configuration);
        let error = global(None, &[]).token(None, Path::new("/nonexistent/token"));
        assert_eq!(Code::of(&error.expect_err("absent")), Code::Configuration);
    }

    #[test]
    fn the_administrators_token_of_this_machine_stays_on_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let named = directory.path().join("named");
        std::fs::write(&named, "from-file\n").expect("written");
        std::fs::set_permissions(&named, Permissions::from_mode(0o600)).expect("private");
        let variable = [("INFISICAL_TOKEN", "from-env")];
        for elsewhere in ["http://platform.example", "https://platform.example"] {
            let domain = ApiBase::parse(elsewhere).expect("a domain");
            let error = global(None, &[]).client_token(None, &domain);
            let error = error.expect_err("no token for it");
            assert_eq!(Code::of(&error), Code::Configuration);
            let text = error.to_string();
            for word in ["platform.example", "--token-file", "INFISICAL_TOKEN"] {
                assert!(text.contains(word), "{text}");
            }
            let found = global(None, &variable).client_token(None, &domain);
            assert_eq!(found.expect("a token"), Secret::new("from-env"));
            let found = global(None, &variable).client_token(Some(&named), &domain);
            assert_eq!(found.expect("a token"), Secret::new("from-file"));
        }
    }

    #[test]
    fn the_level_comes_from_the_flag_or_the_environment() {
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

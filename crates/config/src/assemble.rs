//! What the assembly of every role has in common: where its file is, and reading one setting at a
//! time while collecting everything that is wrong.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::cli_files::{CliDomain, CliDomains};
use super::effective::{EffectiveConfig, Notes};
use super::env::{
    API_URL, CA_FILE, CUSTOM_HEADERS, Environment, LOG_DESTINATION, LOG_FILE, LOG_FORMAT,
    LOG_LEVEL, METRICS_ALLOW_REMOTE, METRICS_LISTEN, Used, Variable, is_shared,
};
use super::file::{self, Entry};
use super::log::{LogDestination, LogFormat};
use super::metrics::MetricsListen;
use super::proxy::Proxies;
use super::raw::{Flags, Loaded, Origin, Raw, Source, Value};
use super::role::RoleKeys;
use super::settings::{
    ApiBase, CommonSettings, CustomHeaders, DEFAULT_DOMAIN, LogLevel, LogSettings,
};
use super::warning::{Problem, Warning};
use crate::error::chain;
use crate::trust::{self, NamedFile};
use crate::unit_name;

/// Where the files of roles are without a home or a state directory.
const WITHOUT_HOME: &str = "/var/lib/infisical";

/// What an assembly begins with. It reads no other file and no environment, so that tests give all
/// of it.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// The flags of the command.
    pub flags: &'a Flags,
    /// The environment.
    pub environment: &'a Environment,
    /// The file that `--config` names.
    pub config: Option<&'a Path>,
    /// Where files named after the role's name are.
    pub directory: &'a Path,
    /// Reads a file.
    pub load: &'a dyn Fn(&Path) -> Result<Vec<Entry>, file::Error>,
}

impl fmt::Debug for Inputs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inputs")
            .field("flags", self.flags)
            .field("environment", self.environment)
            .field("config", &self.config)
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// Where files named after a role's name are by default: `/etc/infisical` for root, else the user's
/// `~/.infisical`, else (a service without a home) its state directory. `roles` is `gateways` or
/// `relays`.
#[must_use]
pub fn default_directory(environment: &Environment, is_root: bool, roles: &str) -> PathBuf {
    let base = if is_root {
        PathBuf::from("/etc/infisical")
    } else if let Some(home) = &environment.home {
        home.join(".infisical")
    } else if let Some(state) = &environment.state_directory {
        state.clone()
    } else {
        PathBuf::from(WITHOUT_HOME)
    };
    base.join(roles)
}

impl Inputs<'_> {
    fn raw(&self) -> Raw<'_> {
        Raw {
            flags: self.flags,
            environment: self.environment,
            file: None,
        }
    }

    /// The path of the role's file: as `--config` says, else after the role's name, if flag or
    /// environment give a usable one.
    pub(super) fn path<N: FromStr + fmt::Display>(
        &self,
        name: &'static Variable,
    ) -> Option<PathBuf> {
        if let Some(path) = self.config {
            return Some(path.to_owned());
        }
        let value = self.raw().value(name)?;
        let name: N = value.text.expose().parse().ok()?;
        Some(self.file_of(&name.to_string()))
    }

    /// The file named after the role: escaped, but as it is where the deployed program has left
    /// one, which escapes nothing.
    fn file_of(&self, name: &str) -> PathBuf {
        let file_name = unit_name::file_name(name);
        let plain = self.directory.join(format!("{name}.conf"));
        let is_elsewhere = file_name != name && !name.contains('/');
        let is_absent = |path| matches!((self.load)(path), Err(error) if error.is_absent());
        if is_elsewhere && !is_absent(&plain) {
            return plain;
        }
        self.directory.join(format!("{file_name}.conf"))
    }

    /// The file at `path`. A file that `--config` names must be there, unless an enrollment is
    /// about to make it.
    fn load(
        &self,
        path: &Path,
        enroll_method: &'static Variable,
        problems: &mut Vec<Problem>,
    ) -> Option<Loaded> {
        let may_be_absent = self.config.is_none() || self.raw().value(enroll_method).is_some();
        match (self.load)(path) {
            Ok(entries) => {
                return Some(Loaded {
                    path: path.to_owned(),
                    entries,
                });
            }
            Err(error) if error.is_absent() && may_be_absent => {}
            Err(file::Error::Lines { path, lines }) => {
                let texts = lines
                    .iter()
                    .map(|line| format!("{} {line}", path.display()));
                problems.extend(texts.map(Problem::new));
            }
            Err(error) => {
                let text = chain(&error).to_string();
                problems.push(match (error.is_denied(), self.config) {
                    (true, None) => {
                        let advice = "name another file with --config, or set HOME";
                        Problem::new(format!("{text}; {advice}")).denied()
                    }
                    (true, Some(_)) => Problem::new(text).denied(),
                    (false, _) => Problem::new(text),
                });
            }
        }
        None
    }
}

/// The settings of a role and where each comes from, or everything that is wrong.
pub type Assembled<S> = Result<(S, EffectiveConfig), Vec<Problem>>;

/// Assembles the settings of a role, whose name is an `N`: `read` makes them of what was given, and
/// of the path of the role's file. `None` is for what was noted as a problem.
pub(super) fn assemble<N: FromStr + fmt::Display, S>(
    inputs: &Inputs<'_>,
    keys: &RoleKeys,
    read: impl FnOnce(&mut Reader<'_>, Option<PathBuf>) -> Option<S>,
) -> Assembled<S> {
    let mut problems = Vec::new();
    let path = inputs.path::<N>(keys.name);
    let file = path
        .as_deref()
        .and_then(|path| inputs.load(path, keys.enroll_method, &mut problems));
    let raw = Raw {
        flags: inputs.flags,
        environment: &inputs.environment.with_file(file.as_ref()),
        file: file.as_ref(),
    };
    let mut reader = Reader::new(raw, problems);
    let settings = read(&mut reader, path.clone());
    reader.finish(settings, keys.used, path)
}

/// What a value must be.
#[derive(Debug, thiserror::Error)]
#[error("must be {0}")]
pub(super) struct Expected(pub(super) String);

/// Reads settings one by one; what is wrong is collected.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) raw: Raw<'a>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Warning>,
    pub(super) notes: Notes<'a>,
    /// The file cannot be used: what seems to be missing may well be in it, and its problem is the
    /// one to solve.
    pub(super) file_failed: bool,
}

impl<'a> Reader<'a> {
    fn new(raw: Raw<'a>, mut problems: Vec<Problem>) -> Self {
        let file_failed = !problems.is_empty();
        problems.extend(raw.flags.problems.iter().cloned());
        for name in &raw.environment.unreadable {
            let origin = Origin::Environment(name);
            problems.push(Problem::at(&origin, "the value is not UTF-8 text"));
        }
        let warnings = raw
            .flags
            .exposed()
            .map(|flag| Warning::SecretInArguments { flag })
            .collect();
        Self {
            raw,
            problems,
            warnings,
            notes: Notes::default(),
            file_failed,
        }
    }

    /// The settings of `role`, whose file is at `path`, and the account of them, if nothing was
    /// wrong.
    fn finish<S>(mut self, settings: Option<S>, role: Used, path: Option<PathBuf>) -> Assembled<S> {
        let environment = self.raw.environment;
        self.warnings.extend(self.raw.without_effect(role));
        self.warnings.extend_from_slice(&environment.misspelled);
        let has_directory = environment.home.is_some() || environment.state_directory.is_some();
        if let Some(file) = path.as_ref().filter(|path| path.starts_with(WITHOUT_HOME))
            && !has_directory
        {
            self.warnings.push(Warning::NoHome {
                file: file.display().to_string(),
            });
        }
        match (settings, path) {
            (Some(settings), Some(path)) if self.problems.is_empty() => {
                let account = self.notes.finish(self.raw, role, path, self.warnings);
                Ok((settings, account))
            }
            (Some(_) | None, Some(_) | None) => Err(self.problems),
        }
    }

    /// What the role of `keys`, whose file is at `store`, has like every other.
    pub(super) fn common(
        &mut self,
        keys: &RoleKeys,
        store: Option<PathBuf>,
    ) -> Option<CommonSettings> {
        let domain = self.domain(keys.domain);
        let headers = self.headers();
        let proxies = self.proxies(domain.as_ref());
        let roots = self.roots();
        let log = self.log();
        let metrics = self.metrics();
        Some(CommonSettings {
            domain: domain?,
            headers,
            proxies,
            roots,
            log,
            metrics,
            store: store?,
        })
    }

    pub(super) fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// True if `variable` is given, but in a way that is a problem of its own.
    pub(super) fn has_failed(&self, variable: &Variable) -> bool {
        let mut unreadable = self.raw.environment.unreadable.iter();
        self.raw.flags.has_failed(variable)
            || unreadable.any(|unreadable| variable.names().any(|name| name == *unreadable))
    }

    /// Notes that `value` is used for `variable`. False, and a problem, if it can never be right.
    pub(super) fn uses(&mut self, variable: &'static Variable, value: &Value<'a>) -> bool {
        self.notes.holds(variable, value);
        match variable.kind.check(value.text.expose()) {
            Ok(()) => true,
            Err(error) => {
                self.problem(Problem::of(&value.origin, &error));
                false
            }
        }
    }

    /// The same for what proves the role's identity in the way that `credential` says.
    pub(super) fn proves(
        &mut self,
        credential: &'static str,
        variable: &'static Variable,
        value: &Value<'a>,
    ) -> bool {
        self.notes.known.credential = credential;
        self.uses(variable, value)
    }

    /// A setting that may be missing.
    pub(super) fn parsed<T, E: StdError + 'static>(
        &mut self,
        variable: &'static Variable,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let Some(value) = self.raw.value(variable) else {
            self.notes.unset(variable);
            return None;
        };
        if !self.uses(variable, &value) {
            return None;
        }
        parse(value.text.expose())
            .map_err(|error| self.problem(Problem::of(&value.origin, &error)))
            .ok()
    }

    /// Notes a problem if `variable` stands somewhere without a value: for lists of which an empty
    /// one means the opposite of none.
    pub(super) fn is_not_emptied(&mut self, variable: &'static Variable) {
        for origin in self.raw.emptied(variable) {
            const TEXT: &str = "the list is empty; remove it, or write * for every target";
            self.problem(Problem::at(&origin, TEXT));
        }
    }

    /// A setting without which nothing works; `missing` says how to give it.
    pub(super) fn required<T, E: StdError + 'static>(
        &mut self,
        variable: &'static Variable,
        missing: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let is_explained = self.file_failed || self.has_failed(variable);
        if self.raw.value(variable).is_none() && !is_explained {
            self.problem(Problem::new(missing));
        }
        self.parsed(variable, parse)
    }

    /// The platform: as the flag says, else where the role enrolled, else where a person is logged
    /// in with the deployed CLI, else as configured, else where the person's project is, else the
    /// default (protocol-addendum.md §6). A domain in the role's own file belongs to the tokens in
    /// it, so it wins over a login.
    fn domain(&mut self, stored: &'static Variable) -> Option<ApiBase> {
        let flag = self.raw.value_from(Source::Flag, &API_URL);
        let enrolled = self.raw.value_from(Source::File, stored);
        let CliDomains { login, project } = &self.raw.environment.cli_domains;
        let is_in_file = self.raw.value_from(Source::File, &API_URL).is_some();
        let login = login.as_ref().filter(|_| !is_in_file);
        let given = None
            .or_else(|| flag.map(|value| (&API_URL, value)))
            .or_else(|| enrolled.map(|value| (stored, value)))
            .or_else(|| self.of_cli(login?).map(|value| (&API_URL, value)))
            .or_else(|| self.raw.value(&API_URL).map(|value| (&API_URL, value)))
            .or_else(|| {
                let value = self.of_cli(project.as_ref()?)?;
                Some((&API_URL, value))
            });
        let (variable, text, origin) = match given {
            Some((variable, value)) => (variable, value.text.expose(), value.origin),
            None => (&API_URL, DEFAULT_DOMAIN, Origin::Default),
        };
        match ApiBase::parse(text) {
            Ok(domain) => {
                self.notes.shown(variable, domain.to_string(), origin);
                self.notes.known.uses_https = domain.as_url().scheme() == "https";
                if domain.is_plain_http_beyond_loopback() {
                    let domain = domain.to_string();
                    self.warnings.push(Warning::PlainHttp { domain });
                }
                Some(domain)
            }
            Err(error) => {
                let problem = Problem::of(&origin, &error);
                self.problem(Problem::new(format!("{problem} (the platform's domain)")));
                None
            }
        }
    }

    /// A domain of the deployed CLI; one that cannot be used is ignored with a warning.
    fn of_cli(&mut self, domain: &'a CliDomain) -> Option<Value<'a>> {
        let place = domain.place.clone();
        let parsed = ApiBase::parse(domain.text.expose());
        let is_usable = parsed.is_ok();
        self.warnings.push(match parsed {
            Ok(domain) => Warning::DomainOfCli {
                domain: domain.to_string(),
                place,
            },
            Err(error) => Warning::DomainIgnored {
                place,
                why: chain(&error).to_string(),
            },
        });
        is_usable.then_some(Value {
            text: &domain.text,
            origin: Origin::Cli(&domain.place),
        })
    }

    /// The extra headers of every request.
    fn headers(&mut self) -> CustomHeaders {
        let Some(value) = self.raw.value(&CUSTOM_HEADERS) else {
            self.notes.unset(&CUSTOM_HEADERS);
            return CustomHeaders::default();
        };
        match CustomHeaders::parse(value.text.expose()) {
            Ok(headers) => {
                self.notes
                    .shown(&CUSTOM_HEADERS, headers.masked(), value.origin);
                headers
            }
            Err(error) => {
                self.problem(Problem::of(&value.origin, &error));
                CustomHeaders::default()
            }
        }
    }

    /// The certificates of the platform's private CA.
    fn ca_file(&mut self) -> Option<NamedFile> {
        let value = self.raw.value(&CA_FILE);
        let setting = value
            .map(|value| value.origin.to_string())
            .unwrap_or_default();
        let path = self.parsed(&CA_FILE, |text| Ok::<_, Infallible>(PathBuf::from(text)))?;
        Some(NamedFile { setting, path })
    }

    /// The proxies of this machine. The account tells which of them is on the way to `domain`.
    fn proxies(&mut self, domain: Option<&ApiBase>) -> Proxies {
        match self.raw.environment.proxy.proxies() {
            Ok(proxies) => {
                self.notes.known.proxy = domain
                    .map(|domain| proxies.way(domain.as_url()).to_string())
                    .unwrap_or_default();
                proxies
            }
            Err(problems) => {
                for (place, why) in problems {
                    self.problem(Problem::new(format!("{place}: {why}")));
                }
                Proxies::default()
            }
        }
    }

    /// The root certificates that environment and file name, with the platform's private CA.
    fn roots(&mut self) -> trust::Source {
        let environment = self.raw.environment;
        let roots = trust::Source {
            cert_file: environment.ssl_cert_file.clone(),
            cert_dirs: environment.ssl_cert_dirs.clone(),
            ca_file: self.ca_file(),
        };
        self.notes.known.roots = roots.clone();
        roots
    }

    /// What is logged, and where to.
    fn log(&mut self) -> LogSettings {
        LogSettings {
            level: self.shared(&LOG_LEVEL, str::parse::<LogLevel>),
            file: self.parsed(&LOG_FILE, LogSettings::parse_file),
            audit_file: None,
            format: self.shared(&LOG_FORMAT, str::parse::<LogFormat>),
            destination: self.shared(&LOG_DESTINATION, str::parse::<LogDestination>),
        }
    }

    /// Where metrics are served.
    fn metrics(&mut self) -> Option<MetricsListen> {
        let parse = |text: &str| {
            text.parse()
                .map_err(|_| Expected("true or false".to_owned()))
        };
        let allow_remote = self.parsed(&METRICS_ALLOW_REMOTE, parse);
        let parse = |text: &str| MetricsListen::parse(text, allow_remote == Some(true));
        self.parsed(&METRICS_LISTEN, parse)
    }

    /// Like [`Self::parsed`]; a variable that other programs use as well may hold what only they
    /// understand.
    fn shared<T, E: StdError + 'static>(
        &mut self,
        variable: &'static Variable,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        let value = self.raw.value(variable);
        let shared = value.filter(|value| match value.origin {
            Origin::Environment(name) => is_shared(name),
            Origin::File { name, .. } => is_shared(name) && name != variable.toml_key(),
            Origin::Flag(_) | Origin::Cli(_) | Origin::Default => false,
        });
        let failed = shared.and_then(|value| Some((parse(value.text.expose()).err()?, value)));
        let Some((error, value)) = failed else {
            return self.parsed(variable, parse);
        };
        self.warnings.push(Warning::NotUnderstood {
            name: value.origin.to_string(),
            expected: error.to_string(),
        });
        self.notes.unset(variable);
        None
    }
}

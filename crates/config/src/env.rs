//! The environment: what the variables of the [table](super::table) held at start.
//!
//! The process environment is read once, in `main`, and passed on as an [`Environment`]; nothing
//! else of the program reads it, nothing writes it. The same names are the keys of configuration
//! files.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::cli_files::CliDomains;
use super::cloud::Cloud;
use super::file::nearest_name;
use super::proxy::ProxyVariables;
use super::raw::Loaded;
use super::value::{absolute_path, clean};
use super::warning::Warning;
use crate::secret::Secret;
use crate::trust::NamedFile;

pub use super::table::*;

/// What the environment held when the program started. An empty variable counts as unset, except
/// those for proxies.
#[derive(Debug, Default, Clone)]
pub struct Environment {
    /// Settings, each by the name that is set.
    pub(super) values: Vec<(&'static Variable, &'static str, Secret)>,
    /// Variables of [`TABLE`] whose value is not UTF-8, by the names that are set.
    pub unreadable: Vec<&'static str>,
    /// A warning for each variable that seems to be misspelled.
    pub misspelled: Vec<Warning>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub xdg_config_home: Option<PathBuf>,
    /// `XDG_STATE_HOME`.
    pub xdg_state_home: Option<PathBuf>,
    /// `STATE_DIRECTORY` of a service, the first if there are several.
    pub state_directory: Option<PathBuf>,
    /// `RUNTIME_DIRECTORY` of a service, the first if there are several.
    pub runtime_directory: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub xdg_runtime_directory: Option<PathBuf>,
    /// `CREDENTIALS_DIRECTORY` of a service.
    pub credentials_directory: Option<PathBuf>,
    /// `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT_HTTPS`: the API server, for what runs
    /// in a pod.
    pub kubernetes_api: Option<(String, u16)>,
    /// The clouds' own variables.
    pub cloud: Cloud,
    /// The variables for proxies.
    pub proxy: ProxyVariables,
    /// `INFISICAL_SUCCESSOR`: what this process is in a hand-over; the program sets it itself.
    pub successor: Option<String>,
    /// `JOURNAL_STREAM` of a service: which stream is connected to the journal.
    pub journal_stream: Option<String>,
    /// `SSL_CERT_FILE`: root certificates instead of the system's file.
    pub ssl_cert_file: Option<NamedFile>,
    /// `SSL_CERT_DIR`: directories of root certificates instead of the system's.
    pub ssl_cert_dirs: Option<Vec<NamedFile>>,
    /// `NO_COLOR` is set.
    pub no_color: bool,
    /// `TERM`: what the terminal is.
    pub terminal: Option<String>,
    /// What files of the deployed CLI say, for a person at a terminal.
    pub cli_domains: CliDomains,
}

impl Environment {
    /// Keeps what concerns this program of `variables`, for instance of [`std::env::vars_os`].
    pub fn from_vars<N, V>(variables: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        let mut environment = Self::default();
        let (mut api_host, mut api_port) = (None, None);
        for (name, value) in variables {
            let (name, value) = (name.into(), value.into());
            let Some(name) = name.to_str() else {
                continue;
            };
            environment.keep_foreign(name, &value, None);
            if value.is_empty() && !is_list_of_targets(name) {
                continue;
            }
            let path = || Some(PathBuf::from(&value));
            match name {
                "HOME" => environment.home = path(),
                "XDG_RUNTIME_DIR" => environment.xdg_runtime_directory = path(),
                "XDG_CONFIG_HOME" => environment.xdg_config_home = path(),
                "XDG_STATE_HOME" => environment.xdg_state_home = path(),
                "STATE_DIRECTORY" => {
                    environment.state_directory = std::env::split_paths(&value).next();
                }
                "RUNTIME_DIRECTORY" => {
                    environment.runtime_directory = std::env::split_paths(&value).next();
                }
                "CREDENTIALS_DIRECTORY" => environment.credentials_directory = path(),
                "KUBERNETES_SERVICE_HOST" => api_host = value.into_string().ok(),
                "KUBERNETES_SERVICE_PORT_HTTPS" => {
                    api_port = value.to_str().and_then(|port| port.parse().ok());
                }
                "JOURNAL_STREAM" => environment.journal_stream = value.into_string().ok(),
                "INFISICAL_SUCCESSOR" => environment.successor = value.into_string().ok(),
                "NO_COLOR" => environment.no_color = true,
                "TERM" => environment.terminal = value.into_string().ok(),
                other => {
                    let Some((variable, name)) = Variable::called(other) else {
                        environment.keep_misspelled(other);
                        continue;
                    };
                    match value.into_string().map(Zeroizing::new) {
                        Ok(text) if clean(&text).is_empty() && !is_list_of_targets(name) => {}
                        Ok(text) => {
                            let text = Secret::new(clean(&text));
                            environment.values.push((variable, name, text));
                        }
                        Err(_) if is_shared(name) => {}
                        Err(_) => environment.unreadable.push(name),
                    }
                }
            }
        }
        environment.kubernetes_api = api_host.zip(api_port);
        environment
    }

    /// True if a terminal understands more than plain lines.
    #[must_use]
    pub fn can_draw(&self) -> bool {
        self.terminal.as_deref().is_some_and(|name| name != "dumb")
    }

    /// Keeps `name` if it seems to be meant for this program.
    fn keep_misspelled(&mut self, name: &str) {
        // Kubernetes sets NAME_PORT for the services of a namespace.
        let is_ours = name.starts_with("INF") && !name.ends_with("_PORT");
        let nearest = is_ours.then(|| nearest_name(name)).flatten();
        self.misspelled
            .extend(nearest.map(|nearest| Warning::Misspelled {
                name: name.to_owned(),
                nearest,
            }));
    }

    /// The variables that other programs use as well and that change how the platform is reached,
    /// by their names. An installation does not keep them.
    #[must_use]
    pub fn of_connection(&self) -> Vec<&'static str> {
        let mut names: Vec<&'static str> = self.proxy.names().collect();
        names.extend(self.ssl_cert_file.as_ref().map(|_| "SSL_CERT_FILE"));
        names.extend(self.ssl_cert_dirs.as_ref().map(|_| "SSL_CERT_DIR"));
        names
    }

    /// This environment with absolute paths in the settings, for a program that runs elsewhere than
    /// in `directory`.
    #[must_use]
    pub fn with_absolute_paths(&self, directory: &Path) -> Self {
        let mut absolute = self.clone();
        for (variable, _, value) in &mut absolute.values {
            if variable.kind == Kind::Path {
                *value = Secret::new(absolute_path(directory, value.expose()));
            }
        }
        absolute
    }

    /// Keeps what a variable of other programs says, which a file sets in `line` or else the
    /// environment.
    fn keep_foreign(&mut self, name: &str, value: &OsStr, line: Option<&str>) {
        self.proxy.keep(name, value, line);
        if value.is_empty() {
            return;
        }
        if let Some(value) = value.to_str() {
            self.cloud.keep(name, value);
        }
        let setting = line.map_or_else(|| format!("environment variable {name}"), str::to_owned);
        let named = |path| NamedFile {
            setting: setting.clone(),
            path,
        };
        if name == "SSL_CERT_FILE" {
            self.ssl_cert_file = Some(named(PathBuf::from(value)));
        } else if name == "SSL_CERT_DIR" {
            let dirs = std::env::split_paths(value).filter(|dir| !dir.as_os_str().is_empty());
            let dirs: Vec<_> = dirs.map(named).collect();
            self.ssl_cert_dirs = Some(dirs).filter(|dirs| !dirs.is_empty());
        }
    }

    /// This environment with what the lines of `file` say for other programs; where both say
    /// something, it wins.
    #[must_use]
    pub(crate) fn with_file(&self, file: Option<&Loaded>) -> Self {
        let mut weaker = Self::default();
        for (entry, origin) in file.into_iter().flat_map(Loaded::foreign) {
            let value = OsStr::new(entry.value.expose());
            weaker.keep_foreign(&entry.name, value, Some(&origin.to_string()));
        }
        let mut both = self.clone();
        both.cloud = both.cloud.or(&weaker.cloud);
        both.proxy = both.proxy.or(&weaker.proxy);
        both.ssl_cert_file = both.ssl_cert_file.or(weaker.ssl_cert_file);
        both.ssl_cert_dirs = both.ssl_cert_dirs.or(weaker.ssl_cert_dirs);
        both
    }
}

/// Of those, an empty one is a mistake: it would allow everything.
fn is_list_of_targets(name: &str) -> bool {
    [TARGETS_ALLOW.name, TARGETS_DENY.name].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::{API_URL, Environment, JWT, LOG_LEVEL, TOKEN};
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;
    use std::path::Path;

    use crate::raw::{Flags, Origin, Raw, Source};

    #[test]
    fn the_strongest_name_of_a_variable_wins() {
        let environment = Environment::from_vars([
            ("INFISICAL_API_URL", "https://weaker"),
            ("INFISICAL_DOMAIN", "https://stronger"),
            ("TOKEN", "t"),
            ("LOG_LEVEL", "debug"),
            ("INFISICAL_OIDC_AUTH_JWT", "j"),
        ]);
        for (variable, name, text, source) in [
            (
                &API_URL,
                "INFISICAL_DOMAIN",
                "https://stronger",
                Source::Environment,
            ),
            (&JWT, "INFISICAL_OIDC_AUTH_JWT", "j", Source::Environment),
            (&TOKEN, "TOKEN", "t", Source::Shared),
            (&LOG_LEVEL, "LOG_LEVEL", "debug", Source::Shared),
        ] {
            let raw = Raw {
                flags: &Flags::default(),
                environment: &environment,
                file: None,
            };
            let value = raw.value(variable).expect(name);
            assert_eq!(value.origin, Origin::Environment(name));
            assert_eq!(value.text.expose(), text);
            assert_eq!(raw.source(variable), Some(source));
        }
    }

    #[test]
    fn empty_variables_count_as_unset() {
        let environment = Environment::from_vars([
            ("INFISICAL_TOKEN", "hunter2"),
            ("INFISICAL_LOG_LEVEL", ""),
            ("AWS_SECRET", "other"),
            ("HOME", "/home/u"),
            ("STATE_DIRECTORY", "/var/lib/a:/var/lib/b"),
            ("KUBERNETES_SERVICE_PORT_HTTPS", "443"),
            ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
            ("SSL_CERT_FILE", ""),
            ("SSL_CERT_DIR", ":/a:/b"),
        ]);
        assert_eq!(environment.ssl_cert_file, None);
        let dirs = environment.ssl_cert_dirs.as_deref().unwrap_or_default();
        let dirs: Vec<_> = dirs.iter().map(|dir| dir.path.as_path()).collect();
        assert_eq!(dirs, ["/a", "/b"].map(Path::new));
        let api = Some(("10.0.0.1".to_owned(), 443));
        assert_eq!(environment.kubernetes_api, api);
        let values = environment.values.iter();
        let values: Vec<_> = values
            .map(|(_, name, text)| (*name, text.expose()))
            .collect();
        assert_eq!(values, [("INFISICAL_TOKEN", "hunter2")]);
        assert_eq!(environment.home.as_deref(), Some(Path::new("/home/u")));
        assert_eq!(
            environment.state_directory.as_deref(),
            Some(Path::new("/var/lib/a"))
        );
        let shown = format!("{environment:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("other"));
    }

    #[test]
    fn dumb_and_unknown_terminals_get_plain_lines() {
        for (variables, can_draw) in [
            (&[("TERM", "xterm")][..], true),
            (&[("TERM", "dumb")], false),
            (&[("TERM", "")], false),
            (&[], false),
        ] {
            let environment = Environment::from_vars(variables.iter().copied());
            assert_eq!(environment.can_draw(), can_draw, "{variables:?}");
        }
    }

    #[test]
    fn non_text_value_is_remembered() {
        let bytes = OsString::from_vec(vec![0xff]);
        let environment = Environment::from_vars([(OsString::from("INFISICAL_TOKEN"), bytes)]);
        assert_eq!(environment.unreadable, ["INFISICAL_TOKEN"]);
        assert!(environment.values.is_empty());
    }
}

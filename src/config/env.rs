//! The environment: what the variables of the [table](super::table) held at start.
//!
//! The process environment is read once, in `main`, and passed on as an [`Environment`]; nothing else of the
//! program reads it, nothing writes it. The same names are the keys of configuration files.

use std::ffi::OsString;
use std::path::PathBuf;

use super::cloud::Cloud;
use crate::secret::Secret;

pub use super::table::*;

/// What the environment held when the program started. An empty variable counts as unset.
#[derive(Debug, Default, Clone)]
pub struct Environment {
    values: Vec<(&'static str, Secret)>,
    /// Variables of [`TABLE`] whose value is not UTF-8.
    pub unreadable: Vec<&'static Variable>,
    /// Other names of settings that are set.
    pub renamed: Vec<&'static str>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `XDG_STATE_HOME`.
    pub xdg_state_home: Option<PathBuf>,
    /// `STATE_DIRECTORY` of a service, the first if there are several.
    pub state_directory: Option<PathBuf>,
    /// `RUNTIME_DIRECTORY` of a service, the first if there are several.
    pub runtime_directory: Option<PathBuf>,
    /// `CREDENTIALS_DIRECTORY` of a service.
    pub credentials_directory: Option<PathBuf>,
    /// `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT_HTTPS`: the API server, for what runs in a pod.
    pub kubernetes_api: Option<(String, u16)>,
    /// The clouds' own variables.
    pub cloud: Cloud,
    /// `JOURNAL_STREAM` of a service: which stream is connected to the journal.
    pub journal_stream: Option<String>,
    /// `SSL_CERT_FILE`: root certificates instead of the system's file.
    pub ssl_cert_file: Option<PathBuf>,
    /// `SSL_CERT_DIR`: directories of root certificates instead of the system's.
    pub ssl_cert_dirs: Option<Vec<PathBuf>>,
    /// `NO_COLOR` is set.
    pub no_color: bool,
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
            let Some(name) = name.to_str().filter(|_| !value.is_empty()) else {
                continue;
            };
            let path = || Some(PathBuf::from(&value));
            if let Some(value) = value.to_str() {
                environment.cloud.keep(name, value);
            }
            match name {
                "HOME" => environment.home = path(),
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
                "SSL_CERT_FILE" => environment.ssl_cert_file = path(),
                "SSL_CERT_DIR" => {
                    let dirs = std::env::split_paths(&value);
                    let dirs: Vec<_> = dirs.filter(|dir| !dir.as_os_str().is_empty()).collect();
                    environment.ssl_cert_dirs = Some(dirs).filter(|dirs| !dirs.is_empty());
                }
                "NO_COLOR" => environment.no_color = true,
                other => {
                    let old = aliases().map(|(old, _)| old);
                    environment.renamed.extend(old.filter(|old| *old == other));
                    let Some(variable) = Variable::named(other) else {
                        continue;
                    };
                    match value.into_string() {
                        Ok(text) => environment.values.push((variable.name, Secret::new(text))),
                        Err(_) => environment.unreadable.push(variable),
                    }
                }
            }
        }
        environment.kubernetes_api = api_host.zip(api_port);
        environment
    }

    /// The older name of `variable` that is set, if one is.
    #[must_use]
    pub fn older_name(&self, variable: &Variable) -> Option<&'static str> {
        let is_set = |old: &&str| self.renamed.contains(old);
        variable.aliases.iter().copied().find(is_set)
    }

    /// The value of `variable`, if it is set and not empty.
    #[must_use]
    pub fn value(&self, variable: &Variable) -> Option<&Secret> {
        self.values
            .iter()
            .find(|(name, _)| *name == variable.name)
            .map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::{API_URL, Environment, LOG_LEVEL, TOKEN};
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;
    use std::path::Path;

    #[test]
    fn an_older_name_is_remembered_for_whom_it_meant() {
        let set = [("INFISICAL_DOMAIN", "https://host"), ("TOKEN", "")];
        let environment = Environment::from_vars(set);
        assert_eq!(environment.older_name(&API_URL), Some("INFISICAL_DOMAIN"));
        assert_eq!(environment.older_name(&TOKEN), None);
        assert!(environment.value(&API_URL).is_none());
    }

    #[test]
    fn only_what_concerns_the_program_is_kept_and_empty_is_unset() {
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
        let dirs = ["/a", "/b"].map(std::path::PathBuf::from).to_vec();
        assert_eq!(environment.ssl_cert_dirs, Some(dirs));
        let api = Some(("10.0.0.1".to_owned(), 443));
        assert_eq!(environment.kubernetes_api, api);
        assert_eq!(
            environment.value(&TOKEN).map(|token| token.expose()),
            Some("hunter2")
        );
        assert!(environment.value(&LOG_LEVEL).is_none());
        assert_eq!(environment.home.as_deref(), Some(Path::new("/home/u")));
        assert_eq!(
            environment.state_directory.as_deref(),
            Some(Path::new("/var/lib/a"))
        );
        let shown = format!("{environment:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("other"));
    }

    #[test]
    fn a_value_that_is_not_text_is_remembered_as_such() {
        let bytes = OsString::from_vec(vec![0xff]);
        let environment = Environment::from_vars([(OsString::from("INFISICAL_TOKEN"), bytes)]);
        assert_eq!(environment.unreadable, [&TOKEN]);
        assert!(environment.value(&TOKEN).is_none());
    }
}

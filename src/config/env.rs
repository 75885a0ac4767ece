//! The environment: a table of every variable that configures this program, and what it held at start.
//!
//! The process environment is read once, in `main`, and passed on as an [`Environment`]; nothing else of the
//! program reads it, nothing writes it. The same names are the keys of configuration files.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::secret::Secret;

/// One setting by the name of its environment variable, which is also its key in files.
#[derive(Debug, PartialEq, Eq)]
pub struct Variable {
    /// Name of the environment variable.
    pub name: &'static str,
    /// True if the value must never be shown.
    pub secret: bool,
    /// What it sets, for a person.
    pub meaning: &'static str,
}

macro_rules! variables {
    ($($ident:ident = $name:literal $kind:ident $meaning:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $meaning, ".")]
            pub static $ident: Variable = Variable {
                name: $name,
            secret: variables!(@$kind),
                meaning: $meaning,
            };
        )*
        /// Every variable (protocol.md §6, and ours).
        pub static TABLE: &[&Variable] = &[$(&$ident),*];
    };
    (@secret) => { true };
    (@plain) => { false };
}

variables! {
    API_URL = "INFISICAL_API_URL" plain
        "domain of the platform";
    CUSTOM_HEADERS = "INFISICAL_CUSTOM_HEADERS" secret
        "extra headers of every request to the platform, as name=value pairs";
    LOG_LEVEL = "INFISICAL_LOG_LEVEL" plain
        "what is logged: error, warn, info, debug or trace";
    LOG_FILE = "INFISICAL_LOG_FILE" plain
        "file to which lines are logged instead of standard error";
    TOKEN = "INFISICAL_TOKEN" secret
        "access token of a machine identity, or a one-time enrollment token";
    AUTH_METHOD = "INFISICAL_AUTH_METHOD" plain
        "how a machine identity logs in";
    CLIENT_ID = "INFISICAL_UNIVERSAL_AUTH_CLIENT_ID" plain
        "client id of universal auth";
    CLIENT_SECRET = "INFISICAL_UNIVERSAL_AUTH_CLIENT_SECRET" secret
        "client secret of universal auth";
    MACHINE_IDENTITY_ID = "INFISICAL_MACHINE_IDENTITY_ID" plain
        "machine identity, for methods that need its id";
    KUBERNETES_TOKEN_PATH = "INFISICAL_KUBERNETES_SERVICE_ACCOUNT_TOKEN_PATH" plain
        "file of the pod's service account token";
    GCP_KEY_PATH = "INFISICAL_GCP_IAM_SERVICE_ACCOUNT_KEY_FILE_PATH" plain
        "file of the GCP service account's key";
    JWT = "INFISICAL_JWT" secret
        "JSON web token, for methods that need one";
    GATEWAY_NAME = "INFISICAL_GATEWAY_NAME" plain
        "name of the gateway";
    GATEWAY_ID = "INFISICAL_GATEWAY_ID" plain
        "id of the gateway, for enrolling through AWS";
    GATEWAY_ENROLL_METHOD = "INFISICAL_GATEWAY_ENROLL_METHOD" plain
        "how the gateway enrolls";
    GATEWAY_ACCESS_TOKEN = "INFISICAL_GATEWAY_ACCESS_TOKEN" secret
        "access token of an enrolled gateway";
    GATEWAY_ENROLLMENT_TOKEN = "INFISICAL_GATEWAY_ENROLLMENT_TOKEN" secret
        "enrollment token that bought the gateway's access token";
    GATEWAY_DOMAIN = "INFISICAL_GATEWAY_DOMAIN" plain
        "domain at which the gateway enrolled";
    RELAY_NAME = "INFISICAL_RELAY_NAME" plain
        "name of the relay: the gateway's choice, or the relay's own";
    RELAY_HOST = "INFISICAL_RELAY_HOST" plain
        "address of the relay, as gateways and clients reach it";
    RELAY_TYPE = "INFISICAL_RELAY_TYPE" plain
        "whose relay it is: org or instance";
    RELAY_SSH_LISTEN = "INFISICAL_RELAY_SSH_LISTEN" plain
        "address and port at which the relay awaits gateways";
    RELAY_TLS_LISTEN = "INFISICAL_RELAY_TLS_LISTEN" plain
        "address and port at which the relay awaits clients";
    RELAY_AUTH_SECRET = "INFISICAL_RELAY_AUTH_SECRET" secret
        "secret that an instance shares with its relays";
    RELAY_ENROLL_METHOD = "INFISICAL_RELAY_ENROLL_METHOD" plain
        "how the relay enrolls";
    RELAY_ACCESS_TOKEN = "INFISICAL_RELAY_ACCESS_TOKEN" secret
        "access token of an enrolled relay";
    RELAY_ENROLLMENT_TOKEN = "INFISICAL_RELAY_ENROLLMENT_TOKEN" secret
        "enrollment token that bought the relay's access token";
    RELAY_DOMAIN = "INFISICAL_RELAY_DOMAIN" plain
        "domain at which the relay enrolled";
}

/// What the environment held when the program started. An empty variable counts as unset.
#[derive(Debug, Default, Clone)]
pub struct Environment {
    values: Vec<(&'static str, Secret)>,
    /// Variables of [`TABLE`] whose value is not UTF-8.
    pub unreadable: Vec<&'static Variable>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `XDG_STATE_HOME`.
    pub xdg_state_home: Option<PathBuf>,
    /// `STATE_DIRECTORY` of a service, the first if there are several.
    pub state_directory: Option<PathBuf>,
    /// `CREDENTIALS_DIRECTORY` of a service.
    pub credentials_directory: Option<PathBuf>,
    /// `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT_HTTPS`: the API server, for what runs in a pod.
    pub kubernetes_api: Option<(String, u16)>,
    /// `JOURNAL_STREAM` of a service: which stream is connected to the journal.
    pub journal_stream: Option<String>,
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
            match name {
                "HOME" => environment.home = path(),
                "XDG_STATE_HOME" => environment.xdg_state_home = path(),
                "STATE_DIRECTORY" => {
                    environment.state_directory = std::env::split_paths(&value).next();
                }
                "CREDENTIALS_DIRECTORY" => environment.credentials_directory = path(),
                "KUBERNETES_SERVICE_HOST" => api_host = value.into_string().ok(),
                "KUBERNETES_SERVICE_PORT_HTTPS" => {
                    api_port = value.to_str().and_then(|port| port.parse().ok());
                }
                "JOURNAL_STREAM" => environment.journal_stream = value.into_string().ok(),
                "NO_COLOR" => environment.no_color = true,
                other => {
                    let Some(&variable) = TABLE.iter().find(|known| known.name == other) else {
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
    use super::{Environment, LOG_LEVEL, TABLE, TOKEN};
    use std::collections::HashSet;
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;
    use std::path::Path;

    #[test]
    fn every_variable_of_the_protocol_is_in_the_table_once() {
        let protocol = [
            "INFISICAL_TOKEN",
            "INFISICAL_GATEWAY_ACCESS_TOKEN",
            "INFISICAL_API_URL",
            "INFISICAL_GATEWAY_NAME",
            "INFISICAL_RELAY_NAME",
            "INFISICAL_RELAY_HOST",
            "INFISICAL_RELAY_TYPE",
            "INFISICAL_RELAY_AUTH_SECRET",
            "INFISICAL_GATEWAY_ENROLL_METHOD",
            "INFISICAL_GATEWAY_ID",
            "INFISICAL_AUTH_METHOD",
            "INFISICAL_UNIVERSAL_AUTH_CLIENT_ID",
            "INFISICAL_UNIVERSAL_AUTH_CLIENT_SECRET",
            "INFISICAL_MACHINE_IDENTITY_ID",
            "INFISICAL_KUBERNETES_SERVICE_ACCOUNT_TOKEN_PATH",
            "INFISICAL_GCP_IAM_SERVICE_ACCOUNT_KEY_FILE_PATH",
            "INFISICAL_JWT",
            "INFISICAL_CUSTOM_HEADERS",
        ];
        let names: HashSet<_> = TABLE.iter().map(|variable| variable.name).collect();
        assert_eq!(names.len(), TABLE.len(), "a name is there twice");
        for name in protocol {
            assert!(names.contains(name), "{name} is missing");
        }
        for variable in TABLE {
            let sensitive = ["TOKEN", "SECRET", "JWT", "HEADERS"]
                .iter()
                .any(|end| variable.name.ends_with(end));
            assert_eq!(variable.secret, sensitive, "{}", variable.name);
        }
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
        ]);
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

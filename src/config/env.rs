//! The environment: a table of every variable that configures this program, and what it held at start.
//!
//! The process environment is read once, in `main`, and passed on as an [`Environment`]; nothing else of the
//! program reads it, nothing writes it. The same names are the keys of configuration files.

use std::ffi::OsString;
use std::path::PathBuf;

use super::cloud::Cloud;
use crate::secret::Secret;

/// One setting by the name of its environment variable, from which its keys in files follow.
#[derive(Debug, PartialEq, Eq)]
pub struct Variable {
    /// Name of the environment variable, and the key in a file of `KEY=value` lines.
    pub name: &'static str,
    /// True if the value must never be shown.
    pub secret: bool,
    /// Who acts on it.
    pub used: Used,
    /// What it sets, for a person.
    pub meaning: &'static str,
    /// What holds without it, for a person; empty if that is nothing.
    pub default: &'static str,
}

/// Who acts on a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Used {
    /// Gateways and relays.
    ByAll,
    /// Gateways.
    ByGateways,
    /// Relays.
    ByRelays,
    /// Nobody in this version: it belongs to a method or a feature of the deployed program that is not there yet.
    ByNobody,
}

impl Used {
    /// True if somebody of `other` acts on it too.
    #[must_use]
    pub fn includes(self, other: Self) -> bool {
        match self {
            Self::ByAll => other != Self::ByNobody,
            Self::ByGateways | Self::ByRelays => other == self,
            Self::ByNobody => false,
        }
    }
}

impl Variable {
    /// Its key in a TOML file: the name without `INFISICAL_`, in lower case.
    #[must_use]
    pub fn toml_key(&self) -> String {
        toml_key(self.name)
    }
}

/// The TOML spelling of a name.
pub(super) fn toml_key(name: &str) -> String {
    let name = name.strip_prefix("INFISICAL_").unwrap_or(name);
    name.to_ascii_lowercase()
}

macro_rules! variables {
    ($($ident:ident = $name:literal $kind:ident $used:ident $meaning:literal $(or $default:literal)?;)*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $meaning, ".")]
            pub static $ident: Variable = Variable {
                name: $name,
                secret: variables!(@$kind),
                used: Used::$used,
                meaning: $meaning,
                default: concat!("", $($default)?),
            };
        )*
        /// Every variable (protocol.md §6, and ours).
        pub static TABLE: &[&Variable] = &[$(&$ident),*];
    };
    (@secret) => { true };
    (@plain) => { false };
}

variables! {
    API_URL = "INFISICAL_API_URL" plain ByAll
        "domain of the platform" or "https://app.infisical.com";
    CUSTOM_HEADERS = "INFISICAL_CUSTOM_HEADERS" secret ByAll
        "extra headers of every request to the platform, as name=value pairs";
    LOG_LEVEL = "INFISICAL_LOG_LEVEL" plain ByAll
        "what is logged: error, warn, info, debug or trace" or "info";
    LOG_FILE = "INFISICAL_LOG_FILE" plain ByAll
        "file to which lines are logged instead of standard error" or "standard error";
    TOKEN = "INFISICAL_TOKEN" secret ByAll
        "access token of a machine identity, or a one-time enrollment token";
    AUTH_METHOD = "INFISICAL_AUTH_METHOD" plain ByAll
        "how a machine identity logs in: universal-auth, kubernetes, azure, gcp-id-token, gcp-iam, aws-iam, oidc-auth or jwt-auth";
    CLIENT_ID = "INFISICAL_UNIVERSAL_AUTH_CLIENT_ID" plain ByAll
        "client id of universal auth";
    CLIENT_SECRET = "INFISICAL_UNIVERSAL_AUTH_CLIENT_SECRET" secret ByAll
        "client secret of universal auth";
    MACHINE_IDENTITY_ID = "INFISICAL_MACHINE_IDENTITY_ID" plain ByAll
        "id of the machine identity that logs in, for every method but universal-auth";
    ORGANIZATION_SLUG = "INFISICAL_AUTH_ORGANIZATION_SLUG" plain ByAll
        "slug of the sub-organization that a login is for" or "the identity's organization";
    KUBERNETES_TOKEN_PATH = "INFISICAL_KUBERNETES_SERVICE_ACCOUNT_TOKEN_PATH" plain ByAll
        "file of the pod's service account token, read at each login with kubernetes"
        or "/var/run/secrets/kubernetes.io/serviceaccount/token";
    GCP_KEY_PATH = "INFISICAL_GCP_IAM_SERVICE_ACCOUNT_KEY_FILE_PATH" plain ByAll
        "file of the GCP service account's key, read at each login with gcp-iam";
    JWT = "INFISICAL_JWT" secret ByAll
        "JSON web token to log in with oidc-auth or jwt-auth";
    JWT_FILE = "INFISICAL_JWT_FILE" plain ByAll
        "file of that token, read at each login";
    GATEWAY_NAME = "INFISICAL_GATEWAY_NAME" plain ByGateways
        "name of the gateway" or "required";
    GATEWAY_ENROLL_METHOD = "INFISICAL_GATEWAY_ENROLL_METHOD" plain ByGateways
        "how the gateway enrolls: token, or aws with its AWS role";
    GATEWAY_ID = "INFISICAL_GATEWAY_ID" plain ByGateways
        "id of the gateway, for enrolling with aws";
    GATEWAY_ACCESS_TOKEN = "INFISICAL_GATEWAY_ACCESS_TOKEN" secret ByGateways
        "access token of an enrolled gateway";
    GATEWAY_ENROLLMENT_TOKEN = "INFISICAL_GATEWAY_ENROLLMENT_TOKEN" secret ByGateways
        "enrollment token that bought the gateway's access token";
    GATEWAY_DOMAIN = "INFISICAL_GATEWAY_DOMAIN" plain ByGateways
        "domain at which the gateway enrolled";
    RELAY_NAME = "INFISICAL_RELAY_NAME" plain ByAll
        "name of the relay: the one that a gateway is to use, or a relay's own" or "the fastest healthy relay";
    RELAY_HOST = "INFISICAL_RELAY_HOST" plain ByRelays
        "host name or IP address of the relay, as gateways and clients reach it" or "required";
    RELAY_TYPE = "INFISICAL_RELAY_TYPE" plain ByRelays
        "whose relay it is: org or instance" or "org";
    RELAY_SSH_LISTEN = "INFISICAL_RELAY_SSH_LISTEN" plain ByRelays
        "address and port at which the relay awaits gateways" or "port 2222 of every address";
    RELAY_TLS_LISTEN = "INFISICAL_RELAY_TLS_LISTEN" plain ByRelays
        "address and port at which the relay awaits clients" or "port 8443 of every address";
    RELAY_MAX_HANDSHAKES = "INFISICAL_RELAY_MAX_HANDSHAKES" plain ByRelays
        "connections of each port that have not proved themselves yet; further ones wait" or "512";
    RELAY_MAX_PER_SOURCE = "INFISICAL_RELAY_MAX_CONNECTIONS_PER_SOURCE" plain ByRelays
        "connections from one IPv4 address or IPv6 network of 64 bits; further ones are closed" or "8192";
    RELAY_MAX_GATEWAYS = "INFISICAL_RELAY_MAX_GATEWAYS" plain ByRelays
        "gateways that are connected; further ones are told so and disconnected" or "8192";
    RELAY_MAX_CLIENTS = "INFISICAL_RELAY_MAX_CLIENTS" plain ByRelays
        "clients that are connected; further ones are closed" or "16384";
    RELAY_MAX_PER_GATEWAY = "INFISICAL_RELAY_MAX_CLIENTS_PER_GATEWAY" plain ByRelays
        "clients of one gateway; further ones are closed" or "4096";
    RELAY_AUTH_SECRET = "INFISICAL_RELAY_AUTH_SECRET" secret ByRelays
        "secret that an instance shares with its relays";
    RELAY_ENROLL_METHOD = "INFISICAL_RELAY_ENROLL_METHOD" plain ByRelays
        "how the relay enrolls: token, or aws with its AWS role";
    RELAY_ID = "INFISICAL_RELAY_ID" plain ByRelays
        "id of the relay, for enrolling with aws";
    RELAY_ACCESS_TOKEN = "INFISICAL_RELAY_ACCESS_TOKEN" secret ByRelays
        "access token of an enrolled relay";
    RELAY_ENROLLMENT_TOKEN = "INFISICAL_RELAY_ENROLLMENT_TOKEN" secret ByRelays
        "enrollment token that bought the relay's access token";
    RELAY_DOMAIN = "INFISICAL_RELAY_DOMAIN" plain ByRelays
        "domain at which the relay enrolled";
    PKCS11_MODULE = "INFISICAL_PKCS11_MODULE" plain ByNobody
        "PKCS#11 module for the keys of an HSM";
    SESSION_RECORDING_PATH = "INFISICAL_PAM_SESSION_RECORDING_PATH" plain ByNobody
        "directory of recorded sessions";
    DISABLE_UPDATE_CHECK = "INFISICAL_DISABLE_UPDATE_CHECK" plain ByNobody
        "no search for newer versions; this program makes none";
}

/// Older and other names of a setting, with the setting that they are called now.
pub static RENAMED: &[(&str, &Variable)] = &[
    // The first gateway's file, and the token's name in its Helm chart.
    ("INFISICAL_UNIVERSAL_AUTH_ACCESS_TOKEN", &TOKEN),
    ("TOKEN", &TOKEN),
    // Names that only the deployed program reads from its environment, which its units make of the file.
    ("INFISICAL_DOMAIN", &API_URL),
    ("INFISICAL_OIDC_AUTH_JWT", &JWT),
    ("LOG_LEVEL", &LOG_LEVEL),
];

/// What the environment held when the program started. An empty variable counts as unset.
#[derive(Debug, Default, Clone)]
pub struct Environment {
    values: Vec<(&'static str, Secret)>,
    /// Variables of [`TABLE`] whose value is not UTF-8.
    pub unreadable: Vec<&'static Variable>,
    /// Names of [`RENAMED`] that are set: they have no effect, but whoever set them meant something.
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
                "NO_COLOR" => environment.no_color = true,
                other => {
                    let old = RENAMED.iter().map(|(old, _)| *old);
                    environment.renamed.extend(old.filter(|old| *old == other));
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

    /// The older name of `variable` that is set, if one is.
    #[must_use]
    pub fn older_name(&self, variable: &Variable) -> Option<&'static str> {
        let is_set = |old: &&str| self.renamed.contains(old);
        let older = RENAMED.iter().filter(|(_, now)| *now == variable);
        older.map(|(old, _)| *old).find(is_set)
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
    use super::{API_URL, Environment, LOG_LEVEL, RENAMED, TABLE, TOKEN, Used};
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
    fn no_two_names_are_the_same_in_a_toml_file() {
        let keys: HashSet<_> = TABLE.iter().map(|variable| variable.toml_key()).collect();
        assert_eq!(keys.len(), TABLE.len());
        assert_eq!(API_URL.toml_key(), "api_url");
        for (old, now) in RENAMED {
            assert!(TABLE.iter().all(|variable| variable.name != *old), "{old}");
            assert!(TABLE.contains(now), "{old}");
        }
    }

    #[test]
    fn what_nobody_uses_is_used_by_no_role() {
        use Used::{ByAll, ByGateways, ByNobody, ByRelays};
        for (used, asked, included) in [
            (ByAll, ByGateways, true),
            (ByAll, ByRelays, true),
            (ByGateways, ByGateways, true),
            (ByGateways, ByRelays, false),
            (ByNobody, ByGateways, false),
            (ByAll, ByNobody, false),
        ] {
            assert_eq!(used.includes(asked), included, "{used:?} {asked:?}");
        }
    }

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

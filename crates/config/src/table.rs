//! The table of settings: one row for each, which is all that the program knows of its names.
//!
//! Made from it: the arguments of the commands (`cli/setting_args.rs`), what is read from the
//! environment and from files, the output of `check`, which settings an installation keeps
//! (`install/config_changes.rs`), which of a replaced unit's settings are credentials
//! (`install/existing_unit.rs`), and the tables of docs/configuration.md (`tests/house` compares
//! them).

use strum::VariantNames;

use super::credential::{LoginMethod, POD_TOKEN};
use super::domain::DEFAULT_DOMAIN;
use super::log::{LogDestination, LogFormat, LogLevel, keyword};
use super::settings::RelayKind;

/// Gives the usual word for what a text means, or says which words are possible.
pub type Keyword = fn(&str) -> Result<&'static str, String>;

/// One setting, by the name of its environment variable, from which its keys in files follow. Two
/// rows are equal if their names are.
#[derive(Debug)]
pub struct Variable {
    /// Name of the environment variable, and the key in a file of `KEY=value` lines.
    pub name: &'static str,
    /// What it sets, for a person: the text of `--help` and of the documentation.
    pub meaning: &'static str,
    /// True if the value must never be shown.
    pub secret: bool,
    /// Which role uses it.
    pub used: Used,
    /// What it belongs to.
    pub group: Group,
    /// Which values are possible.
    pub kind: Kind,
    /// Reads a flag's value, if a flag may have only some words; gives the usual one of the same
    /// meaning.
    pub keyword: Option<Keyword>,
    /// Flags that set it, the strongest first.
    pub flags: &'static [Flag],
    /// Other names of the variable that win over its own.
    pub stronger: &'static [&'static str],
    /// Other names of the variable, used without its own.
    pub aliases: &'static [&'static str],
    /// The value without it, for a person; empty if there is none.
    pub default: &'static str,
}

impl PartialEq for Variable {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Variable {}

/// Which role uses a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Used {
    /// Gateways and relays.
    ByAll,
    /// Gateways.
    ByGateways,
    /// Relays.
    ByRelays,
    /// No role of this version: it belongs to a feature of the deployed program that is not there
    /// yet.
    ByNone,
}

impl Used {
    /// True if a role of `other` uses it too.
    #[must_use]
    pub fn includes(self, other: Self) -> bool {
        match self {
            Self::ByAll => other != Self::ByNone,
            Self::ByGateways | Self::ByRelays => other == self,
            Self::ByNone => false,
        }
    }
}

/// What a setting belongs to. An installation keeps settings of [`Group::is_credential`] only for
/// the credential that is in use, and all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// What the role is and does.
    General,
    /// Flags of every command.
    Global,
    /// Bounds on what the role accepts.
    Limits,
    /// The token of a machine identity or an enrollment.
    Token,
    /// How a machine identity logs in.
    Login,
    /// The organization of a login.
    Organization,
    /// How the role enrolls.
    Enrollment,
    /// The secret that an instance shares with its relays.
    SharedSecret,
    /// What an enrollment stored in the file.
    Stored,
    /// The platform that an enrollment stored in the file.
    StoredDomain,
}

impl Group {
    /// True for what proves the identity of the role: of several ways to do that, only one counts.
    #[must_use]
    pub fn is_credential(self) -> bool {
        matches!(
            self,
            Self::Token | Self::Login | Self::Enrollment | Self::SharedSecret | Self::Stored
        )
    }

    /// The heading of its flags in `--help`.
    #[must_use]
    pub fn heading(self) -> Option<&'static str> {
        match self {
            Self::General => None,
            Self::Global => Some("Global options"),
            Self::Limits => Some("Limits"),
            Self::Token
            | Self::Login
            | Self::Organization
            | Self::Enrollment
            | Self::SharedSecret
            | Self::Stored
            | Self::StoredDomain => Some("Credentials"),
        }
    }
}

/// Which values a setting may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One word of printable ASCII; in `--help` it has this name, such as `ID`.
    Text(&'static str),
    /// A name for people, which may hold spaces.
    Name,
    /// A token or another secret: one word of printable ASCII.
    Secret,
    /// A JSON web token in its compact form (RFC 7519 §3).
    Jwt,
    /// A URL of the platform.
    Url,
    /// The path of a file or a directory.
    Path,
    /// An address and a port.
    Address,
    /// A number from 1.
    Number,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `true` or `false`; a flag without a value is `true`.
    Switch,
    /// Header lines of a request, whose values are secrets.
    Headers,
    /// Rules for targets, which stand between commas or white space; in TOML a list.
    Rules,
}

impl Kind {
    /// The name of the value in `--help`.
    #[must_use]
    pub fn value_name(self) -> &'static str {
        match self {
            Self::Text(name) => name,
            Self::Name => "NAME",
            Self::Secret | Self::Jwt => "SECRET",
            Self::Url => "URL",
            Self::Path => "FILE",
            Self::Address => "ADDR:PORT",
            Self::Number => "N",
            Self::Choice(_) => "METHOD",
            Self::Switch => "BOOL",
            Self::Headers => "HEADERS",
            Self::Rules => "RULES",
        }
    }
}

/// A flag that sets a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag {
    /// As it is typed.
    pub name: &'static str,
    /// The same in one letter.
    pub short: Option<char>,
    /// The roles whose commands have it.
    pub used: Used,
    /// An older spelling, which `--help` does not show.
    pub is_older: bool,
    /// The value is the path of a file that holds the setting.
    pub reads_file: bool,
    /// Flags that cannot be given beside it.
    pub excludes: &'static [&'static str],
    /// What it sets, where the setting means something else to each role, and the default.
    pub meaning: Option<(&'static str, &'static str)>,
}

impl Flag {
    const fn new(name: &'static str) -> Self {
        Self {
            name,
            short: None,
            used: Used::ByAll,
            is_older: false,
            reads_file: false,
            excludes: &[],
            meaning: None,
        }
    }

    const fn meaning(self, text: &'static str, default: &'static str) -> Self {
        Self {
            meaning: Some((text, default)),
            ..self
        }
    }

    const fn of(self, used: Used) -> Self {
        Self { used, ..self }
    }

    const fn older(self) -> Self {
        Self {
            is_older: true,
            ..self
        }
    }

    const fn reading(self) -> Self {
        Self {
            reads_file: true,
            ..self
        }
    }

    const fn short(self, letter: char) -> Self {
        Self {
            short: Some(letter),
            ..self
        }
    }

    const fn excluding(self, excludes: &'static [&'static str]) -> Self {
        Self { excludes, ..self }
    }

    /// The flag without its dashes.
    #[must_use]
    pub fn word(&self) -> &'static str {
        word(self.name)
    }
}

/// `flag` without its dashes.
#[must_use]
pub fn word(flag: &'static str) -> &'static str {
    flag.trim_start_matches('-')
}

impl Variable {
    /// Its key in a TOML file: the name without `INFISICAL_`, in lower case; rules for targets have
    /// a table of their own.
    #[must_use]
    pub fn toml_key(&self) -> String {
        let key = toml_key(self.name);
        match self.kind {
            Kind::Rules => key.replacen('_', ".", 1),
            _ => key,
        }
    }

    /// The words that are its possible values, if there are only some.
    #[must_use]
    pub(crate) fn choices(&self) -> &'static [&'static str] {
        if let Kind::Choice(words) = self.kind {
            words
        } else {
            &[]
        }
    }

    /// The flag to name where a message asks a person to give it; its variable if it has none.
    #[must_use]
    pub fn flag(&self) -> &'static str {
        self.flags.first().map_or(self.name, |flag| flag.name)
    }

    /// The flags that set it in commands of `role`.
    pub fn flags_of(&self, role: Used) -> impl Iterator<Item = &'static Flag> {
        // Flags without effect are accepted all the same.
        let is_used = self.used.includes(role) || self.used == Used::ByNone;
        let is_there = move |flag: &&Flag| is_used && flag.used.includes(role);
        self.flags.iter().filter(is_there)
    }

    /// The setting whose own name is `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        TABLE.iter().copied().find(|known| known.name == name)
    }

    /// Every name of the variable, the one that wins first.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        let own = std::iter::once(self.name);
        let stronger = self.stronger.iter().copied();
        stronger.chain(own).chain(self.aliases.iter().copied())
    }

    /// How many of its names win over `name`.
    pub(super) fn rank(&self, name: &str) -> usize {
        self.names().take_while(|known| *known != name).count()
    }

    /// The setting that has `name`, its own or another one, with that name.
    #[must_use]
    pub(crate) fn called(name: &str) -> Option<(&'static Self, &'static str)> {
        TABLE.iter().copied().find_map(|known| {
            let mut names = known.names();
            names.find(|known| *known == name).map(|name| (known, name))
        })
    }

    /// The setting that a command of `role` sets by `flag`.
    #[must_use]
    pub fn of_flag(flag: &str, role: Used) -> Option<&'static Self> {
        let sets = |known: &&Self| known.flags_of(role).any(|known| known.name == flag);
        TABLE.iter().copied().find(sets)
    }
}

/// True for a variable of other programs that a `KEY=value` file may set, since units read such
/// files as their environment: it counts as in the environment, which wins.
#[must_use]
pub(crate) fn is_standard(name: &str) -> bool {
    is_plain(name) || super::proxy::is_known(name) || super::cloud::is_known(name)
}

/// True for those that hold no secret. The URL of a proxy may hold a password.
#[must_use]
pub(crate) fn is_plain(name: &str) -> bool {
    ["SSL_CERT_FILE", "SSL_CERT_DIR", "TZ"].contains(&name) || super::proxy::BYPASS.contains(&name)
}

/// Stands for every variable that is no setting of this program.
pub static FOREIGN: Variable = Variable {
    meaning: "a variable of another program",
    secret: true,
    used: Used::ByNone,
    ..ROW
};

/// True for a name that other programs may use as well, such as `LOG_LEVEL`: what it says counts
/// only if nothing else sets the setting, and a value that is not understood is not a mistake.
#[must_use]
pub(crate) fn is_shared(name: &str) -> bool {
    !name.starts_with("INFISICAL_")
}

/// The TOML spelling of a name.
pub(super) fn toml_key(name: &str) -> String {
    let name = name.strip_prefix("INFISICAL_").unwrap_or(name);
    name.to_ascii_lowercase()
}

/// Other names of settings, each with the setting that it stands for.
pub fn aliases() -> impl Iterator<Item = (&'static str, &'static Variable)> {
    TABLE.iter().copied().flat_map(|known| {
        let names = known.names().filter(|name| *name != known.name);
        names.map(move |alias| (alias, known))
    })
}

/// Ways to enroll (protocol.md §6).
pub(crate) const GATEWAY_ENROLL_METHODS: [&str; 4] = ["token", "aws", "kubernetes", "gcp"];

/// The same for relays.
pub(crate) const RELAY_ENROLL_METHODS: [&str; 2] = ["token", "aws"];

/// How a gateway that enrolls with gcp proves itself.
pub(crate) const GCP_AUTH_TYPES: [&str; 2] = ["gce", "iam"];

/// A row on which nothing is said.
const ROW: Variable = Variable {
    name: "",
    meaning: "",
    secret: false,
    used: Used::ByAll,
    group: Group::General,
    kind: Kind::Name,
    keyword: None,
    flags: &[],
    stronger: &[],
    aliases: &[],
    default: "",
};

macro_rules! settings {
    ($($ident:ident = $name:literal $meaning:literal { $($field:ident: $value:expr),* $(,)? })*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $meaning, ".")]
            pub static $ident: Variable = Variable {
                name: $name,
                meaning: $meaning,
                $($field: $value,)*
                ..ROW
            };
        )*
        /// Every setting.
        pub static TABLE: &[&Variable] = &[$(&$ident),*];
    };
}

settings! {
    API_URL = "INFISICAL_API_URL" "domain of the platform" {
        group: Group::Global,
        kind: Kind::Url,
        flags: &[Flag::new("--domain")],
        stronger: &["INFISICAL_DOMAIN"],
        default: DEFAULT_DOMAIN,
    }
    CA_FILE = "INFISICAL_CA_FILE"
    "file with certificates (PEM) of a private CA of the platform, trusted in addition to the system's" {
        group: Group::Global,
        kind: Kind::Path,
        flags: &[Flag::new("--ca-file")],
    }
    CUSTOM_HEADERS = "INFISICAL_CUSTOM_HEADERS"
    "extra headers of every request to the platform, as name=value pairs" {
        secret: true,
        kind: Kind::Headers,
    }
    LOG_LEVEL = "INFISICAL_LOG_LEVEL" "what is logged: error (or fatal), warn, info, debug or trace" {
        group: Group::Global,
        kind: Kind::Text("LEVEL"),
        keyword: Some(keyword::<LogLevel>),
        flags: &[Flag::new("--log-level").short('l')],
        aliases: &["LOG_LEVEL"],
        default: "info",
    }
    LOG_FILE = "INFISICAL_LOG_FILE"
    "file to which lines are logged instead of standard error; opened again on SIGUSR1, for logrotate" {
        group: Group::Global,
        kind: Kind::Path,
        flags: &[Flag::new("--log-file")],
        default: "standard error",
    }
    AUDIT_FILE = "INFISICAL_AUDIT_FILE"
    "file for the record of sessions, one line of JSON for each event, beside the log; opened again with the log file" {
        used: Used::ByGateways,
        kind: Kind::Path,
        flags: &[Flag::new("--audit-file")],
        default: "none",
    }
    LOG_FORMAT = "LOG_FORMAT"
    "format of log lines: console (for people, in colour on a terminal), plain (without colour) or json" {
        group: Group::Global,
        kind: Kind::Text("FORMAT"),
        keyword: Some(keyword::<LogFormat>),
        flags: &[Flag::new("--log-format")],
        default: "console",
    }
    LOG_DESTINATION = "LOG_DESTINATION" "where lines are logged: stderr or stdout" {
        group: Group::Global,
        kind: Kind::Text("STREAM"),
        keyword: Some(keyword::<LogDestination>),
        flags: &[Flag::new("--log-destination")],
        default: "stderr",
    }
    METRICS_LISTEN = "INFISICAL_METRICS_LISTEN"
    "where metrics, /healthz and /readyz are served: ADDR:PORT, or unix:PATH for a unix socket" {
        kind: Kind::Text("ADDR:PORT|unix:PATH"),
        flags: &[Flag::new("--metrics-listen")],
        default: "nowhere",
    }
    METRICS_ALLOW_REMOTE = "INFISICAL_METRICS_ALLOW_REMOTE"
    "metrics may be served at an address that other machines reach; anyone who does can read them" {
        kind: Kind::Switch,
        flags: &[Flag::new("--metrics-allow-remote")],
        default: "false",
    }
    TOKEN = "INFISICAL_TOKEN"
    "access token of a machine identity, or a one-time enrollment token; `--token -` reads it from standard input" {
        secret: true,
        group: Group::Token,
        kind: Kind::Secret,
        flags: &[Flag::new("--token"), Flag::new("--token-file").reading().excluding(&["--token"])],
        stronger: &["INFISICAL_UNIVERSAL_AUTH_ACCESS_TOKEN"],
        aliases: &["TOKEN"],
    }
    AUTH_METHOD = "INFISICAL_AUTH_METHOD"
    "how a machine identity logs in: universal-auth, kubernetes, azure, gcp-id-token, gcp-iam, aws-iam, oidc-auth or jwt-auth" {
        group: Group::Login,
        kind: Kind::Choice(LoginMethod::VARIANTS),
        flags: &[Flag::new("--auth-method").excluding(&["--token", "--token-file"])],
    }
    CLIENT_ID = "INFISICAL_UNIVERSAL_AUTH_CLIENT_ID" "client id of universal auth" {
        group: Group::Login,
        kind: Kind::Text("ID"),
        flags: &[Flag::new("--client-id")],
    }
    CLIENT_SECRET = "INFISICAL_UNIVERSAL_AUTH_CLIENT_SECRET" "client secret of universal auth" {
        secret: true,
        group: Group::Login,
        kind: Kind::Secret,
        flags: &[Flag::new("--client-secret")],
    }
    MACHINE_IDENTITY_ID = "INFISICAL_MACHINE_IDENTITY_ID"
    "id of the machine identity that logs in, for every method but universal-auth" {
        group: Group::Login,
        kind: Kind::Text("ID"),
        flags: &[Flag::new("--machine-identity-id")],
    }
    ORGANIZATION_SLUG = "INFISICAL_AUTH_ORGANIZATION_SLUG"
    "slug of the sub-organization that a login is for" {
        group: Group::Organization,
        kind: Kind::Text("SLUG"),
        flags: &[Flag::new("--organization-slug")],
        default: "the identity's organization",
    }
    KUBERNETES_TOKEN_PATH = "INFISICAL_KUBERNETES_SERVICE_ACCOUNT_TOKEN_PATH"
    "file of the pod's service account token, read at each login with kubernetes" {
        group: Group::Login,
        kind: Kind::Path,
        flags: &[Flag::new("--service-account-token-path")],
        default: POD_TOKEN,
    }
    GCP_KEY_PATH = "INFISICAL_GCP_IAM_SERVICE_ACCOUNT_KEY_FILE_PATH"
    "file of the GCP service account's key, read at each login with gcp-iam or gcp" {
        group: Group::Login,
        kind: Kind::Path,
        flags: &[Flag::new("--service-account-key-file-path")],
    }
    JWT = "INFISICAL_JWT" "JSON web token to log in with oidc-auth or jwt-auth" {
        secret: true,
        group: Group::Login,
        kind: Kind::Jwt,
        flags: &[Flag::new("--jwt")],
        aliases: &["INFISICAL_OIDC_AUTH_JWT"],
    }
    JWT_FILE = "INFISICAL_JWT_FILE" "file of that token, read at each login" {
        group: Group::Login,
        kind: Kind::Path,
        flags: &[Flag::new("--jwt-file").excluding(&["--jwt"])],
    }
    GATEWAY_NAME = "INFISICAL_GATEWAY_NAME" "name of the gateway" {
        used: Used::ByGateways,
        flags: &[Flag::new("--name").older()],
        default: "required",
    }
    GATEWAY_ENROLL_METHOD = "INFISICAL_GATEWAY_ENROLL_METHOD"
    "how the gateway enrolls: token, exchanged once; or aws, kubernetes or gcp, which log in at each start as what the machine or the pod is" {
        used: Used::ByGateways,
        group: Group::Enrollment,
        kind: Kind::Choice(&GATEWAY_ENROLL_METHODS),
        flags: &[Flag::new("--enroll-method").excluding(&["--auth-method"])],
    }
    GATEWAY_ID = "INFISICAL_GATEWAY_ID" "id of the gateway, for enrolling with aws, kubernetes or gcp" {
        used: Used::ByGateways,
        group: Group::Enrollment,
        kind: Kind::Text("ID"),
        flags: &[Flag::new("--gateway-id")],
    }
    GCP_AUTH_TYPE = "INFISICAL_GCP_AUTH_TYPE"
    "with which token a gateway that enrolls with gcp logs in: gce, of the machine, or iam, signed for a service account" {
        used: Used::ByGateways,
        group: Group::Enrollment,
        kind: Kind::Choice(&GCP_AUTH_TYPES),
        flags: &[Flag::new("--gcp-auth-type")],
        default: "gce",
    }
    GATEWAY_ACCESS_TOKEN = "INFISICAL_GATEWAY_ACCESS_TOKEN" "access token of an enrolled gateway" {
        secret: true,
        used: Used::ByGateways,
        group: Group::Stored,
        kind: Kind::Secret,
    }
    GATEWAY_ENROLLMENT_TOKEN = "INFISICAL_GATEWAY_ENROLLMENT_TOKEN"
    "enrollment token that was exchanged for the gateway's access token" {
        secret: true,
        used: Used::ByGateways,
        group: Group::Stored,
        kind: Kind::Secret,
    }
    GATEWAY_DOMAIN = "INFISICAL_GATEWAY_DOMAIN" "domain at which the gateway enrolled" {
        used: Used::ByGateways,
        group: Group::StoredDomain,
        kind: Kind::Url,
    }
    RELAY_NAME = "INFISICAL_RELAY_NAME"
    "name of the relay: the one that a gateway is to use, or a relay's own" {
        flags: &[
            Flag::new("--name")
                .of(Used::ByRelays)
                .meaning("name of the relay", "required"),
            Flag::new("--target-relay-name").of(Used::ByGateways).meaning(
                "name of the relay that the gateway is to use",
                "the relay of the last run if healthy, else the fastest healthy relay",
            ),
            Flag::new("--relay").of(Used::ByGateways).older(),
        ],
        default: "the relay of the last run if healthy, else the fastest healthy relay",
    }
    RELAY_HOST = "INFISICAL_RELAY_HOST"
    "host name or IP address of the relay, as gateways and clients reach it" {
        used: Used::ByRelays,
        kind: Kind::Text("HOST"),
        flags: &[Flag::new("--host")],
        default: "required",
    }
    RELAY_TYPE = "INFISICAL_RELAY_TYPE" "whose relay it is: org or instance" {
        used: Used::ByRelays,
        kind: Kind::Choice(RelayKind::VARIANTS),
        flags: &[Flag::new("--type")],
        default: "org",
    }
    RELAY_SSH_LISTEN = "INFISICAL_RELAY_SSH_LISTEN"
    "address and port at which the relay accepts gateways" {
        used: Used::ByRelays,
        kind: Kind::Address,
        flags: &[Flag::new("--ssh-listen")],
        default: "port 2222 of every address",
    }
    RELAY_TLS_LISTEN = "INFISICAL_RELAY_TLS_LISTEN"
    "address and port at which the relay accepts clients" {
        used: Used::ByRelays,
        kind: Kind::Address,
        flags: &[Flag::new("--tls-listen")],
        default: "port 8443 of every address",
    }
    RELAY_MAX_HANDSHAKES = "INFISICAL_RELAY_MAX_HANDSHAKES"
    "unauthenticated connections of each port; further ones wait, and one source gets seven times what is free" {
        used: Used::ByRelays,
        group: Group::Limits,
        kind: Kind::Number,
        flags: &[Flag::new("--max-handshakes")],
        default: "512",
    }
    RELAY_MAX_PER_SOURCE = "INFISICAL_RELAY_MAX_CONNECTIONS_PER_SOURCE"
    "connections from one IPv4 address or IPv6 network of 64 bits; further ones are closed" {
        used: Used::ByRelays,
        group: Group::Limits,
        kind: Kind::Number,
        flags: &[Flag::new("--max-connections-per-source")],
        default: "8192",
    }
    RELAY_MAX_GATEWAYS = "INFISICAL_RELAY_MAX_GATEWAYS"
    "connected gateways; further ones are told so and disconnected" {
        used: Used::ByRelays,
        group: Group::Limits,
        kind: Kind::Number,
        flags: &[Flag::new("--max-gateways")],
        default: "8192",
    }
    RELAY_MAX_CLIENTS = "INFISICAL_RELAY_MAX_CLIENTS"
    "connected clients; further ones are closed" {
        used: Used::ByRelays,
        group: Group::Limits,
        kind: Kind::Number,
        flags: &[Flag::new("--max-clients")],
        default: "16384",
    }
    RELAY_MAX_PER_GATEWAY = "INFISICAL_RELAY_MAX_CLIENTS_PER_GATEWAY"
    "clients of one gateway; further ones are closed" {
        used: Used::ByRelays,
        group: Group::Limits,
        kind: Kind::Number,
        flags: &[Flag::new("--max-clients-per-gateway")],
        default: "4096",
    }
    RELAY_MAX_BUFFER = "INFISICAL_RELAY_MAX_BUFFER_MIB"
    "memory in MiB for data on their way; one organization gets seven times what is free, then its windows stay small" {
        used: Used::ByRelays,
        group: Group::Limits,
        kind: Kind::Number,
        flags: &[Flag::new("--max-buffer-mib")],
        default: "1024",
    }
    RELAY_AUTH_SECRET = "INFISICAL_RELAY_AUTH_SECRET"
    "secret that an instance shares with its relays, for the type instance" {
        secret: true,
        used: Used::ByRelays,
        group: Group::SharedSecret,
        kind: Kind::Secret,
        flags: &[Flag::new("--relay-auth-secret")],
    }
    RELAY_ENROLL_METHOD = "INFISICAL_RELAY_ENROLL_METHOD"
    "how the relay enrolls: token, exchanged once; or aws, which logs in at each start with the AWS role of the machine" {
        used: Used::ByRelays,
        group: Group::Enrollment,
        kind: Kind::Choice(&RELAY_ENROLL_METHODS),
        flags: &[Flag::new("--enroll-method").excluding(&["--auth-method"])],
    }
    RELAY_ID = "INFISICAL_RELAY_ID" "id of the relay, for enrolling with aws" {
        used: Used::ByRelays,
        group: Group::Enrollment,
        kind: Kind::Text("ID"),
        flags: &[Flag::new("--relay-id")],
    }
    RELAY_ACCESS_TOKEN = "INFISICAL_RELAY_ACCESS_TOKEN" "access token of an enrolled relay" {
        secret: true,
        used: Used::ByRelays,
        group: Group::Stored,
        kind: Kind::Secret,
    }
    RELAY_ENROLLMENT_TOKEN = "INFISICAL_RELAY_ENROLLMENT_TOKEN"
    "enrollment token that was exchanged for the relay's access token" {
        secret: true,
        used: Used::ByRelays,
        group: Group::Stored,
        kind: Kind::Secret,
    }
    RELAY_DOMAIN = "INFISICAL_RELAY_DOMAIN" "domain at which the relay enrolled" {
        used: Used::ByRelays,
        group: Group::StoredDomain,
        kind: Kind::Url,
    }
    TARGETS_ALLOW = "INFISICAL_TARGETS_ALLOW"
    "rules for targets that sessions may reach; with any, all others are refused" {
        used: Used::ByGateways,
        kind: Kind::Rules,
        default: "every target but cloud metadata and the gateway itself",
    }
    TARGETS_DENY = "INFISICAL_TARGETS_DENY"
    "rules for targets that sessions may not reach, also where a rule allows them" {
        used: Used::ByGateways,
        kind: Kind::Rules,
        default: "none",
    }
    PKCS11_MODULE = "INFISICAL_PKCS11_MODULE" "PKCS#11 module for the keys of an HSM" {
        used: Used::ByNone,
        kind: Kind::Path,
        flags: &[Flag::new("--pkcs11-module").of(Used::ByGateways)],
    }
    SESSION_RECORDING_PATH = "INFISICAL_PAM_SESSION_RECORDING_PATH" "directory of recorded sessions" {
        used: Used::ByNone,
        kind: Kind::Path,
        flags: &[Flag::new("--pam-session-recording-path").of(Used::ByGateways)],
    }
    GATEWAY_LISTEN_ADDRESS = "INFISICAL_GATEWAY_LISTEN_ADDRESS"
    "address at which clients would reach the gateway without a relay" {
        used: Used::ByNone,
        kind: Kind::Address,
        flags: &[Flag::new("--listen-address").of(Used::ByGateways)],
    }
    GATEWAY_BIND_ADDRESS = "INFISICAL_GATEWAY_BIND_ADDRESS"
    "address that the gateway would listen on for them" {
        used: Used::ByNone,
        kind: Kind::Address,
        flags: &[Flag::new("--bind").of(Used::ByGateways)],
    }
    DISABLE_UPDATE_CHECK = "INFISICAL_DISABLE_UPDATE_CHECK"
    "no search for newer versions; this program makes none" {
        used: Used::ByNone,
        kind: Kind::Text("BOOL"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{API_URL, TABLE, Used, Variable, aliases};

    #[test]
    fn every_protocol_variable_has_one_row() {
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
    fn keys_and_aliases_are_unique() {
        let keys: HashSet<_> = TABLE.iter().map(|variable| variable.toml_key()).collect();
        assert_eq!(keys.len(), TABLE.len());
        assert_eq!(API_URL.toml_key(), "api_url");
        let names: HashSet<_> = aliases().map(|(alias, _)| alias).collect();
        assert_eq!(names.len(), aliases().count());
        for alias in names {
            assert_eq!(Variable::named(alias), None, "{alias}");
        }
    }

    #[test]
    fn flag_sets_one_setting_of_a_role() {
        for role in [Used::ByGateways, Used::ByRelays] {
            let flags = TABLE.iter().flat_map(|known| known.flags_of(role));
            let flags: Vec<_> = flags.map(|flag| flag.name).collect();
            let unique: HashSet<_> = flags.iter().collect();
            assert_eq!(unique.len(), flags.len(), "{flags:?}");
        }
        let name = |role| Variable::of_flag("--name", role).map(|known| known.name);
        assert_eq!(name(Used::ByGateways), Some("INFISICAL_GATEWAY_NAME"));
        assert_eq!(name(Used::ByRelays), Some("INFISICAL_RELAY_NAME"));
    }

    #[test]
    fn unused_settings_belong_to_no_role() {
        use Used::{ByAll, ByGateways, ByNone, ByRelays};
        for (used, asked, included) in [
            (ByAll, ByGateways, true),
            (ByAll, ByRelays, true),
            (ByGateways, ByGateways, true),
            (ByGateways, ByRelays, false),
            (ByNone, ByGateways, false),
            (ByAll, ByNone, false),
        ] {
            assert_eq!(used.includes(asked), included, "{used:?} {asked:?}");
        }
    }
}

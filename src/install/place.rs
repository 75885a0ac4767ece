//! The names of what an installed role consists of. Pure: a role and a name in, paths out.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use crate::agent::announce::ONLINE;
use crate::agent::status::{self, Monitor, Reporter};
use crate::config::role::{self, RoleKeys};
use crate::names::{GatewayName, InvalidName, RelayName};
use crate::unit_name;

/// Where an administrator's units are.
pub(crate) const UNITS: &str = "/etc/systemd/system";
/// Where packages and `make install` put units; the first wins.
pub(crate) const PACKAGED_UNITS: [&str; 3] = [
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// Where units are beside these (systemd.unit(5)).
pub(crate) const OTHER_UNITS: [&str; 9] = [
    "/etc/systemd/system.control",
    "/etc/systemd/system.attached",
    "/run/systemd/system.control",
    "/run/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    "/run/systemd/generator",
    "/run/systemd/generator.late",
];
/// Where configuration is.
pub(crate) const CONFIGURATION: &str = "/etc/infisical";
/// Where services log to files.
pub(crate) const LOGS: &str = "/var/log";

/// What is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A gateway.
    Gateway,
    /// A relay.
    Relay,
}

impl Role {
    /// The status of one that starts.
    pub(crate) fn status(self) -> (Reporter, Monitor) {
        match self {
            Self::Gateway => status::gateway(),
            Self::Relay => status::relay(),
        }
    }

    /// `gateway` or `relay`: the command, and a part of every name.
    pub(crate) fn word(self) -> &'static str {
        self.keys().word
    }

    /// The settings of its own.
    pub(crate) fn keys(self) -> &'static RoleKeys {
        match self {
            Self::Gateway => &role::GATEWAY,
            Self::Relay => &role::RELAY,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A role on this machine: the only one of its kind, or one of several by its name.
///
/// A named one is the unit `NAME.service`. Before there were those, it was an instance of a
/// template, `infisical-gateway@NAME.service`; directories still have the name of that, so that
/// state outlives the change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    role: Role,
    named: Option<Named>,
}

/// A name, and what stands for it in the names of files and units.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    name: String,
    escaped: String,
    file_name: String,
}

impl Place {
    /// The place of `name`, or without a name the only one.
    ///
    /// # Errors
    /// The name is none of the role's.
    pub fn try_new(role: Role, name: Option<&str>) -> Result<Self, InvalidName> {
        if let Some(name) = name {
            match role {
                Role::Gateway => drop(GatewayName::from_str(name)?),
                Role::Relay => drop(RelayName::from_str(name)?),
            }
        }
        let named = name.map(|name| Named {
            name: name.to_owned(),
            escaped: unit_name::escape(name),
            file_name: unit_name::file_name(name),
        });
        Ok(Self { role, named })
    }

    /// The role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The name, if it is one of several.
    pub(crate) fn name(&self) -> Option<&str> {
        self.named.as_ref().map(|named| named.name.as_str())
    }

    /// What its units are called, without a suffix: the escaped name, or `infisical-gateway`.
    pub(crate) fn stem(&self) -> String {
        match &self.named {
            Some(named) => named.escaped.clone(),
            None => format!("infisical-{}", self.role),
        }
    }

    /// The service and its unit file: `edge.service`, or `infisical-gateway.service`.
    #[must_use]
    pub fn service(&self) -> String {
        format!("{}.service", self.stem())
    }

    /// The same as a word of a shell command for `systemctl`.
    pub(crate) fn short(&self) -> String {
        let stem = self.stem();
        if unit_name::has_unit_type(&stem) {
            shell_word(&self.service())
        } else {
            shell_word(&stem)
        }
    }

    /// The template from which several were instantiated before each had a unit of its own.
    pub(crate) fn template(&self) -> Option<String> {
        self.named
            .as_ref()
            .map(|_| format!("infisical-{}@.service", self.role))
    }

    /// The instance of that template with this name.
    pub(crate) fn instance(&self) -> Option<String> {
        self.named
            .as_ref()
            .map(|named| format!("infisical-{}@{}.service", self.role, named.escaped))
    }

    /// All instances of the template, for `systemctl list-units`.
    pub(crate) fn instances(&self) -> String {
        format!("infisical-{}@*.service", self.role)
    }

    /// What its state and runtime directories are called.
    pub(crate) fn directory(&self) -> String {
        match &self.named {
            Some(named) => format!("infisical-{}@{}", self.role, named.file_name),
            None => self.stem(),
        }
    }

    /// The directory of the service's drop-ins.
    #[must_use]
    pub fn drop_ins(&self) -> PathBuf {
        Path::new(UNITS).join(format!("{}.d", self.service()))
    }

    /// Where the drop-ins of the instance of this name are: the template's, and those of the
    /// instance alone, which win.
    pub(crate) fn instance_drop_ins(&self) -> Vec<PathBuf> {
        let units = [self.template(), self.instance()].into_iter().flatten();
        units
            .map(|unit| Path::new(UNITS).join(format!("{unit}.d")))
            .collect()
    }

    /// The configuration file.
    #[must_use]
    pub fn configuration(&self) -> PathBuf {
        let directory = Path::new(CONFIGURATION);
        match &self.named {
            Some(named) => directory
                .join(format!("{}s", self.role))
                .join(format!("{}.conf", named.file_name)),
            None => directory.join(format!("{}.conf", self.role)),
        }
    }

    /// Where the deployed program keeps a relay's settings beside its access token.
    pub(crate) fn deployed_environment(&self) -> Option<PathBuf> {
        match self.role {
            Role::Gateway => None,
            Role::Relay => self
                .named
                .as_ref()
                .map(|_| self.configuration().with_extension("env.conf")),
        }
    }

    /// Where the service keeps its state: as root, and as a user of its own, where the first is a
    /// link to the second.
    pub(crate) fn state(&self) -> [PathBuf; 2] {
        ["/var/lib", "/var/lib/private"].map(|folder| Path::new(folder).join(self.directory()))
    }

    /// What a run of the service has read at its start: configuration, units wherever they are,
    /// drop-ins.
    pub(crate) fn read_at_start(&self) -> Vec<PathBuf> {
        let mut paths = vec![self.configuration(), self.drop_ins()];
        for folder in [UNITS].iter().chain(&PACKAGED_UNITS) {
            paths.push(Path::new(folder).join(self.service()));
        }
        paths
    }

    /// The instance of the template to which a configuration file or a directory of drop-ins called
    /// `file` belongs, and the name of the service that would have it now.
    pub(crate) fn instance_of(&self, file: &str) -> Option<(String, String)> {
        let prefix = format!("infisical-{}@", self.role);
        let escaped = match file.strip_suffix(".service.d") {
            Some(service) => service.strip_prefix(&prefix)?.to_owned(),
            None => {
                let name = file.strip_suffix(".conf")?;
                let is_other = name.ends_with(".env") || name.starts_with('.');
                (!is_other).then(|| unit_name::escaped_of_file(name))?
            }
        };
        (!escaped.is_empty()).then(|| {
            (
                format!("{prefix}{escaped}.service"),
                format!("{escaped}.service"),
            )
        })
    }

    /// The service's own directory below `/run`, which is there while it runs.
    pub(crate) fn runtime(&self) -> PathBuf {
        Path::new("/run").join(self.directory())
    }

    /// There while the tunnel is up.
    pub(crate) fn online_file(&self) -> PathBuf {
        self.runtime().join(ONLINE)
    }

    /// The command that installs it, or does something else with it.
    pub(crate) fn command(&self, verb: &str) -> String {
        let mut words = format!("infisical {} systemd {verb}", self.role);
        if let Some(named) = &self.named {
            words.push(' ');
            if named.name.starts_with('-') {
                words.push_str("-- ");
            }
            words.push_str(&shell_word(&named.name));
        }
        words
    }
}

/// `text` as one word of a shell command.
pub(crate) fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%=,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A name for a role made of the machine's: what is not allowed becomes a dash. `None` if nothing
/// is left.
pub(crate) fn name_of_host(host: &str) -> Option<String> {
    let first = host.split('.').next().unwrap_or_default();
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let name: String = first
        .chars()
        .map(|c| if allowed(c) { c } else { '-' })
        .collect();
    let name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let name: String = name.chars().take(32).collect();
    RelayName::try_new(name)
        .ok()
        .map(|name| name.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Place, Role, name_of_host, shell_word};

    #[test]
    fn each_place_has_its_own_names() {
        let only = Place::try_new(Role::Gateway, None).expect("a place");
        assert_eq!(only.service(), "infisical-gateway.service");
        assert_eq!(
            only.configuration(),
            Path::new("/etc/infisical/gateway.conf")
        );
        assert_eq!(
            only.online_file(),
            Path::new("/run/infisical-gateway/online")
        );
        let state = [
            "/var/lib/infisical-gateway",
            "/var/lib/private/infisical-gateway",
        ];
        assert_eq!(only.state(), state.map(Path::new));
        assert_eq!(only.command("install"), "infisical gateway systemd install");
        let named = Place::try_new(Role::Relay, Some("eu-1.x")).expect("a place");
        assert_eq!(named.service(), "eu-1.x.service");
        assert_eq!(named.short(), "eu-1.x");
        assert_eq!(
            named.instance().as_deref(),
            Some("infisical-relay@eu-1.x.service")
        );
        assert_eq!(
            named.template().as_deref(),
            Some("infisical-relay@.service")
        );
        assert_eq!(named.instances(), "infisical-relay@*.service");
        assert_eq!(
            named.drop_ins(),
            Path::new("/etc/systemd/system/eu-1.x.service.d")
        );
        assert_eq!(
            named.configuration(),
            Path::new("/etc/infisical/relays/eu-1.x.conf")
        );
        assert_eq!(
            named.deployed_environment().as_deref(),
            Some(Path::new("/etc/infisical/relays/eu-1.x.env.conf"))
        );
        // As of the instance, whose state it takes over.
        assert_eq!(
            named.online_file(),
            Path::new("/run/infisical-relay@eu-1.x/online")
        );
        assert_eq!(
            named.command("uninstall"),
            "infisical relay systemd uninstall eu-1.x"
        );
    }

    #[test]
    fn names_of_files_hold_no_backslash() {
        let place = Place::try_new(Role::Gateway, Some("My Gateway: a")).expect("a place");
        assert_eq!(place.service(), "My\\x20Gateway:\\x20a.service");
        let file = Path::new("/etc/infisical/gateways/My@x20Gateway@x3a@x20a.conf");
        assert_eq!(place.configuration(), file);
        let online = Path::new("/run/infisical-gateway@My@x20Gateway@x3a@x20a/online");
        assert_eq!(place.online_file(), online);
    }

    #[test]
    fn instances_are_recognized_by_their_files() {
        let place = Place::try_new(Role::Relay, Some("eu")).expect("a place");
        let us = Some((
            "infisical-relay@us.service".to_owned(),
            "us.service".to_owned(),
        ));
        for (file, instance) in [
            ("us.conf", us.clone()),
            ("infisical-relay@us.service.d", us),
            (
                "My@x20Relay@x3a.conf",
                Some((
                    "infisical-relay@My\\x20Relay:.service".to_owned(),
                    "My\\x20Relay:.service".to_owned(),
                )),
            ),
            ("us.env.conf", None),
            (".us.conf.0123456789abcdef", None),
            ("infisical-gateway@us.service.d", None),
            ("infisical-relay@.service.d", None),
        ] {
            assert_eq!(place.instance_of(file), instance, "{file}");
        }
    }

    #[test]
    fn path_or_option_is_no_relay_name() {
        for name in [
            "", "a/b", "../x", "a%i", "a b", "-a", "a@b", "a\\x2d", "ä", "a\nb",
        ] {
            Place::try_new(Role::Relay, Some(name)).expect_err(name);
        }
    }

    #[test]
    fn shell_words_are_quoted_where_needed() {
        for (text, word) in [
            ("edge-1", "edge-1"),
            ("/tmp/dev-1/admin-token", "/tmp/dev-1/admin-token"),
            ("my gateway", "'my gateway'"),
            ("my\\x20gateway", "'my\\x20gateway'"),
            ("it's", "'it'\\''s'"),
            ("", "''"),
        ] {
            assert_eq!(shell_word(text), word, "{text}");
        }
    }

    #[test]
    fn the_machines_name_becomes_a_valid_one() {
        for (host, name) in [
            ("db-1.example.com", Some("db-1")),
            ("-mein büro", Some("mein-b-ro")),
            ("___", None),
            ("", None),
        ] {
            assert_eq!(name_of_host(host).as_deref(), name, "{host}");
        }
        assert_eq!(
            name_of_host(&"a".repeat(60)).map(|name| name.len()),
            Some(32)
        );
    }
}

//! The names of what an installed role consists of. Pure: a role and a name in, paths out.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use crate::names::{GatewayName, InvalidName, RelayName};

/// Where an administrator's units are.
pub const UNITS: &str = "/etc/systemd/system";
/// Where packages and `make install` put units; the first wins.
pub const PACKAGED_UNITS: [&str; 3] = [
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// Where configuration is.
pub const CONFIGURATION: &str = "/etc/infisical";
/// Where services log to files.
pub const LOGS: &str = "/var/log";
/// In the runtime directory while the tunnel is up.
const ONLINE: &str = "online";

/// What is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A gateway.
    Gateway,
    /// A relay.
    Relay,
}

impl Role {
    /// `gateway` or `relay`: the command, and a part of every name.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Relay => "relay",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A role on this machine: the only one of its kind, or one of several by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    role: Role,
    /// A valid name of the role, which no unit and no path need escape.
    instance: Option<String>,
}

impl Place {
    /// The place of `instance`, or without a name the only one.
    ///
    /// # Errors
    /// The name is none of the role's.
    pub fn try_new(role: Role, instance: Option<&str>) -> Result<Self, InvalidName> {
        if let Some(name) = instance {
            match role {
                Role::Gateway => drop(GatewayName::from_str(name)?),
                Role::Relay => drop(RelayName::from_str(name)?),
            }
        }
        let instance = instance.map(str::to_owned);
        Ok(Self { role, instance })
    }

    /// The role.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The name, if it is one of several.
    #[must_use]
    pub fn instance(&self) -> Option<&str> {
        self.instance.as_deref()
    }

    /// The service, as `systemctl` wants it: `infisical-gateway@edge.service`.
    #[must_use]
    pub fn service(&self) -> String {
        let instance = self.instance.as_deref().unwrap_or_default();
        self.unit_file().replace('@', &format!("@{instance}"))
    }

    /// The same, as people write it.
    #[must_use]
    pub fn short(&self) -> String {
        self.service().trim_end_matches(".service").to_owned()
    }

    /// The file of the unit: a template, for one of several.
    #[must_use]
    pub fn unit_file(&self) -> String {
        let sign = if self.instance.is_some() { "@" } else { "" };
        format!("infisical-{}{sign}.service", self.role)
    }

    /// The directory of drop-ins: the service's own, so that those of one instance do not change the others.
    #[must_use]
    pub fn drop_ins(&self) -> PathBuf {
        Path::new(UNITS).join(format!("{}.d", self.service()))
    }

    /// All services of this unit file, for `systemctl list-units`.
    #[must_use]
    pub fn pattern(&self) -> String {
        self.unit_file().replace('@', "@*")
    }

    /// The configuration file.
    #[must_use]
    pub fn configuration(&self) -> PathBuf {
        let directory = Path::new(CONFIGURATION);
        match &self.instance {
            Some(name) => directory
                .join(format!("{}s", self.role))
                .join(format!("{name}.conf")),
            None => directory.join(format!("{}.conf", self.role)),
        }
    }

    /// The unit in which the deployed program (later versions of it) runs the role of this name.
    #[must_use]
    pub fn deployed_unit_file(&self) -> Option<String> {
        let name = self.instance.as_ref()?;
        Some(format!("{name}.service"))
    }

    /// Where that program keeps a relay's settings beside its access token.
    #[must_use]
    pub fn deployed_environment(&self) -> Option<PathBuf> {
        match self.role {
            Role::Gateway => None,
            Role::Relay => self
                .instance
                .as_ref()
                .map(|_| self.configuration().with_extension("env.conf")),
        }
    }

    /// Where the service keeps its state: as root, and as a user of its own, where the first is a link to the second.
    #[must_use]
    pub fn state(&self) -> [PathBuf; 2] {
        ["/var/lib", "/var/lib/private"].map(|folder| Path::new(folder).join(self.short()))
    }

    /// What a run of the service has read at its start: configuration, units wherever they are, drop-ins.
    #[must_use]
    pub fn read_at_start(&self) -> Vec<PathBuf> {
        let mut paths = vec![self.configuration(), self.drop_ins()];
        for folder in [UNITS].iter().chain(&PACKAGED_UNITS) {
            paths.push(Path::new(folder).join(self.unit_file()));
        }
        paths
    }

    /// The instance that a configuration file or a directory of drop-ins called `file` belongs to, of a template.
    #[must_use]
    pub fn instance_of(&self, file: &str) -> Option<String> {
        let unit = self.unit_file();
        let prefix = unit.strip_suffix(".service").unwrap_or(&unit);
        let name = match file.strip_suffix(".service.d") {
            Some(service) => service.strip_prefix(prefix)?,
            None => file
                .strip_suffix(".conf")
                .filter(|name| !name.ends_with(".env"))?,
        };
        let place = Self::try_new(self.role, Some(name)).ok()?;
        Some(place.service())
    }

    /// There while the tunnel is up.
    #[must_use]
    pub fn online_file(&self) -> PathBuf {
        Path::new("/run").join(self.short()).join(ONLINE)
    }

    /// What installs it: the command's words.
    #[must_use]
    pub fn command(&self, verb: &str) -> String {
        let mut words = format!("infisical {} systemd {verb}", self.role);
        if let Some(name) = &self.instance {
            words.push(' ');
            words.push_str(name);
        }
        words
    }
}

/// A name for a role made of the machine's: what is not allowed becomes a dash. `None` if nothing is left.
#[must_use]
pub fn name_of_host(host: &str) -> Option<String> {
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

    use super::{Place, Role, name_of_host};

    #[test]
    fn one_and_one_of_several_have_their_own_names() {
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
        assert_eq!(named.service(), "infisical-relay@eu-1.x.service");
        assert_eq!(named.unit_file(), "infisical-relay@.service");
        assert_eq!(named.pattern(), "infisical-relay@*.service");
        assert_eq!(
            named.drop_ins(),
            Path::new("/etc/systemd/system/infisical-relay@eu-1.x.service.d")
        );
        assert_eq!(
            named.configuration(),
            Path::new("/etc/infisical/relays/eu-1.x.conf")
        );
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
    fn an_instance_is_known_by_its_files() {
        let place = Place::try_new(Role::Relay, Some("eu")).expect("a place");
        let us = Some("infisical-relay@us.service".to_owned());
        for (file, instance) in [
            ("us.conf", us.clone()),
            ("infisical-relay@us.service.d", us),
            ("us.env.conf", None),
            (".us.conf.0123456789abcdef", None),
            ("infisical-gateway@us.service.d", None),
            ("infisical-relay@.service.d", None),
        ] {
            assert_eq!(place.instance_of(file), instance, "{file}");
        }
    }

    #[test]
    fn a_name_that_a_unit_would_read_otherwise_is_refused() {
        for name in [
            "", "a/b", "../x", "a%i", "a b", "-a", "a@b", "a\\x2d", "ä", "a\nb",
        ] {
            Place::try_new(Role::Gateway, Some(name)).expect_err(name);
            Place::try_new(Role::Relay, Some(name)).expect_err(name);
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

//! The unit files, as `systemd/` has them, and made to fit this machine.

use std::path::{Path, PathBuf};

use super::memory::{self, MEMORY_DROP_IN};
use super::place::{CONFIGURATION, LOGS, Place, Role};
use crate::host::unit::{Program, Version, render, word};

const GATEWAY: &str = include_str!("../../systemd/infisical-gateway.service");
const GATEWAY_TEMPLATE: &str = include_str!("../../systemd/infisical-gateway@.service");
const RELAY: &str = include_str!("../../systemd/infisical-relay.service");
const RELAY_TEMPLATE: &str = include_str!("../../systemd/infisical-relay@.service");
const GATEWAY_USER: &str =
    include_str!("../../systemd/infisical-gateway.service.d/dynamic-user.conf");
const GATEWAY_TEMPLATE_USER: &str =
    include_str!("../../systemd/infisical-gateway@.service.d/dynamic-user.conf");
const RELAY_USER: &str = include_str!("../../systemd/infisical-relay.service.d/dynamic-user.conf");
const RELAY_TEMPLATE_USER: &str =
    include_str!("../../systemd/infisical-relay@.service.d/dynamic-user.conf");

/// The first words of every file that the installer writes, by which it knows it again.
pub(crate) const MARK: &str = "# Written by infisical";

/// The drop-in that takes root away.
pub(crate) const USER_DROP_IN: &str = "dynamic-user.conf";
/// The drop-in that opens a directory for logs.
pub(crate) const LOG_DROP_IN: &str = "log-file.conf";
/// The drop-in that opens other ports than a relay's own.
pub(crate) const PORT_DROP_IN: &str = "ports.conf";
/// Drop-ins that the installer writes, each made new from the settings.
pub(crate) const OWN_DROP_INS: [&str; 4] =
    [USER_DROP_IN, LOG_DROP_IN, PORT_DROP_IN, MEMORY_DROP_IN];
/// The first manager that makes links in a sandbox (249 does not, 252 does).
pub(super) const LINKS: Version = Version(250);
/// Ports from here on need no privilege.
const UNPRIVILEGED: u16 = 1024;

/// The unit of `place` as shipped.
pub(crate) fn unit(place: &Place) -> &'static str {
    match (place.role(), place.name()) {
        (Role::Gateway, None) => GATEWAY,
        (Role::Gateway, Some(_)) => GATEWAY_TEMPLATE,
        (Role::Relay, None) => RELAY,
        (Role::Relay, Some(_)) => RELAY_TEMPLATE,
    }
}

/// What makes up the units of gateways, as shipped.
pub(crate) fn gateway() -> [&'static str; 4] {
    [
        GATEWAY,
        GATEWAY_TEMPLATE,
        GATEWAY_USER,
        GATEWAY_TEMPLATE_USER,
    ]
}

fn user(place: &Place) -> &'static str {
    match (place.role(), place.name()) {
        (Role::Gateway, None) => GATEWAY_USER,
        (Role::Gateway, Some(_)) => GATEWAY_TEMPLATE_USER,
        (Role::Relay, None) => RELAY_USER,
        (Role::Relay, Some(_)) => RELAY_TEMPLATE_USER,
    }
}

/// What stands above a file of the service `short` of a `role`.
pub(super) fn head(role: &str, short: &str) -> String {
    let mark = MARK.trim_start_matches("# ");
    format!(
        "{mark} {role} systemd install, which overwrites it.\n\
         Put changes into a drop-in of your own: systemctl edit {short}"
    )
}

fn head_of(place: &Place) -> String {
    head(place.role().word(), &place.short())
}

/// The unit for this machine.
#[must_use]
pub fn unit_for(place: &Place, program: &Program, version: Version) -> String {
    let text = render(unit(place), &head_of(place), program, version);
    let (Some(name), Some(template)) = (place.name(), place.template()) else {
        return text;
    };
    let instance = template.replace('@', "@%N");
    let never_together = format!(
        "[Unit]\n\
         # The instance of the template is the same {}: starting one stops the other.\n\
         Conflicts={instance}\n\
         After={instance}\n",
        place.role()
    );
    let text = text.replacen("[Unit]\n", &never_together, 1);
    of_named(&with_paths(&text, place), name)
}

/// `text`, written for an instance of a template, with the names of the directories and of the
/// configuration of `place`.
fn with_paths(text: &str, place: &Place) -> String {
    let role = place.role();
    let directory = format!("infisical-{role}@%i");
    let file = format!("{CONFIGURATION}/{role}s/%i.conf");
    text.replace(&directory, &place.directory())
        .replace(&file, &place.configuration().display().to_string())
}

/// `text`, which was written for an instance of a template, for a unit of that name.
fn of_named(text: &str, name: &str) -> String {
    // As people know it, where no file depends on it. A backslash would begin an escape.
    let shown = if name.contains('\\') {
        "%N".to_owned()
    } else {
        name.replace('%', "%%")
    };
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        let with = if line.starts_with("Description=") {
            &shown
        } else {
            "%N"
        };
        out.push_str(&with_specifier(line, with));
    }
    out
}

/// `text` with `with` in place of the specifiers for the instance.
pub(crate) fn with_specifier(text: &str, with: &str) -> String {
    let mut out = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match (c, rest.clone().next()) {
            ('%', Some('i' | 'I')) => {
                rest.next();
                out.push_str(with);
            }
            ('%', Some('%')) => {
                rest.next();
                out.push_str("%%");
            }
            _ => out.push(c),
        }
    }
    out
}

/// The drop-in for a user of its own.
#[must_use]
pub fn user_for(place: &Place, program: &Program, version: Version) -> String {
    let mut text = render(user(place), &head_of(place), program, version);
    if let Some(name) = place.name() {
        text = of_named(&with_paths(&text, place), name);
    }
    if version < LINKS {
        let [public, private] = place.state().map(|path| path.display().to_string());
        for line in unlinked(&public, &private) {
            text.push_str(&line);
            text.push('\n');
        }
    }
    text
}

/// For a user of its own, a manager before [`LINKS`] leaves out of the sandbox what `public` is
/// outside, a link to `private`; newer ones make the link, and would fail over these lines.
pub(super) fn unlinked(public: &str, private: &str) -> [String; 2] {
    let (public, private) = (word(public), word(private));
    [
        format!("BindPaths={private}:{public}"),
        format!("NoExecPaths={public}"),
    ]
}

/// The drop-in that opens `directory`. For a user of its own the manager mounts it by itself.
pub(crate) fn logs_for(
    place: &Place,
    directory: &LogDirectory,
    own_user: bool,
    version: Version,
) -> String {
    let path = directory.path();
    let relative = path.strip_prefix(LOGS).unwrap_or(path);
    let private = Path::new(LOGS).join("private").join(relative);
    let (public, private) = (path.to_string_lossy(), private.to_string_lossy());
    let mut lines = vec![
        format!("LogsDirectory={}", word(&relative.to_string_lossy())),
        "LogsDirectoryMode=0750".to_owned(),
    ];
    if own_user {
        lines.push(format!("NoExecPaths={}", word(&private)));
        if version < LINKS {
            lines.extend(unlinked(&public, &private));
        }
    } else {
        lines.push(format!("BindPaths={}", word(&public)));
        lines.push(format!("NoExecPaths={}", word(&public)));
    }
    drop_in(&head_of(place), &lines)
}

/// The drop-in that lets a service listen on `ports`, which are not those that its unit opens, and
/// on sockets in its own directory.
pub(crate) fn ports_for(place: &Place, ports: &[u16]) -> String {
    let mut lines = open_ports(ports);
    if place.role() == Role::Gateway {
        // Its unit forbids to listen at all.
        lines.push("SystemCallFilter=listen accept accept4".to_owned());
    }
    drop_in(&head_of(place), &lines)
}

/// The lines that let a service listen on `ports`.
pub(super) fn open_ports(ports: &[u16]) -> Vec<String> {
    let allow = |port: &u16| format!("SocketBindAllow=tcp:{port}");
    let mut lines: Vec<String> = ports.iter().map(allow).collect();
    if ports.iter().any(|port| *port < UNPRIVILEGED) {
        let low = [
            "# For a port below 1024, which a user namespace of its own would not reach.",
            "CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
            "AmbientCapabilities=CAP_NET_BIND_SERVICE",
            "PrivateUsers=no",
        ];
        lines.extend(low.map(str::to_owned));
    }
    lines
}

/// The drop-in of `place` that limits its memory, if the program can be made to hold `bound` MiB.
pub(crate) fn memory_for(place: &Place, bound: usize) -> String {
    drop_in(&head_of(place), &memory::limits(bound))
}

/// A drop-in with `lines` for the service.
pub(super) fn drop_in(head: &str, lines: &[String]) -> String {
    let mut text = String::new();
    for line in head.lines() {
        text.extend(["# ", line, "\n"]);
    }
    text.push_str("\n[Service]\n");
    for line in lines {
        text.extend([line, "\n"]);
    }
    text
}

/// A directory below `/var/log` in which a service may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogDirectory(PathBuf);

/// A log file that no service can be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a service logs to a file in a directory of its own below {LOGS}: for instance {LOGS}/infisical/{}.log, not {}",
    .role, .path.display()
)]
pub(crate) struct InvalidLogFile {
    role: Role,
    path: PathBuf,
}

impl LogDirectory {
    /// The directory of the log file `path`: below `/var/log`, and not that itself, which is
    /// everyone's.
    pub(crate) fn of(path: &Path, role: Role) -> Result<Self, InvalidLogFile> {
        let parts_are_plain = path.to_str().is_some_and(|text| {
            let bad = |c: char| c.is_control() || matches!(c, ':' | '"' | '\'' | '\\' | '$');
            !text.contains(bad) && !text.split('/').any(|part| matches!(part, "." | ".."))
        });
        let directory = path.parent().filter(|_| path.file_name().is_some());
        match directory {
            Some(directory)
                if parts_are_plain
                    && directory.starts_with(LOGS)
                    && directory != Path::new(LOGS) =>
            {
                Ok(Self(directory.to_owned()))
            }
            Some(_) | None => Err(InvalidLogFile {
                role,
                path: path.to_owned(),
            }),
        }
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{LogDirectory, MARK, logs_for, of_named, ports_for, unit_for, user_for};
    use crate::host::unit::{Program, Version, values};
    use crate::install::place::{Place, Role};

    fn places() -> Vec<Place> {
        let mut places = Vec::new();
        for role in [Role::Gateway, Role::Relay] {
            for name in [None, Some("edge")] {
                places.push(Place::try_new(role, name).expect("a place"));
            }
        }
        places
    }

    #[test]
    fn every_unit_starts_its_role() {
        let program = Program::try_new(Path::new("/usr/local/bin/infisical")).expect("a path");
        for place in places() {
            for version in [Version(252), Version(257)] {
                let unit = unit_for(&place, &program, version);
                assert!(unit.starts_with(MARK));
                assert!(!unit.contains("/usr/bin/infisical"), "{unit}");
                let configuration = place.configuration().display().to_string();
                let command = format!(
                    "ExecStart=/usr/local/bin/infisical {} start --config {configuration}\n",
                    place.role()
                );
                assert!(unit.contains(&command), "{unit}");
                // systemd would send the signal twice, or never.
                let reloads = unit.contains("ExecReload=");
                assert_eq!(reloads, unit.contains("Type=notify\n"), "{unit}");
                let drop_in = user_for(&place, &program, version);
                let credential = format!("LoadCredential={}.conf:{configuration}\n", place.role());
                assert!(drop_in.contains(&credential), "{drop_in}");
                assert!(values(&drop_in, "DynamicUser").eq(["yes"]));
                assert!(!unit.contains("%i") && !drop_in.contains("%i"), "{unit}");
                // Of a reload, only older managers must be told the signal.
                let signals = drop_in.contains("ExecReload=+/bin/kill");
                assert_eq!(signals, reloads, "{drop_in}");
                let check = format!(
                    "ExecReload=+/usr/local/bin/infisical {} systemd check-reload {configuration} ",
                    place.role()
                );
                assert!(drop_in.contains(&check), "{drop_in}");
            }
        }
    }

    #[test]
    fn named_unit_excludes_the_template_instance() {
        let program = Program::try_new(Path::new("/usr/bin/infisical")).expect("a path");
        let place = Place::try_new(Role::Gateway, Some("edge")).expect("a place");
        let unit = unit_for(&place, &program, Version::NEWEST);
        for line in [
            "Conflicts=infisical-gateway@%N.service\n",
            "After=infisical-gateway@%N.service\n",
            "Description=Infisical gateway edge\n",
            "StateDirectory=infisical-gateway@edge\n",
        ] {
            assert_eq!(unit.matches(line).count(), 1, "{line}{unit}");
        }
        let only = Place::try_new(Role::Gateway, None).expect("a place");
        assert!(!unit_for(&only, &program, Version::NEWEST).contains("Conflicts="));
    }

    #[test]
    fn name_is_shown_plain_and_used_escaped() {
        let text = "Description=A %i\nB=%i %%i %I\n";
        assert_eq!(
            of_named(text, "my 50% gw"),
            "Description=A my 50%% gw\nB=%N %%i %N\n"
        );
        assert_eq!(of_named(text, "a\\nb"), "Description=A %N\nB=%N %%i %N\n");
    }

    #[test]
    fn other_ports_are_opened_with_their_right() {
        let place = Place::try_new(Role::Relay, None).expect("a place");
        let high = ports_for(&place, &[2223]);
        assert!(
            high.ends_with("\n[Service]\nSocketBindAllow=tcp:2223\n"),
            "{high}"
        );
        let low = ports_for(&place, &[2223, 443]);
        assert!(values(&low, "SocketBindAllow").eq(["tcp:2223", "tcp:443"]));
        assert!(values(&low, "AmbientCapabilities").eq(["CAP_NET_BIND_SERVICE"]));
    }

    #[test]
    fn gateway_with_a_port_may_listen() {
        let place = Place::try_new(Role::Gateway, None).expect("a place");
        let metrics = ports_for(&place, &[9090]);
        assert!(metrics.contains("\nSystemCallFilter=listen accept accept4\n"));
        assert!(values(&metrics, "SocketBindAllow").eq(["tcp:9090"]));
    }

    #[test]
    fn log_file_opens_only_its_directory() {
        let place = Place::try_new(Role::Gateway, None).expect("a place");
        let of = |path: &str| LogDirectory::of(Path::new(path), Role::Gateway);
        let directory = of("/var/log/infisical/a/gateway.log").expect("a directory");
        let root = logs_for(&place, &directory, false, Version(257));
        assert!(root.contains("\nLogsDirectory=infisical/a\n"), "{root}");
        assert!(
            root.contains("\nBindPaths=/var/log/infisical/a\n"),
            "{root}"
        );
        let user = logs_for(&place, &directory, true, Version(257));
        assert!(!user.contains("BindPaths"), "{user}");
        assert!(
            user.contains("\nNoExecPaths=/var/log/private/infisical/a\n"),
            "{user}"
        );
        let older = logs_for(&place, &directory, true, Version(249));
        let bound = "\nBindPaths=/var/log/private/infisical/a:/var/log/infisical/a\n";
        assert!(older.contains(bound), "{older}");
        for path in [
            "/var/log/gateway.log",
            "/var/log",
            "/srv/x/y.log",
            "relative.log",
            "/var/log/../etc/x",
            "/var/log/a:b/c",
            "/var/log/a\nb/c",
        ] {
            let error = of(path).expect_err(path).to_string();
            assert!(error.contains("/var/log/infisical/gateway.log"), "{error}");
        }
    }
}

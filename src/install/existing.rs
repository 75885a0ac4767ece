//! What a unit file that is already there is. Units of the deployed program are known by what they start; nothing that is
//! not known is touched.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use super::place::{Place, Role};
use super::shipped::MARK;
use crate::host::unit::values;

/// A unit file, by its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Existing {
    /// There is none.
    Absent,
    /// Written by this installer, for this role.
    Ours(String),
    /// Written by this installer for a service of the other role, which has the same name.
    OtherRole(Role),
    /// Written by the installer of the deployed program, for the same role and configuration.
    Deployed(String),
    /// Written by that of the first gateway, whose identity is of no use to this one.
    First(String),
    /// A link to nothing: the administrator forbids the unit.
    Masked,
    /// Somebody else's.
    Foreign,
}

impl Existing {
    /// Its text, if the installer may replace it.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Ours(text) | Self::Deployed(text) | Self::First(text) => Some(text),
            Self::Absent | Self::OtherRole(_) | Self::Masked | Self::Foreign => None,
        }
    }
}

/// Reads the unit file at `path`, which is `place`'s, or in the place of `place`'s.
///
/// # Errors
/// It cannot be read.
pub fn load(path: &Path, place: &Place) -> io::Result<Existing> {
    if fs::read_link(path).is_ok_and(|target| target == Path::new("/dev/null")) {
        return Ok(Existing::Masked);
    }
    match fs::read(path) {
        Ok(bytes) => Ok(judge(String::from_utf8_lossy(&bytes).into_owned(), place)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Existing::Absent),
        Err(error) => Err(error),
    }
}

/// The drop-ins in `directory`, by their file names.
#[must_use]
pub fn drop_ins(directory: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let drop_in = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let text = fs::read_to_string(entry.path()).ok()?;
        name.ends_with(".conf").then_some((name, text))
    };
    entries.filter_map(drop_in).collect()
}

/// A unit in `units`, other than `own`, that names `file`, which is then not only its own service's.
/// A relay called `eu.env` has its configuration where the deployed program has the settings of the
/// relay `eu`.
#[must_use]
pub fn other_reader(units: &Path, own: &str, file: &Path) -> Option<String> {
    let file = file.to_str()?;
    let names = |text: &str| {
        let ends = |rest: &str| {
            rest.starts_with(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ';'))
        };
        let mut found = text.match_indices(file);
        found.any(|(at, file)| {
            let rest = text.get(at + file.len()..).unwrap_or_default();
            rest.is_empty() || ends(rest)
        })
    };
    let entries = fs::read_dir(units).into_iter().flatten().flatten();
    let mut readers: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|unit| unit.ends_with(".service") && unit != own)
        .filter(|unit| fs::read_to_string(units.join(unit)).is_ok_and(|text| names(&text)))
        .collect();
    readers.sort();
    readers.into_iter().next()
}

fn judge(text: String, place: &Place) -> Existing {
    if let Some(rest) = text.strip_prefix(MARK) {
        let is_of = |role: Role| rest.trim_start().starts_with(role.word());
        let other = [Role::Gateway, Role::Relay]
            .into_iter()
            .find(|role| *role != place.role() && is_of(*role));
        return other.map_or(Existing::Ours(text), Existing::OtherRole);
    }
    let role = place.role().word();
    let command: Vec<&str> = values(&text, "ExecStart").collect();
    // With a log file, the deployed program's unit pipes it through a shell.
    let command = match command.as_slice() {
        ["/bin/bash", "-c", "'infisical", rest @ ..] => [&["infisical"], rest].concat(),
        plain => plain.to_vec(),
    };
    let program = command.first().and_then(|path| path.rsplit('/').next());
    if program != Some("infisical") {
        return Existing::Foreign;
    }
    let reads_ours = || {
        let named = values(&text, "EnvironmentFile").map(|file| file.trim_start_matches('-'));
        let mut named = named.map(Path::new);
        named.any(|file| {
            file == place.configuration() || Some(file) == place.deployed_environment().as_deref()
        })
    };
    match command.get(1..) {
        Some([first]) if *first == "gateway" => Existing::First(text),
        Some([first, "start", ..]) if *first == role && reads_ours() => Existing::Deployed(text),
        Some(_) | None => Existing::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Existing, drop_ins, judge, load, other_reader};
    use crate::install::place::{Place, Role};

    const FIRST: &str = "[Service]\nType=notify\nEnvironmentFile=/etc/infisical/gateway.conf\n\
                         ExecStart=infisical gateway\n";
    const SECOND: &str = "[Service]\nEnvironmentFile=/etc/infisical/gateway.conf\n\
                          ExecStart=infisical gateway start\n";
    const NAMED: &str = "[Service]\nEnvironmentFile=/etc/infisical/gateways/edge.conf\n\
                         ExecStart=/usr/bin/infisical gateway start\n";

    const PIPED: &str = "[Service]\nEnvironmentFile=/etc/infisical/gateways/edge.conf\n\
                         ExecStart=/bin/bash -c 'infisical gateway start 2>&1 | tee \"/var/log/x.log\"'\n";

    fn kind(text: &str, name: Option<&str>) -> &'static str {
        let place = Place::try_new(Role::Gateway, name).expect("a place");
        match judge(text.to_owned(), &place) {
            Existing::Ours(_) => "ours",
            Existing::Deployed(_) => "deployed",
            Existing::First(_) => "first",
            Existing::OtherRole(_) => "other role",
            Existing::Absent | Existing::Masked => "nothing",
            Existing::Foreign => "foreign",
        }
    }

    /// A purge of the relay `eu` must not take the configuration of the relay `eu.env`.
    #[test]
    fn a_file_that_another_unit_names_has_another_reader() {
        let units = tempfile::tempdir().expect("a directory");
        let write = |unit: &str, text: &str| {
            std::fs::write(units.path().join(unit), text).expect("written");
        };
        let start = "[Service]\nExecStart=/usr/bin/infisical relay start --config /etc/infisical";
        write("eu.service", &format!("{start}/relays/eu.conf\n"));
        let reader = |file: &str| other_reader(units.path(), "eu.service", Path::new(file));
        let shared = "/etc/infisical/relays/eu.env.conf";
        assert_eq!(reader(shared), None);
        write("eu.env.service", &format!("{start}/relays/eu.env.conf\n"));
        assert_eq!(reader(shared).as_deref(), Some("eu.env.service"));
        assert_eq!(reader("/etc/infisical/relays/eu.conf"), None);
        assert_eq!(reader("/etc/infisical/relays/eu"), None);
        let deployed = "[Service]\nEnvironmentFile=/etc/infisical/relays/eu.env.conf\n";
        write("eu.service", deployed);
        let found = other_reader(units.path(), "eu.env.service", Path::new(shared));
        assert_eq!(found.as_deref(), Some("eu.service"));
    }

    #[test]
    fn every_origin_is_known_by_what_the_unit_starts() {
        for (text, name, expected) in [
            (FIRST, None, "first"),
            (SECOND, None, "deployed"),
            (NAMED, Some("edge"), "deployed"),
            (PIPED, Some("edge"), "deployed"),
            (NAMED, Some("other"), "foreign"),
            (SECOND, Some("edge"), "foreign"),
            (
                "# Written by infisical gateway systemd install\n",
                None,
                "ours",
            ),
            (
                "# Written by infisical relay systemd install\n",
                Some("edge"),
                "other role",
            ),
            (
                "[Service]\nExecStart=/usr/bin/other gateway\n",
                None,
                "foreign",
            ),
            (
                "[Service]\nExecStart=infisical relay start\n",
                None,
                "foreign",
            ),
            (
                "[Service]\nExecStart=infisical gateway start --config x\n",
                None,
                "foreign",
            ),
            ("", None, "foreign"),
        ] {
            assert_eq!(kind(text, name), expected, "{text}");
        }
    }

    #[test]
    fn a_deployed_relay_keeps_its_settings_in_a_file_of_its_own() {
        let place = Place::try_new(Role::Relay, Some("eu")).expect("a place");
        let text = "[Service]\nEnvironmentFile=/etc/infisical/relays/eu.env.conf\n\
                    ExecStart=infisical relay start\n";
        let found = judge(text.to_owned(), &place);
        assert!(matches!(found, Existing::Deployed(_)));
    }

    #[test]
    fn drop_ins_are_files_called_conf() {
        let directory = tempfile::tempdir().expect("a directory");
        let folder = directory.path().join("edge.service.d");
        assert!(drop_ins(&folder).is_empty());
        std::fs::create_dir(&folder).expect("made");
        for (name, text) in [("b.conf", "B=1\n"), ("a.conf", "A=1"), ("c.txt", "C=1")] {
            std::fs::write(folder.join(name), text).expect("written");
        }
        let found: Vec<_> = drop_ins(&folder).into_iter().collect();
        let expected = [("a.conf", "A=1"), ("b.conf", "B=1\n")];
        assert_eq!(
            found,
            expected.map(|(name, text)| (name.to_owned(), text.to_owned()))
        );
    }

    #[test]
    fn a_link_to_nothing_is_a_masked_unit() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("infisical-gateway.service");
        let place = Place::try_new(Role::Gateway, None).expect("a place");
        assert_eq!(load(&path, &place).expect("read"), Existing::Absent);
        std::os::unix::fs::symlink("/dev/null", &path).expect("a link");
        assert_eq!(load(&path, &place).expect("read"), Existing::Masked);
    }
}

//! What a unit file that is already there is. Units of the deployed program are known by what they
//! start; nothing that is not known is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::place::{OTHER_UNITS, PACKAGED_UNITS, Place, Role, UNITS};
use super::unit_templates::MARK;
use crate::host::unit::values;

/// A setting that names what a unit does not see.
const HIDDEN: &str = "InaccessiblePaths=";

/// A unit file, by its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Existing {
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
    /// Someone else's.
    Foreign,
}

impl Existing {
    /// Its text, if the installer may replace it.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Ours(text) | Self::Deployed(text) | Self::First(text) => Some(text),
            Self::Absent | Self::OtherRole(_) | Self::Masked | Self::Foreign => None,
        }
    }
}

/// Reads the unit file at `path`, which is `place`'s, or in the place of `place`'s.
pub(crate) fn load(path: &Path, place: &Place) -> io::Result<Existing> {
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
pub(crate) fn drop_ins(directory: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let drop_in = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let text = fs::read_to_string(entry.path()).ok()?;
        name.ends_with(".conf").then_some((name, text))
    };
    entries.filter_map(drop_in).collect()
}

/// The folders below `root` (`/`, but for tests) in which systemd looks for units: each by its name
/// and where it is, and each once.
pub(crate) fn unit_folders(root: &Path) -> Vec<(&'static str, PathBuf)> {
    let names = [UNITS].into_iter().chain(PACKAGED_UNITS);
    let folders = names.chain(OTHER_UNITS);
    let folders = folders.map(|name| (name, root.join(name.trim_start_matches('/'))));
    let mut seen = BTreeSet::new();
    // /lib is a link to /usr/lib on most systems.
    let mut is_new = |folder: &Path| fs::canonicalize(folder).is_ok_and(|real| seen.insert(real));
    folders.filter(|(_, folder)| is_new(folder)).collect()
}

/// A service below `root` (`/`, but for tests), other than `own`, that reads `file`, which is then
/// not only its own service's. A relay called `eu.env` has its configuration where the deployed
/// program has the settings of the relay `eu`.
pub(crate) fn other_reader(root: &Path, own: &str, file: &Path) -> Option<String> {
    let file = file.to_str()?;
    let mut readers = BTreeSet::new();
    let (mut templates, mut instances) = (Vec::new(), BTreeSet::new());
    for (_, folder) in unit_folders(root) {
        for (name, path) in entries(&folder) {
            if let Some(unit) = name.strip_suffix(".d").filter(|name| is_service(name)) {
                let drop_ins = drop_ins(&path);
                if drop_ins.values().any(|text| reads(text, file)) {
                    readers.insert(unit.to_owned());
                }
            } else if name.ends_with(".wants") || name.ends_with(".requires") {
                // Instances that are enabled have no file but a link.
                let links = entries(&path).into_iter().map(|(name, _)| name);
                instances.extend(links.filter(|name| is_service(name)));
            } else if is_service(&name)
                && let Ok(text) = fs::read_to_string(&path)
            {
                if reads(&text, file) {
                    readers.insert(name.clone());
                }
                if let Some(prefix) = name.strip_suffix("@.service") {
                    templates.push((format!("{prefix}@"), text));
                }
            }
        }
    }
    for instance in instances {
        let is_reader = templates.iter().any(|(prefix, text)| {
            let name = instance.strip_prefix(prefix.as_str());
            let name = name.and_then(|name| name.strip_suffix(".service"));
            name.is_some_and(|name| reads(&text.replace("%i", name), file))
        });
        if is_reader {
            readers.insert(instance);
        }
    }
    readers.into_iter().find(|unit| unit != own)
}

/// What is in `folder`, by its names.
fn entries(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let entry = |entry: fs::DirEntry| Some((entry.file_name().into_string().ok()?, entry.path()));
    entries.filter_map(entry).collect()
}

fn is_service(name: &str) -> bool {
    name.ends_with(".service")
}

/// True if a unit or drop-in names `file` for another purpose than to hide it.
fn reads(text: &str, file: &str) -> bool {
    let ends =
        |rest: &str| rest.starts_with(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ';'));
    let names = |line: &str| {
        let mut found = line.match_indices(file);
        found.any(|(at, file)| {
            let rest = line.get(at + file.len()..).unwrap_or_default();
            rest.is_empty() || ends(rest)
        })
    };
    let is_silent = |line: &str| line.starts_with(['#', ';']) || line.starts_with(HIDDEN);
    text.lines().any(|line| !is_silent(line) && names(line))
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

    use super::{Existing, drop_ins, judge, load, other_reader, reads};
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

    /// A purge of the relay `eu` must not take the configuration of the relay `eu.env`, wherever
    /// its unit is.
    #[test]
    fn file_named_by_another_unit_is_shared() {
        const START: &str =
            "[Service]\nExecStart=/usr/bin/infisical relay start --config /etc/infisical/relays/";
        const SHARED: &str = "/etc/infisical/relays/eu.env.conf";
        let reader = |files: &[(&str, &str)], own: &str, file: &str| {
            let root = tempfile::tempdir().expect("a directory");
            for (path, text) in files {
                let path = root.path().join(path);
                std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
                std::fs::write(path, text).expect("written");
            }
            other_reader(root.path(), own, Path::new(file))
        };
        let (eu, env) = (format!("{START}eu.conf\n"), format!("{START}eu.env.conf\n"));
        for folder in [
            "etc/systemd/system",
            "run/systemd/system",
            "run/systemd/transient",
            "usr/lib/systemd/system",
            "usr/local/lib/systemd/system",
            "lib/systemd/system",
        ] {
            let own = format!("{folder}/eu.service");
            let other = format!("{folder}/eu.env.service");
            let files = [(own.as_str(), eu.as_str()), (&other, &env)];
            assert_eq!(reader(&files[..1], "eu.service", SHARED), None);
            let found = reader(&files, "eu.service", SHARED);
            assert_eq!(found.as_deref(), Some("eu.env.service"), "{folder}");
            for file in ["/etc/infisical/relays/eu.conf", "/etc/infisical/relays/eu"] {
                assert_eq!(reader(&files, "eu.service", file), None);
            }
        }
        let deployed = format!("[Service]\nEnvironmentFile={SHARED}\n");
        let files = [("etc/systemd/system/eu.service", deployed.as_str())];
        let found = reader(&files, "eu.env.service", SHARED);
        assert_eq!(found.as_deref(), Some("eu.service"));
        let files = [("etc/systemd/system/eu.service.d/a.conf", deployed.as_str())];
        let found = reader(&files, "eu.env.service", SHARED);
        assert_eq!(found.as_deref(), Some("eu.service"), "a drop-in");

        let template = format!("{START}%i.conf\n");
        let link = "etc/systemd/system/multi-user.target.wants/infisical-relay@eu.env.service";
        let files = [
            (
                "usr/lib/systemd/system/infisical-relay@.service",
                template.as_str(),
            ),
            (link, ""),
        ];
        assert_eq!(reader(&files[..1], "eu.service", SHARED), None);
        let found = reader(&files, "eu.service", SHARED);
        assert_eq!(found.as_deref(), Some("infisical-relay@eu.env.service"));
    }

    /// The unit of the relay hides the configuration of the gateway.
    #[test]
    fn unit_hiding_a_file_is_no_reader() {
        let hides =
            "# /etc/infisical/gateway.conf\nInaccessiblePaths=-/a -/etc/infisical/gateway.conf\n";
        assert!(!reads(hides, "/etc/infisical/gateway.conf"));
        assert!(reads(
            "LoadCredential=a:/etc/infisical/gateway.conf",
            "/etc/infisical/gateway.conf"
        ));
    }

    #[test]
    fn origin_is_known_by_what_starts() {
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
    fn deployed_relay_keeps_its_own_file() {
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
    fn link_to_nothing_is_a_masked_unit() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("infisical-gateway.service");
        let place = Place::try_new(Role::Gateway, None).expect("a place");
        assert_eq!(load(&path, &place).expect("read"), Existing::Absent);
        std::os::unix::fs::symlink("/dev/null", &path).expect("a link");
        assert_eq!(load(&path, &place).expect("read"), Existing::Masked);
    }
}

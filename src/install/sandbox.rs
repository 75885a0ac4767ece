//! Which paths of the machine a service does not see, as its unit and its drop-ins say it. Reads
//! nothing of the machine but links.

use std::fs;
use std::path::{Path, PathBuf};

use super::existing_unit;

/// Hidden by settings that name no path: devices, other processes, the kernel.
const ALWAYS: [&str; 3] = ["/dev", "/proc", "/sys"];
/// `ProtectHome=`.
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];
/// `PrivateTmp=`.
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];

/// What a service sees of the file system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sandbox {
    /// Nothing below is seen, whatever else is mounted there.
    inaccessible: Vec<PathBuf>,
    /// Empty but for what is in `bound`.
    emptied: Vec<PathBuf>,
    bound: Vec<PathBuf>,
    has_groups: bool,
}

impl Sandbox {
    /// The sandbox of a unit with these texts: its own, and then its drop-ins in their order.
    pub(crate) fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let text: Vec<&str> = texts.into_iter().collect();
        let text = text.join("\n");
        let last = |key| list(&text, key).pop().unwrap_or_default();
        let mut sandbox = Self {
            inaccessible: paths(&text, "InaccessiblePaths"),
            emptied: paths(&text, "TemporaryFileSystem"),
            bound: [paths(&text, "BindPaths"), paths(&text, "BindReadOnlyPaths")].concat(),
            has_groups: !list(&text, "SupplementaryGroups").is_empty(),
        };
        sandbox.emptied.extend(ALWAYS.map(PathBuf::from));
        match last("ProtectHome").as_str() {
            "yes" | "true" | "1" | "on" => sandbox.inaccessible.extend(HOMES.map(PathBuf::from)),
            "tmpfs" => sandbox.emptied.extend(HOMES.map(PathBuf::from)),
            _ => {}
        }
        if !matches!(
            last("PrivateTmp").as_str(),
            "" | "no" | "false" | "0" | "off"
        ) {
            sandbox.emptied.extend(TEMPORARY.map(PathBuf::from));
        }
        sandbox
    }

    /// The folder that hides `path`, which is absolute, from the service; `None` if the service
    /// sees it.
    pub(crate) fn hides(&self, path: &Path) -> Option<&Path> {
        let real = followed(path);
        self.hides_plain(path).or_else(|| self.hides_plain(&real))
    }

    /// True if the service has groups that are not known before it starts.
    pub(crate) fn has_groups(&self) -> bool {
        self.has_groups
    }

    fn hides_plain(&self, path: &Path) -> Option<&Path> {
        let deepest = |folders: &'_ [PathBuf]| {
            let above = folders.iter().enumerate();
            let above = above.filter(|(_, folder)| path.starts_with(folder));
            above
                .map(|(index, folder)| (folder.components().count(), index))
                .max()
        };
        if let Some((_, index)) = deepest(&self.inaccessible) {
            return self.inaccessible.get(index).map(PathBuf::as_path);
        }
        let (depth, index) = deepest(&self.emptied)?;
        let is_bound = deepest(&self.bound).is_some_and(|(bound, _)| bound > depth);
        self.emptied
            .get(index)
            .filter(|_| !is_bound)
            .map(PathBuf::as_path)
    }
}

/// `path` without links, as far as it exists.
fn followed(path: &Path) -> PathBuf {
    let real = |above: &Path| {
        let rest = path.strip_prefix(above).ok()?;
        Some(fs::canonicalize(above).ok()?.join(rest))
    };
    path.ancestors()
        .find_map(real)
        .unwrap_or_else(|| path.to_owned())
}

/// The words of a setting that is a list: an empty line begins it again.
fn list(text: &str, key: &str) -> Vec<String> {
    let mut words = Vec::new();
    for value in existing_unit::lines_of(text, key) {
        if value.is_empty() {
            words.clear();
        }
        words.extend(existing_unit::words(&value));
    }
    words
}

/// The places in the sandbox that a list of paths, or of `path:path:options`, names.
fn paths(text: &str, key: &str) -> Vec<PathBuf> {
    let place = |word: String| {
        let word = word.trim_start_matches(['-', '+']);
        let mut parts = word.split(':');
        let source = parts.next().unwrap_or_default();
        let place = parts.next().filter(|place| place.starts_with('/'));
        PathBuf::from(place.unwrap_or(source))
    };
    list(text, key).into_iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Sandbox;
    use crate::install::place::{Place, Role};
    use crate::install::unit_templates;

    #[test]
    fn shipped_units_hide_homes_and_show_etc() {
        for role in [Role::Gateway, Role::Relay] {
            for name in [None, Some("edge")] {
                let place = Place::try_new(role, name).expect("a place");
                let sandbox = Sandbox::of([unit_templates::unit(&place)]);
                for path in [
                    "/home/u/jwt",
                    "/root/jwt",
                    "/tmp/jwt",
                    "/var/tmp/jwt",
                    "/run/user/0/jwt",
                    "/run/secrets/jwt",
                    "/var/run/secrets/jwt",
                    "/opt/jwt",
                    "/dev/shm/jwt",
                    "/var/lib/other/jwt",
                ] {
                    assert!(sandbox.hides(Path::new(path)).is_some(), "{path}");
                }
                for path in ["/etc/infisical/jwt", "/etc/ssl/certs/ca.pem", "/homes/jwt"] {
                    assert_eq!(sandbox.hides(Path::new(path)), None, "{path}");
                }
            }
        }
    }

    #[test]
    fn drop_ins_open_what_the_unit_hides() {
        let unit = "ProtectHome=yes\nPrivateTmp=yes\nTemporaryFileSystem=/run:ro,mode=0755\n\
                    InaccessiblePaths=-/opt -/srv\nBindPaths=/run/own\n";
        let hidden = |drop_in: &str, path: &str| {
            Sandbox::of([unit, drop_in])
                .hides(Path::new(path))
                .is_some()
        };
        for (drop_in, path, is_hidden) in [
            ("", "/run/other/x", true),
            ("", "/run/own/x", false),
            ("", "/run/owner/x", true),
            ("BindReadOnlyPaths=-/run/other", "/run/other/x", false),
            (
                "BindReadOnlyPaths=/a:/tmp/other:norbind",
                "/tmp/other/x",
                false,
            ),
            ("BindReadOnlyPaths=/a:/tmp/other", "/a/x", false),
            // Nothing is mounted below what is inaccessible.
            ("BindReadOnlyPaths=/opt/x", "/opt/x", true),
            ("BindReadOnlyPaths=/home/u", "/home/u/x", true),
            (
                "InaccessiblePaths=\nInaccessiblePaths=/srv",
                "/opt/x",
                false,
            ),
            ("ProtectHome=read-only", "/home/u/x", false),
            ("ProtectHome=tmpfs\nBindPaths=/home/u", "/home/u/x", false),
            ("ProtectHome=tmpfs", "/home/u/x", true),
            ("PrivateTmp=no", "/tmp/x", false),
        ] {
            assert_eq!(hidden(drop_in, path), is_hidden, "{drop_in} {path}");
        }
    }

    #[test]
    fn links_into_hidden_folders_are_followed() {
        let directory = tempfile::tempdir().expect("a directory");
        let real = directory.path().join("real");
        let link = directory.path().join("link");
        std::fs::create_dir(&real).expect("made");
        std::os::unix::fs::symlink(&real, &link).expect("a link");
        let unit = format!("InaccessiblePaths={}\n", real.display());
        let sandbox = Sandbox::of([unit.as_str()]);
        assert!(sandbox.hides(&link.join("absent/x")).is_some());
        assert_eq!(sandbox.hides(&directory.path().join("x")), None);
    }
}

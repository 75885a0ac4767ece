//! The unit files of an installation with their changes, and an account of them for a person. First
//! all is read and compared, then all is written; a file that is as it should be is not touched.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use similar::{Algorithm, ChangeTag};

use super::unit_templates::MARK;
use crate::config::file;

/// Permissions of a unit file: it is no secret, and `systemctl cat` reads it for everyone.
const MODE: u32 = 0o644;

/// A file cannot be read, written or removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}", .path.display())]
pub(crate) struct Error {
    what: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Error {
    /// Doing `what` to `path` failed.
    pub(crate) fn new(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self {
            what,
            path: path.to_owned(),
            source,
        }
    }
}

/// One file, as it is and as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    path: PathBuf,
    before: Option<String>,
    after: Option<String>,
}

impl Change {
    /// `path` is to hold `after`, or not to be there.
    pub(crate) fn of(path: PathBuf, after: Option<String>) -> Result<Self, Error> {
        let before = match fs::read(&path) {
            Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::new("read", &path, error)),
        };
        Ok(Self {
            path,
            before,
            after,
        })
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What it is to hold, if it is to be there.
    pub(crate) fn text(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// It is not yet as it is to be.
    pub(crate) fn is_due(&self) -> bool {
        self.before != self.after
    }

    /// Makes it so; after a crash the file is the old one or the new one. Blocks for the disk.
    pub(crate) fn make(&self) -> Result<(), Error> {
        if !self.is_due() {
            return Ok(());
        }
        match &self.after {
            Some(text) => replace(&self.path, text).map_err(|e| Error::new("write", &self.path, e)),
            None => remove(&self.path),
        }
    }
}

impl fmt::Display for Change {
    /// `+` created, `~` changed, with its lines, `-` removed, `=` unchanged. Lines that this
    /// installer did not write may hold secrets, and are not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match (&self.before, &self.after) {
            (None, Some(_)) => write!(f, "+ {path}"),
            (Some(_), None) => write!(f, "- {path}"),
            (Some(before), Some(after)) if before != after => {
                if !before.starts_with(MARK) {
                    return write!(f, "~ {path} (replaced; it was not of this installer)");
                }
                write!(f, "~ {path}")?;
                for (sign, line) in differing(before, after) {
                    write!(f, "\n    {sign} {}", harmless(sign, line))?;
                }
                Ok(())
            }
            (Some(_), Some(_)) => write!(f, "= {path}"),
            (None, None) => Ok(()),
        }
    }
}

/// Settings whose values someone may have added by hand, secrets among them.
const OPEN: [&str; 4] = ["Environment", "Exec", "PassEnvironment", "SetCredential"];

/// `line` as it may be shown: of a removed one that may hold a secret, no more than the setting's
/// name.
fn harmless(sign: char, line: &str) -> String {
    match line.split_once('=') {
        Some((key, _)) if sign == '-' && OPEN.iter().any(|open| key.starts_with(open)) => {
            format!("{key}=(not shown)")
        }
        Some(_) | None => line.to_owned(),
    }
}

/// Lines that only one of two texts has, in their order. A blank line says nothing by itself.
fn differing<'a>(before: &'a str, after: &'a str) -> Vec<(char, &'a str)> {
    let old: Vec<&str> = before.lines().collect();
    let new: Vec<&str> = after.lines().collect();
    let operations = similar::capture_diff_slices(Algorithm::Myers, &old, &new);
    let changes = operations.iter().flat_map(|op| op.iter_changes(&old, &new));
    let line = |change: similar::Change<&'a str>| match change.tag() {
        ChangeTag::Equal => None,
        ChangeTag::Delete => Some(('-', change.value())),
        ChangeTag::Insert => Some(('+', change.value())),
    };
    let lines = changes.filter_map(line);
    lines.filter(|(_, line)| !line.is_empty()).collect()
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let directory = path
        .parent()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)?;
    file::write_whole(path, text.as_bytes(), MODE)
}

/// Removes what is at `path`, a directory with all that is in it; false if there is nothing.
pub(crate) fn purge(path: &Path) -> Result<bool, Error> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => return Ok(false),
    };
    removed.map_err(|e| Error::new("remove", path, e))?;
    Ok(true)
}

/// Removes `path`, and the directory of drop-ins it was the last in.
fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::new("remove", path, error));
        }
        Ok(()) | Err(_) => {}
    }
    if let Some(directory) = path
        .parent()
        .filter(|d| d.extension().is_some_and(|e| e == "d"))
    {
        // Someone else's drop-ins keep it.
        let _ = fs::remove_dir(directory);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::{Change, MARK, differing};

    #[test]
    fn plan_names_files_and_changed_lines() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.service.d/b.conf");
        let of =
            |text: Option<&str>| Change::of(path.clone(), text.map(str::to_owned)).expect("read");
        let shown = |change: &Change| {
            change
                .to_string()
                .replace(path.to_str().expect("text"), "F")
        };
        let text = |lines: &str| format!("{MARK} x\n[Service]\nA=1\n{lines}");
        let of = |lines: Option<&str>| of(lines.map(text).as_deref());
        let create = of(Some("B=2\n"));
        assert_eq!(shown(&create), "+ F");
        create.make().expect("written");
        let mode = std::fs::metadata(&path)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o644);
        let same = of(Some("B=2\n"));
        assert_eq!(shown(&same), "= F");
        assert!(!same.is_due());
        let change = of(Some("B=3\n"));
        assert_eq!(shown(&change), "~ F\n    - B=2\n    + B=3");
        change.make().expect("changed");
        let gone = of(None);
        assert_eq!(shown(&gone), "- F");
        gone.make().expect("removed");
        assert!(!path.parent().expect("a directory").exists());
        gone.make().expect("is gone");
    }

    #[test]
    fn lines_of_others_are_not_shown() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.service");
        let after = format!("{MARK} x\n[Service]\nExecStart=b\n");
        let ours = format!(
            "{MARK} x\n[Service]\nExecStart=a --token=hunter2\nEnvironment=A=hunter2\nB=1\n"
        );
        for (before, shown) in [
            ("[Service]\nEnvironment=SECRET=hunter2\n", "(replaced"),
            (&ours, "- B=1"),
        ] {
            std::fs::write(&path, before).expect("written");
            let change = Change::of(path.clone(), Some(after.clone())).expect("read");
            let text = change.to_string();
            assert!(text.contains(shown) && !text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn what_differs_is_least() {
        assert_eq!(differing("a\nb\nc", "a\nc\nd"), [('-', "b"), ('+', "d")]);
        assert_eq!(differing("", "x"), [('+', "x")]);
        assert_eq!(differing("x\ny", ""), [('-', "x"), ('-', "y")]);
        assert_eq!(differing("x", "x"), []);
        assert_eq!(differing("a\nb", "b\na").len(), 2);
    }
}

//! Configuration files: what they may hold, how they are read, and how one is changed.
//!
//! The same file may have either of two forms, `KEY=value` lines ([`lines`]) or TOML ([`toml`]);
//! the first assignment tells which ([`Form::of`]). The keys are those of
//! [`env::TABLE`](super::env::TABLE), the values texts. Repeated keys are mistakes, and unknown
//! ones in TOML; units read `KEY=value` files as their environment, so that one may hold variables
//! of other programs. Values are secrets unless they are known to be none.

mod disk;
mod lines;
mod masked;
mod mistake;
#[cfg(test)]
mod tests;
mod toml;
#[cfg(test)]
mod toml_tests;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::env::{Variable, is_standard};
use super::value::BYTE_ORDER_MARK;
use crate::error::Reason;
use crate::secret::Secret;
use disk::{MAX_SIZE, directory_of, read_private, replace};
pub use disk::{make_directory, prove_creatable, write_whole, write_whole_for};
pub use masked::{has_no_secret, masked};
pub(super) use mistake::nearest_name;
pub use mistake::{LineError, Mistake};

/// Mode bits of group and others.
const NOT_OWNER: u32 = 0o077;
/// Mode bits of others.
const OTHERS: u32 = 0o007;
/// Mode bit of others who may write.
const OTHERS_WRITE: u32 = 0o002;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `INFISICAL_TOKEN=…`, as an environment file of a service has it; new files are like this.
    KeyValue,
    /// `token = "…"`.
    Toml,
}

impl Form {
    /// The form of a file with this text: that of its first assignment, whatever sections are above
    /// it. A key in capitals, or with the prefix of the variables, is one of `KEY=value`.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        let mut has_section = false;
        for line in text.lines().filter(|line| !lines::is_comment(line)) {
            if lines::is_section(line) {
                has_section = true;
                continue;
            }
            if let Some((key, _)) = lines::key_of(line) {
                let toml =
                    key.starts_with(|c: char| c.is_ascii_lowercase() || c == '"' || c == '\'');
                let is_toml = toml && !key.starts_with("infisical_") && !is_standard(key);
                return if is_toml { Self::Toml } else { Self::KeyValue };
            }
        }
        if has_section {
            Self::Toml
        } else {
            Self::KeyValue
        }
    }

    /// The key of `variable` in a file of this form.
    #[must_use]
    pub(crate) fn spell(self, variable: &Variable) -> String {
        match self {
            Self::KeyValue => variable.name.to_owned(),
            Self::Toml => variable.toml_key(),
        }
    }

    fn other(self) -> Self {
        match self {
            Self::KeyValue => Self::Toml,
            Self::Toml => Self::KeyValue,
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeyValue => "KEY=value",
            Self::Toml => "TOML",
        })
    }
}

/// One assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Line in the file, counted from 1.
    pub line: usize,
    /// What it sets; [`FOREIGN`](super::env::FOREIGN) for a variable of another program.
    pub key: &'static Variable,
    /// The key as the file spells it.
    pub name: String,
    /// How the file that it stands in is written.
    pub form: Form,
    /// To what; an empty value counts as unset, as in the environment.
    pub value: Secret,
}

/// Everything a text holds, right and wrong.
#[derive(Debug, Default)]
struct Parsed {
    entries: Vec<Entry>,
    mistakes: Vec<LineError>,
}

/// A file cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum Error {
    #[error("cannot read {}", .path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is open to other users (mode {mode:04o}); run: chmod 600 {}", .path.display(), .path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error(
        "{} belongs to user id {owner}, who could change it; run: chown root {}",
        .path.display(), .path.display()
    )]
    Foreign { path: PathBuf, owner: u32 },
    #[error("{} is not a regular file", .path.display())]
    NotAFile { path: PathBuf },
    #[error("{} is larger than {MAX_SIZE} bytes", .path.display())]
    TooLarge { path: PathBuf },
    #[error("{}: {}", .path.display(), join(.lines))]
    Lines {
        path: PathBuf,
        lines: Vec<LineError>,
    },
    #[error("cannot write {}", .path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot make the directory {}", .path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the value of {key} holds a control character")]
    Unwritable { key: &'static str },
}

fn join(lines: &[LineError]) -> String {
    let texts: Vec<String> = lines.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

impl Error {
    /// True if the system denies access to the file.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }

    /// Why a file that must be written ends a start: a place that the system denies needs a
    /// person, a disk that is full or read-only may be repaired.
    #[must_use]
    pub fn reason_unwritable(&self) -> Reason {
        let (Self::Read { source, .. }
        | Self::Write { source, .. }
        | Self::Directory { source, .. }) = self
        else {
            return Reason::Unavailable;
        };
        match source.kind() {
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::NotFound => Reason::Permission,
            _ => Reason::Unavailable,
        }
    }

    /// True if there is no such file.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        use io::ErrorKind::{NotADirectory, NotFound};
        // Below a file there is none either.
        matches!(self, Self::Read { source, .. } if matches!(source.kind(), NotFound | NotADirectory))
    }
}

/// Reads the text of a file, in whichever form it is.
///
/// # Errors
/// Every wrong line.
pub fn parse(text: &str) -> Result<Vec<Entry>, Vec<LineError>> {
    let parsed = read(text);
    if parsed.mistakes.is_empty() {
        Ok(parsed.entries)
    } else {
        Err(parsed.mistakes)
    }
}

fn read(text: &str) -> Parsed {
    match Form::of(text) {
        Form::KeyValue => lines::parse(text),
        Form::Toml => toml::parse(text),
    }
}

/// Reads a file that only its owner may read.
///
/// # Errors
/// See [`Error`]; a file that is not there is one for which [`Error::is_absent`] holds.
pub fn load(path: &Path) -> Result<Vec<Entry>, Error> {
    load_checked(path, NOT_OWNER, None)
}

/// Reads a file that belongs to root or to the user of this process, and that only its owner may
/// read.
///
/// # Errors
/// As [`load`], and for a file of another user: it names the platform and where secrets go.
pub fn load_own(path: &Path) -> Result<Vec<Entry>, Error> {
    let owners = [0, nix::unistd::geteuid().as_raw()];
    load_checked(path, NOT_OWNER, Some(owners))
}

/// Like [`load_own`], in a pod of Kubernetes, which has a group of its own (`fsGroup`): the kubelet
/// gives all files of a volume to that group, which may read and write them, at each start.
///
/// # Errors
/// As [`load_own`].
pub fn load_in_pod(path: &Path) -> Result<Vec<Entry>, Error> {
    let owners = [0, nix::unistd::geteuid().as_raw()];
    load_checked(path, OTHERS, Some(owners))
}

/// Reads a file from a service's `CREDENTIALS_DIRECTORY`. The service manager keeps other users out
/// of that directory, and its access lists show as permissions of the group.
///
/// # Errors
/// As [`load`].
pub fn load_credential(path: &Path) -> Result<Vec<Entry>, Error> {
    load_checked(path, 0, None)
}

/// The text of a file of the user `uid` or root, which others may read but not change.
pub(super) fn read_owned(path: &Path, uid: u32) -> Result<Zeroizing<String>, Error> {
    read_private(path, OTHERS_WRITE, Some([0, uid]))
}

fn load_checked(
    path: &Path,
    forbidden: u32,
    owners: Option<[u32; 2]>,
) -> Result<Vec<Entry>, Error> {
    let text = read_private(path, forbidden, owners)?;
    parse(&text).map_err(|lines| Error::Lines {
        path: path.to_owned(),
        lines,
    })
}

/// Sets keys in a file of either form and keeps everything else in it as it is; the file (mode
/// 0600, `KEY=value`) and its directory (0700) are made if they are not there. The change is
/// atomic: after a crash the file is the old one or the new one, on the disk.
///
/// Blocks for the disk; not for an async task without `spawn_blocking`.
///
/// # Errors
/// See [`Error`]; the old file is then as it was.
pub fn update(path: &Path, changes: &[(&'static Variable, &Secret)]) -> Result<(), Error> {
    // A rename would replace a link, not the file that it names.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let old = match read_private(&target, 0, None) {
        Ok(text) => text,
        Err(error) if error.is_absent() => Zeroizing::default(),
        Err(error) => return Err(error),
    };
    let new = updated(path, &old, changes)?;
    make_directory_of(&target)?;
    replace(&target, new.as_bytes()).map_err(|source| Error::Write {
        path: path.to_owned(),
        source,
    })
}

fn make_directory_of(path: &Path) -> Result<(), Error> {
    let directory = directory_of(path);
    make_directory(directory).map_err(|source| Error::Directory {
        path: directory.to_owned(),
        source,
    })
}

/// Proves that [`update`] can write the file, which is as it was afterwards: one that is not there
/// is not made.
///
/// Blocks for the disk; not for an async task without `spawn_blocking`.
///
/// # Errors
/// See [`Error`].
pub fn prove_writable(path: &Path) -> Result<(), Error> {
    if path.symlink_metadata().is_ok() {
        return update(path, &[]);
    }
    make_directory_of(path)?;
    prove_creatable(path).map_err(|source| Error::Write {
        path: path.to_owned(),
        source,
    })
}

/// `old`, the text of the file at `path`, with `changes` made as [`update`] makes them.
///
/// # Errors
/// Lines of it are wrong, or a value cannot stand in a line.
pub fn updated(
    path: &Path,
    old: &str,
    changes: &[(&'static Variable, &Secret)],
) -> Result<Zeroizing<String>, Error> {
    for (key, value) in changes {
        if value.expose().chars().any(char::is_control) {
            return Err(Error::Unwritable { key: key.name });
        }
    }
    match Form::of(old) {
        Form::KeyValue => Ok(lines::changed(old, changes)),
        Form::Toml => toml::changed(old, changes).map_err(|lines| Error::Lines {
            path: path.to_owned(),
            lines,
        }),
    }
}

/// Adds a line to `text`, which ends as its other lines do.
fn append(text: &mut Zeroizing<String>, line: &str) {
    let ending = if text.contains("\r\n") { "\r\n" } else { "\n" };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push_str(ending);
    }
    text.push_str(line);
    text.push_str(ending);
}

/// Adds `value` in double quotes, with a backslash before each of `escaped`.
fn push_quoted(text: &mut Zeroizing<String>, value: &str, escaped: &[char]) {
    text.push('"');
    for character in value.chars() {
        if escaped.contains(&character) {
            text.push('\\');
        }
        text.push(character);
    }
    text.push('"');
}

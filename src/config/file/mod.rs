//! Files of `KEY=value` lines: what they may hold, how they are read, and how one is changed.
//!
//! The form is what systemd's `EnvironmentFile=` also reads, so that one file serves both: a line is blank, a
//! comment (`#` or `;`), or a key of [`env::TABLE`](super::env::TABLE), `=` and a value, bare or in matching quotes;
//! a leading `export ` is tolerated. Within double quotes a backslash escapes `"`, `\`, `$` and `` ` ``. Forms on
//! which readers disagree (a bare value with a backslash, text behind a closing quote) are refused.
//! Unknown and repeated keys are mistakes. Values are secrets as long as nobody knows better.

mod disk;
mod lines;
mod mistake;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::env::Variable;
use crate::secret::Secret;
use disk::{MAX_SIZE, read_private, replace};
use lines::changed;
pub use lines::parse;
pub use mistake::{LineError, Mistake};

/// Mode bits of group and others.
const NOT_OWNER: u32 = 0o077;

/// One assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Line in the file, counted from 1.
    pub line: usize,
    /// What it sets.
    pub key: &'static Variable,
    /// To what; an empty value counts as unset, as in the environment.
    pub value: Secret,
}

/// A file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read, or is not there ([`Error::is_absent`]).
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others than its owner may read or change it.
    #[error("{} is open to other users (mode {mode:04o}); run: chmod 600 {}", .path.display(), .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A directory, a device or something else that is no file.
    #[error("{} is not a regular file", .path.display())]
    NotAFile {
        /// What it is called.
        path: PathBuf,
    },
    /// Too large to be a configuration file.
    #[error("{} is larger than {MAX_SIZE} bytes", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Lines are wrong.
    #[error("{}: {}", .path.display(), join(.lines))]
    Lines {
        /// The file.
        path: PathBuf,
        /// Every wrong line; never empty.
        lines: Vec<LineError>,
    },
    /// It cannot be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A value that no line can hold.
    #[error("the value of {key} holds a control character")]
    Unwritable {
        /// Its key.
        key: &'static str,
    },
}

fn join(lines: &[LineError]) -> String {
    let texts: Vec<String> = lines.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

impl Error {
    /// True if there is no such file.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Reads a file that only its owner may read.
///
/// # Errors
/// See [`Error`]; a file that is not there is one for which [`Error::is_absent`] holds.
pub fn load(path: &Path) -> Result<Vec<Entry>, Error> {
    load_checked(path, NOT_OWNER)
}

/// Reads a file from a service's `CREDENTIALS_DIRECTORY`. The service manager keeps other users out of that directory,
/// and its access lists show as permissions of the group.
///
/// # Errors
/// As [`load`].
pub fn load_credential(path: &Path) -> Result<Vec<Entry>, Error> {
    load_checked(path, 0)
}

fn load_checked(path: &Path, forbidden: u32) -> Result<Vec<Entry>, Error> {
    let text = read_private(path, forbidden)?;
    parse(&text).map_err(|lines| Error::Lines {
        path: path.to_owned(),
        lines,
    })
}

/// Sets keys in a file and keeps its other lines; the file (mode 0600) and its directory (0700) are made if they are not
/// there. The change is atomic: after a crash the file is the old one or the new one, on the disk.
///
/// Blocks for the disk; not for an async task without `spawn_blocking`.
///
/// # Errors
/// See [`Error`]; the old file is then as it was.
pub fn update(path: &Path, changes: &[(&'static Variable, &Secret)]) -> Result<(), Error> {
    // A rename would replace a link, not the file that it names.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let old = match read_private(&target, 0) {
        Ok(text) => text,
        Err(error) if error.is_absent() => zeroize::Zeroizing::default(),
        Err(error) => return Err(error),
    };
    let new = changed(&old, changes)?;
    replace(&target, new.as_bytes()).map_err(|source| Error::Write {
        path: path.to_owned(),
        source,
    })
}

//! Backups of a platform's state, which hold the keys of all its CAs, and their restoration.
//!
//! A [`Snapshot`] is a consistent copy of the database beside it, made by the platform itself while
//! it runs, and otherwise by the one who makes the backup. It has no name any more once it is open,
//! so that nothing stays behind. An [archive](Manifest) is a tar file with a manifest and the files
//! of the state directory. Nothing here crosses a network. Everything blocks.

mod archive;
mod restore;
#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::error::Reason;
use crate::files;
use crate::store;
pub use archive::write;
pub use restore::{Restore, Restored};

/// The database, in the state directory and in an archive.
pub(crate) const DATABASE: &str = "platform.db";
/// The first file of an archive.
const MANIFEST: &str = "manifest.json";
/// The version of archives that this program writes, and the newest one that it reads.
const FORMAT: u32 = 1;
/// What is around the id in the name of a snapshot.
const SNAPSHOT: (&str, &str) = ("backup-", ".db");

/// Why there is no backup, or why one is not restored.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum Error {
    #[error("cannot {action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write")]
    Write(#[source] io::Error),
    #[error("there is no platform's state in {}; give its directory with --state-dir", .0.display())]
    NoState(PathBuf),
    #[error("a platform uses {}; stop it first", .0.display())]
    Running(PathBuf),
    #[error(
        "the platform that answers keeps its state elsewhere than in {}; give the right --state-dir or --domain",
        .0.display()
    )]
    Elsewhere(PathBuf),
    #[error(
        "{} holds a state already; --replace keeps it beside the restored one", .0.display()
    )]
    Exists(PathBuf),
    #[error("cannot read")]
    Read(#[source] io::Error),
    #[error("this is no backup of a platform: {0}")]
    Foreign(String),
    #[error("the backup is damaged, use another one: {0}")]
    Damaged(String),
    #[error("the database of the platform is damaged; restore the newest backup from before that")]
    DamagedState,
    #[error(
        "the backup is of a later version of this program ({program_version}); restore it with that one"
    )]
    Newer { program_version: String },
    #[error("the database cannot be used")]
    Store(#[source] store::Error),
    #[error(transparent)]
    File(#[from] files::Error),
}

impl Error {
    /// What a person has to look at.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Io { source, .. } | Self::Write(source) | Self::Read(source) => {
                match source.kind() {
                    io::ErrorKind::PermissionDenied => Reason::Permission,
                    _ => Reason::Unavailable,
                }
            }
            Self::Running(_) | Self::Store(_) => Reason::Unavailable,
            Self::File(error) => error.reason(),
            Self::NoState(_)
            | Self::Elsewhere(_)
            | Self::Exists(_)
            | Self::Foreign(_)
            | Self::Damaged(_)
            | Self::DamagedState
            | Self::Newer { .. } => Reason::Configuration,
        }
    }
}

fn io_error(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    move |source| Error::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// A time in the name of a file, `20261128T221500Z`: names in their order are times in theirs.
#[must_use]
pub fn timestamp(now: SystemTime) -> String {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let time = OffsetDateTime::from(now).format(format);
    time.unwrap_or_default()
}

/// What an archive says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    format: u32,
    /// The program that wrote it.
    pub program_version: String,
    /// RFC 3339.
    pub created_at: String,
    /// The organization's id.
    pub organization_id: String,
    /// The organization's name.
    pub organization_name: String,
    /// Of the database.
    pub schema_version: i64,
    files: Vec<Listed>,
}

/// A file of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Listed {
    name: String,
    size: u64,
    /// Hexadecimal digits.
    sha256: String,
}

/// What a database says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) organization_id: String,
    pub(crate) organization_name: String,
    pub(crate) schema_version: i64,
    /// This program cannot use it, a later one can.
    pub(crate) is_newer: bool,
    /// No page of it is damaged.
    pub(crate) is_whole: bool,
}

/// A copy of the database that is open, and has no name any more.
#[derive(Debug)]
pub struct Snapshot {
    file: File,
    description: Description,
}

impl Snapshot {
    /// Of a state that no platform uses.
    ///
    /// # Errors
    /// [`Error::Running`] if one does.
    pub fn of_stopped(state_dir: &Path) -> Result<Self, Error> {
        let directory = existing(state_dir)?;
        let path = directory.join(new_name());
        let made = store::snapshot_of_stopped(&directory, &path).map_err(|error| match error {
            store::Error::InUse(_) => Error::Running(directory.clone()),
            other => Error::Store(other),
        });
        if made.is_err() {
            remove_all(&directory);
        }
        made?;
        Self::open(&path)
    }

    /// The one that the running platform has made under this name.
    ///
    /// # Errors
    /// There is none in that directory.
    pub fn of_running(state_dir: &Path, name: &str) -> Result<Self, Error> {
        let directory = existing(state_dir)?;
        let path = directory.join(name);
        // The name is another program's word.
        if !is_snapshot(name) || !path.exists() {
            return Err(Error::Elsewhere(directory));
        }
        Self::open(&path)
    }

    fn open(path: &Path) -> Result<Self, Error> {
        let file = open_plain(path)?;
        let description = store::describe(path).map_err(Error::Store);
        fs::remove_file(path).map_err(io_error("remove", path))?;
        let description = description?;
        if !description.is_whole {
            return Err(Error::DamagedState);
        }
        Ok(Self { file, description })
    }

    /// The whole of it from its begin.
    fn rewound(&mut self) -> io::Result<&mut File> {
        self.file.rewind()?;
        Ok(&mut self.file)
    }
}

/// Where a state is, without links.
fn existing(state_dir: &Path) -> Result<PathBuf, Error> {
    let directory = fs::canonicalize(state_dir).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::NoState(state_dir.to_owned()),
        _ => io_error("read", state_dir)(error),
    })?;
    match fs::symlink_metadata(directory.join(DATABASE)) {
        Ok(_) => Ok(directory),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::NoState(directory)),
        Err(error) => Err(io_error("read", &directory)(error)),
    }
}

/// Opens a file that is no link: root reads in a directory that belongs to a service.
fn open_plain(path: &Path) -> Result<File, Error> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
        .map_err(io_error("read", path))?;
    let is_file = file.metadata().map_err(io_error("read", path))?.is_file();
    if !is_file {
        let error = io::Error::other("it is no regular file");
        return Err(io_error("read", path)(error));
    }
    Ok(file)
}

/// Reads a small file that is no link.
fn read_plain(path: &Path, limit: u64) -> Result<zeroize::Zeroizing<Vec<u8>>, Error> {
    let mut content = zeroize::Zeroizing::new(Vec::new());
    let file = open_plain(path)?;
    let read = file.take(limit.saturating_add(1)).read_to_end(&mut content);
    let read = read.map_err(io_error("read", path))?;
    if u64::try_from(read).is_ok_and(|read| read <= limit) {
        return Ok(content);
    }
    Err(io_error("read", path)(io::Error::other("it is too large")))
}

/// A name that no other snapshot has.
pub(crate) fn new_name() -> String {
    let (before, after) = SNAPSHOT;
    format!("{before}{}{after}", uuid::Uuid::new_v4().simple())
}

fn is_snapshot(name: &str) -> bool {
    let (before, after) = SNAPSHOT;
    let id = name.strip_prefix(before);
    let id = id.and_then(|id| id.strip_suffix(after));
    id.is_some_and(|id| id.len() == 32 && id.chars().all(|c| c.is_ascii_hexdigit()))
}

/// Removes what backups that did not come to their end have left in `directory`. What cannot be
/// removed is only logged.
pub(crate) fn remove_all(directory: &Path) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        // SQLite writes a journal beside a database.
        let database = name.strip_suffix("-journal").unwrap_or(&name);
        if is_snapshot(database)
            && let Err(error) = fs::remove_file(entry.path())
        {
            let path = entry.path();
            tracing::warn!(%error, path = %path.display(), "an old snapshot cannot be removed");
        }
    }
}

//! Files of the state directory: readable by their owner only, from their first byte on, and whole
//! or absent.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::config::file;
use crate::error::Reason;
use crate::secret::Secret;

/// Mode bits that let others in.
const OTHERS: u32 = 0o077;

/// Why a file cannot be used.
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
    #[error("{} can be read by others; it needs mode 0600", .0.display())]
    Exposed(PathBuf),
    #[error("{} is empty; remove it to have a new one made", .0.display())]
    Empty(PathBuf),
    #[error("cannot make a token")]
    Token(#[source] io::Error),
}

impl Error {
    /// Why it ends a start. A file system that is read-only or full may be repaired without a
    /// change of the configuration, so the service tries again.
    pub(super) fn reason(&self) -> Reason {
        let Self::Io { source, .. } = self else {
            return Reason::Configuration;
        };
        match source.kind() {
            io::ErrorKind::PermissionDenied => Reason::Permission,
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::StorageFull => Reason::Unavailable,
            _ => Reason::Configuration,
        }
    }
}

/// Creates the directory, and those above it, unless it exists.
pub(super) fn private_directory(path: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(io_error("create", path))
}

/// Creates an empty file with mode 0600 unless it exists; one that exists must not be open to
/// others.
pub(super) fn private_file(path: &Path) -> Result<(), Error> {
    match create_new(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check_mode(path),
        Err(error) => Err(io_error("create", path)(error)),
    }
}

/// Reads the secret in `path`; where there is no file, a new token is written to it. True if it
/// was.
pub(super) fn secret(path: &Path) -> Result<(Secret, bool), Error> {
    match fs::read_to_string(path) {
        Ok(text) => {
            check_mode(path)?;
            let secret = Secret::new(text.trim());
            if secret.is_empty() {
                return Err(Error::Empty(path.to_owned()));
            }
            Ok((secret, false))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let secret = super::token::generate().map_err(|e| Error::Token(io::Error::other(e)))?;
            let text = Zeroizing::new(format!("{}\n", secret.expose()));
            replace(path, &text)?;
            Ok((secret, true))
        }
        Err(error) => Err(io_error("read", path)(error)),
    }
}

/// Writes `text` to `path`, whole or not at all, with mode 0600. Blocks.
///
/// # Errors
/// The directory does not let us.
pub fn replace(path: &Path, text: &str) -> Result<(), Error> {
    file::write_whole(path, text.as_bytes(), 0o600).map_err(io_error("write", path))
}

/// Proves that [`replace`] can write `path`, which is as it was afterwards. Blocks.
///
/// # Errors
/// The directory does not let us, or there is a directory at `path`.
pub fn prove_replaceable(path: &Path) -> Result<(), Error> {
    let proved = if path.is_dir() {
        Err(io::ErrorKind::IsADirectory.into())
    } else {
        file::prove_creatable(path)
    };
    proved.map_err(io_error("write", path))
}

fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn check_mode(path: &Path) -> Result<(), Error> {
    let metadata = fs::metadata(path).map_err(io_error("examine", path))?;
    if metadata.permissions().mode() & OTHERS == 0 {
        Ok(())
    } else {
        Err(Error::Exposed(path.to_owned()))
    }
}

fn io_error(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    move |source| Error::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

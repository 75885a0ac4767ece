//! Where the state, the secrets and the logs of one `dev` are: a directory that only its owner can
//! enter.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::error::chain;
use crate::secret::Secret;

/// Bits that would let others in.
const OTHERS: u32 = 0o077;

/// The directory could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    #[error(
        "{path} is open to other users (mode {mode:03o}); run chmod 700 on it, or name a new one"
    )]
    Open {
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

/// A directory of mode 0700; a temporary one is removed with the value.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    temporary: bool,
}

impl Directory {
    /// A new one, removed in the end.
    pub(super) fn temporary() -> Result<Self, Error> {
        let name = format!("infisical-dev-{:016x}", crate::backoff::random());
        let path = std::env::temp_dir().join(name);
        create(&path, false)?;
        Ok(Self {
            path,
            temporary: true,
        })
    }

    /// `path`, made if need be and kept in the end.
    pub(super) fn kept(path: &Path) -> Result<Self, Error> {
        create(path, true)?;
        // Children are given paths in it, wherever they run.
        let path = path.canonicalize().map_err(failed("use", path))?;
        let mode = fs::metadata(&path).map_err(failed("use", &path))?.mode() & 0o777;
        if mode & OTHERS != 0 {
            return Err(Error::Open { path, mode });
        }
        Ok(Self {
            path,
            temporary: false,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_temporary(&self) -> bool {
        self.temporary
    }

    /// The path of `name` in it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a secret to `name`, mode 0600, in place of what was there.
    pub(super) fn write_secret(&self, name: &str, secret: &Secret) -> Result<PathBuf, Error> {
        let path = self.file(name);
        self.remove(name)?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        options
            .open(&path)
            .and_then(|mut file| writeln!(file, "{}", secret.expose()))
            .map_err(failed("write", &path))?;
        Ok(path)
    }

    /// An empty log `name`.
    pub(super) fn log(&self, name: &str) -> Result<(PathBuf, File), Error> {
        let path = self.file(name);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&path).map_err(failed("write", &path))?;
        Ok((path, file))
    }

    /// Removes `name`, if it is there.
    pub(super) fn remove(&self, name: &str) -> Result<(), Error> {
        let path = self.file(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &path)(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.temporary
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(path = %self.path.display(), error = %chain(&error), "cannot remove the directory");
        }
    }
}

fn create(path: &Path, may_exist: bool) -> Result<(), Error> {
    let mut builder = DirBuilder::new();
    builder
        .mode(0o700)
        .recursive(may_exist)
        .create(path)
        .map_err(failed("create", path))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::{Directory, Error};
    use crate::secret::Secret;
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    #[test]
    fn temporary_directory_is_private_and_removed() {
        let directory = Directory::temporary().expect("a directory");
        let path = directory.path().to_owned();
        assert_eq!(fs::metadata(&path).expect("it").mode() & 0o777, 0o700);
        let secret = Secret::new("s3cr3t");
        let file = directory.write_secret("token", &secret).expect("a file");
        assert_eq!(fs::metadata(&file).expect("it").mode() & 0o777, 0o600);
        directory.write_secret("token", &secret).expect("replaced");
        drop(directory);
        assert!(!path.exists());
    }

    #[test]
    fn named_directory_is_kept_and_private() {
        let parent = tempfile::tempdir().expect("a directory");
        let path = parent.path().join("state");
        drop(Directory::kept(&path).expect("made"));
        assert!(path.exists());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
        let error = Directory::kept(&path).expect_err("open to others");
        assert!(matches!(error, Error::Open { mode: 0o755, .. }), "{error}");
    }
}

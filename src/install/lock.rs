//! One installation at a time: two would exchange one token twice, or remove each other's files.
//!
//! The lock is a file that is there only while it is held. The one who waited for one that was
//! removed meanwhile holds nothing, and must take it again.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Where only root can write, and nothing outlives a boot.
pub(crate) const FILE: &str = "/run/infisical-install.lock";

/// Held by the one that installs or uninstalls; given back when dropped, and by the kernel when the
/// process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    /// Locked as long as it is open.
    _file: File,
}

impl Lock {
    /// Takes the lock at `path`; `None` if another process has it.
    pub(crate) fn try_take(path: &Path) -> io::Result<Option<Self>> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        options.custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits());
        let file = options.open(path)?;
        match file.try_lock() {
            Ok(()) if is_at(&file, path)? => Ok(Some(Self {
                path: path.to_owned(),
                _file: file,
            })),
            // Its holder has removed it since it was opened.
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // One that stays is taken again.
        let _ = fs::remove_file(&self.path);
    }
}

/// True if `path` still leads to `file`.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let own = file.metadata()?;
    let there = fs::symlink_metadata(path);
    Ok(there.is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino())))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::{Lock, is_at};

    #[test]
    fn lock_is_held_until_dropped() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("lock");
        let first = Lock::try_take(&path).expect("opened");
        assert!(first.is_some());
        assert!(Lock::try_take(&path).expect("opened").is_none());
        drop(first);
        assert!(!path.exists());
        assert!(Lock::try_take(&path).expect("opened").is_some());
    }

    #[test]
    fn removed_file_is_no_lock() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("lock");
        let file = File::create(&path).expect("made");
        assert!(is_at(&file, &path).expect("read"));
        std::fs::remove_file(&path).expect("removed");
        assert!(!is_at(&file, &path).expect("read"));
        File::create(&path).expect("made again");
        assert!(!is_at(&file, &path).expect("read"));
    }
}

//! One installation at a time: two would exchange one token twice, or remove each other's files.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Where only root can write, and nothing outlives a boot.
pub const FILE: &str = "/run/infisical-install.lock";

/// Held by the one that installs or uninstalls; given back when dropped, and by the kernel when the process ends.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the lock is held as long as the file is open")] File);

impl Lock {
    /// Takes the lock at `path`; `None` if another process has it.
    ///
    /// # Errors
    /// The file cannot be opened or locked.
    pub fn try_take(path: &Path) -> io::Result<Option<Self>> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        options.custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits());
        let file = options.open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Lock;

    #[test]
    fn one_holds_the_lock_until_it_is_dropped() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("lock");
        let first = Lock::try_take(&path).expect("opened");
        assert!(first.is_some());
        assert!(Lock::try_take(&path).expect("opened").is_none());
        drop(first);
        assert!(Lock::try_take(&path).expect("opened").is_some());
    }
}

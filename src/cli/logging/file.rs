//! The log file, which logrotate may move away at any time.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;

/// Of the log: its owner writes, a group such as `adm` may read.
pub(super) const LOG: u32 = 0o640;
/// Of the audit file: its owner alone.
pub(super) const AUDIT: u32 = 0o600;

/// A file that lines cannot be written to.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum Error {
    #[error("cannot log to {}", .path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot log to {}: it is a symbolic link; name the file itself", .path.display())]
    Link { path: PathBuf },
}

/// Opens the file, or makes it with `mode`, to append to it. A symbolic link is not followed, except
/// those of `/dev`, such as `/dev/stdout`.
pub(super) fn open(path: &Path, mode: u32) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    // A FIFO without a reader would block the open forever.
    let mut flags = OFlag::O_NONBLOCK;
    if !path.starts_with("/dev") {
        flags |= OFlag::O_NOFOLLOW;
    }
    options.append(true).mode(mode).custom_flags(flags.bits());
    let opened = match options.clone().create_new(true).open(path) {
        // A service's umask is made for secrets.
        Ok(file) => file
            .set_permissions(Permissions::from_mode(mode))
            .map(|()| file),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            options.create(true).open(path)
        }
        Err(error) => Err(error),
    };
    let path = path.to_owned();
    opened.map_err(|source| match source.raw_os_error() {
        Some(code) if code == Errno::ELOOP as i32 && path.is_symlink() => Error::Link { path },
        _ => Error::Open { path, source },
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::{Error, LOG, open};

    #[test]
    fn a_symbolic_link_is_not_followed() {
        let directory = tempfile::tempdir().expect("a directory");
        let (foreign, log) = (directory.path().join("x"), directory.path().join("log"));
        fs::write(&foreign, "").expect("written");
        symlink(&foreign, &log).expect("a link");
        let error = open(&log, LOG).expect_err("a link");
        assert!(matches!(error, Error::Link { .. }), "{error:?}");
        fs::remove_file(&foreign).expect("removed");
        open(&log, LOG).expect_err("a link to nothing");
        assert!(!foreign.exists());
        fs::remove_file(&log).expect("removed");
        for text in ["a", "b"] {
            let mut file = open(&log, LOG).expect("a file");
            file.write_all(text.as_bytes()).expect("written");
        }
        assert_eq!(fs::read_to_string(&log).expect("read"), "ab");
        open(Path::new("/dev/null"), LOG).expect("a device");
    }
}

//! The log file, which logrotate may move away at any time.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Its owner writes, a group such as `adm` may read.
const MODE: u32 = 0o640;

/// A file that lines cannot be written to.
#[derive(Debug, thiserror::Error)]
#[error("cannot log to {}", .path.display())]
pub struct Error {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Opens or makes the file, to append to it.
pub(super) fn open(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    // A FIFO without a reader would block the open for ever.
    options
        .append(true)
        .mode(MODE)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits());
    let opened = match options.clone().create_new(true).open(path) {
        // A service's umask is made for secrets.
        Ok(file) => file
            .set_permissions(Permissions::from_mode(MODE))
            .map(|()| file),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            options.create(true).open(path)
        }
        Err(error) => Err(error),
    };
    opened.map_err(|source| Error {
        path: path.to_owned(),
        source,
    })
}

//! Sockets in the file system: their directory, their mode, and those that a process left behind.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use tokio::net::UnixListener;

/// Listens for streams at `path`, whose mode becomes `mode`.
///
/// # Errors
/// As those of [`prepare`], or the socket cannot be made.
pub fn listen(path: &Path, mode: u32) -> io::Result<UnixListener> {
    prepare(path, |path| UnixStream::connect(path).is_ok())?;
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(listener)
}

/// Makes the directory of `path`, and removes a socket that no process has any more; `is_alive`
/// says if one has it.
///
/// # Errors
/// The directory cannot be made, the old file cannot be removed, or a process has it.
pub fn prepare(path: &Path, is_alive: impl Fn(&Path) -> bool) -> io::Result<()> {
    if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
        fs::create_dir_all(directory)?;
        fs::set_permissions(directory, Permissions::from_mode(0o700))?;
    }
    if fs::symlink_metadata(path).is_ok() {
        if is_alive(path) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        fs::remove_file(path)?;
    }
    Ok(())
}

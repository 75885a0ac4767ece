//! A file that appears when a service serves, and says where.
//!
//! It is there with all of its content or not at all, so anyone who waits for it need only look.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the ready file {}", .path.display())]
pub struct Error {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Writes `address` and a line's end to `path`, in place of what was there. Blocks for the disk,
/// briefly.
///
/// # Errors
/// The directory is missing or not writable.
pub fn write(path: &Path, address: &str) -> Result<(), Error> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{:016x}", crate::backoff::random()));
    let temporary = PathBuf::from(temporary);
    let written =
        fs::write(&temporary, format!("{address}\n")).and_then(|()| fs::rename(&temporary, path));
    written.map_err(|source| {
        // The error that matters is the one at hand.
        let _ = fs::remove_file(&temporary);
        Error {
            path: path.to_owned(),
            source,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::write;

    #[test]
    fn it_replaces_without_leftovers() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("ready");
        write(&path, "127.0.0.1:1").expect("written");
        write(&path, "127.0.0.1:2").expect("replaced");
        let text = std::fs::read_to_string(&path).expect("read");
        assert_eq!(text, "127.0.0.1:2\n");
        let files = std::fs::read_dir(directory.path()).expect("listed").count();
        assert_eq!(files, 1);
        write(&directory.path().join("absent/ready"), "x").expect_err("no directory");
    }
}

//! The audit file: the events of the record of sessions as lines of JSON, whatever the level and the
//! format of the log. A disk that takes no line is reported once, and no session waits for it.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::file::{self, Error};
use crate::error::chain;
use crate::{event, events};

/// An open audit file.
#[derive(Debug)]
pub(super) struct AuditFile {
    path: PathBuf,
    file: File,
    /// Lines that could not be written since one could.
    lost: u64,
}

impl AuditFile {
    /// Opens or makes the file.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self {
            path: path.to_owned(),
            file: file::open(path, file::AUDIT)?,
            lost: 0,
        })
    }

    /// Opens it again, after it was moved away.
    ///
    /// # Errors
    /// It cannot be opened; the old one is still in use.
    pub(super) fn reopen(&mut self) -> Result<(), Error> {
        self.file = file::open(&self.path, file::AUDIT)?;
        Ok(())
    }

    /// Writes a whole line or nothing of it.
    pub(super) fn write(&mut self, line: &[u8]) {
        match self.try_write(line) {
            Ok(()) => {
                let lost = std::mem::take(&mut self.lost);
                if lost > 0 {
                    let file = self.path.display();
                    event!(events::AUDIT_FILE_WORKS, lost, file = %file);
                }
            }
            Err(error) => {
                if self.lost == 0 {
                    let (file, error) = (self.path.display(), chain(&error));
                    event!(events::AUDIT_FILE_FAILED, file = %file, error = %error);
                }
                self.lost = self.lost.saturating_add(1);
            }
        }
    }

    fn try_write(&mut self, line: &[u8]) -> io::Result<()> {
        let before = self.file.metadata()?;
        let written = self.file.write_all(line);
        if written.is_err() && before.is_file() {
            // Half a line would spoil the next one.
            let _ = self.file.set_len(before.len());
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::AuditFile;

    #[test]
    fn moved_audit_file_is_made_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, moved) = (directory.path().join("a"), directory.path().join("a.1"));
        let mut audit = AuditFile::open(&path).expect("opened");
        let mode = std::fs::metadata(&path)
            .expect("metadata")
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o600);
        audit.write(b"one\n");
        std::fs::rename(&path, &moved).expect("moved");
        audit.reopen().expect("opened");
        audit.write(b"two\n");
        assert_eq!(std::fs::read_to_string(&moved).expect("read"), "one\n");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "two\n");
    }

    #[test]
    fn full_disk_loses_and_counts_lines() {
        let mut audit = AuditFile::open(Path::new("/dev/full")).expect("opened");
        audit.write(b"one\n");
        audit.write(b"two\n");
        assert_eq!(audit.lost, 2);
        let directory = tempfile::tempdir().expect("a directory");
        audit.path = directory.path().join("audit");
        audit.reopen().expect("opened");
        audit.write(b"three\n");
        assert_eq!(audit.lost, 0);
    }
}

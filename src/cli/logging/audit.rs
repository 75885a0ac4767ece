//! The audit file: the events of the record of sessions as lines of JSON, whatever the level and the
//! format of the log. A disk that takes no line is reported once, and no session waits for it.
//!
//! A file that is full is moved to `FILE.old.1`, and what was there to the next number, so that the
//! file and its predecessors have a bound whatever else rotates them. Each move is one rename: a
//! crash leaves whole files, perhaps with a gap in the numbers. The names are not those of
//! logrotate, which moves the file before it is full.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::file::{self, Error};
use crate::error::chain;
use crate::{event, events};

/// The most bytes of the file: more than the packaged rule for logrotate leaves in it (100 MB).
const MAX_BYTES: u64 = 128 << 20;
/// Predecessors that are kept.
const KEPT: u32 = 4;
/// What others may be allowed to do with the file: its group may read it.
const MODES: u32 = 0o640;

/// An open audit file.
#[derive(Debug)]
pub(super) struct AuditFile {
    path: PathBuf,
    file: File,
    /// It is full with so many bytes.
    limit: u64,
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
            limit: MAX_BYTES,
            lost: 0,
        })
    }

    /// Opens it again, after it was moved away.
    ///
    /// # Errors
    /// It cannot be opened; the old one is still in use.
    pub(super) fn reopen(&mut self) -> Result<(), Error> {
        self.file = file::open(&self.path, file::AUDIT)?;
        self.limit = MAX_BYTES;
        Ok(())
    }

    /// Moves the full file away and begins another one. Where that is not possible, such as in a
    /// directory of others, lines go on into the old one.
    fn rotate(&mut self, modes: u32) {
        if let Err(error) = self.try_rotate(modes) {
            // A while later again.
            self.limit = self.limit.saturating_add(MAX_BYTES);
            let file = self.path.display();
            event!(events::AUDIT_FILE_NOT_ROTATED, file = %file, error = %chain(&*error));
        }
    }

    fn try_rotate(&mut self, modes: u32) -> Result<(), Box<dyn std::error::Error>> {
        for number in (1..KEPT).rev() {
            match fs::rename(self.old(number), self.old(number.saturating_add(1))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                Ok(()) | Err(_) => {}
            }
        }
        fs::rename(&self.path, self.old(1))?;
        self.reopen()?;
        let modes = modes & MODES | file::AUDIT;
        self.file.set_permissions(Permissions::from_mode(modes))?;
        Ok(())
    }

    /// The predecessor with that number; 1 is the newest.
    fn old(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".old.{number}"));
        name.into()
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
        let mut before = self.file.metadata()?;
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if before.is_file() && before.len().saturating_add(length) > self.limit {
            self.rotate(before.permissions().mode());
            before = self.file.metadata()?;
        }
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

    use super::{AuditFile, KEPT};

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
    fn full_file_is_moved_away() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a");
        let mut audit = AuditFile::open(&path).expect("opened");
        let shared = std::fs::Permissions::from_mode(0o640);
        std::fs::set_permissions(&path, shared).expect("changed");
        let lines = (0..3 * KEPT).map(|number| format!("line {number:02}\n"));
        for line in lines {
            // Room for two lines.
            audit.limit = 16;
            audit.write(line.as_bytes());
        }
        let read = |path: &Path| std::fs::read_to_string(path).expect("read");
        assert_eq!(read(&path), "line 10\nline 11\n");
        for number in 1..=KEPT {
            let first = 10 - 2 * number;
            let expected = format!("line {first:02}\nline {:02}\n", first + 1);
            assert_eq!(read(&audit.old(number)), expected, "{number}");
        }
        assert!(!audit.old(KEPT + 1).exists());
        for path in [&path, &audit.old(1), &audit.old(KEPT)] {
            let mode = std::fs::metadata(path).expect("metadata").permissions();
            assert_eq!(mode.mode() & 0o7777, 0o640, "{}", path.display());
        }
        // A crash between two moves leaves a gap, which closes again.
        std::fs::remove_file(audit.old(1)).expect("removed");
        audit.limit = 16;
        audit.write(b"line 12\n");
        assert_eq!(read(&audit.old(1)), "line 10\nline 11\n");
    }

    #[test]
    fn immovable_file_is_written_on() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a");
        let mut audit = AuditFile::open(&path).expect("opened");
        // A directory with something in it is in the way.
        std::fs::create_dir_all(audit.old(KEPT).join("x")).expect("made");
        std::fs::write(audit.old(KEPT - 1), "older").expect("written");
        audit.limit = 4;
        audit.write(b"one\n");
        audit.write(b"two\n");
        audit.write(b"three\n");
        let text = std::fs::read_to_string(&path).expect("read");
        assert_eq!(text, "one\ntwo\nthree\n");
        assert_eq!(audit.lost, 0);
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

//! The bundle for support: what doctor found, and what else tells how a role is, in one tar that
//! holds no secret.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use tokio::time::timeout;

use super::super::exit::Failure;
use super::redaction::Redaction;
use super::service::Unit;
use crate::host::systemd::{JournalRange, Systemd};

/// Only its owner may read it.
const MODE: u32 = 0o600;
/// How long the journal may take.
const JOURNAL_ANSWER: Duration = Duration::from_secs(10);
/// How much of the journal goes in.
const JOURNAL: JournalRange = JournalRange {
    lines: 2000,
    since: "-1h",
};
/// Longest member, in bytes: lines of the journal may be long. Its end counts.
const MAX_MEMBER: usize = 8 << 20;

/// A file that is to be the bundle.
#[derive(Debug)]
pub(super) struct Bundle {
    file: File,
    path: PathBuf,
}

/// A file of the bundle.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) text: String,
}

impl Bundle {
    /// Makes the file, which must not be there.
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(MODE);
        let file = options.open(path).map_err(|error| {
            let advice = match error.kind() {
                io::ErrorKind::AlreadyExists => "; remove it, or give another name",
                _ => "",
            };
            let text = format!("cannot make the bundle {}{advice}", path.display());
            Failure::unavailable(anyhow::Error::new(error).context(text))
        })?;
        let path = path.to_owned();
        Ok(Self { file, path })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `members`, each without the secrets that `redaction` finds.
    pub(super) fn write(self, members: &[Entry], redaction: &Redaction) -> anyhow::Result<()> {
        let written = archive(members, redaction).and_then(|bytes| {
            (&self.file).write_all(&bytes)?;
            self.file.sync_all()
        });
        let text = || format!("cannot write the bundle {}", self.path.display());
        let written = written.with_context(text);
        if written.is_err() {
            // Half of one helps no one.
            let _ = fs::remove_file(&self.path);
        }
        written.map_err(Failure::unavailable)
    }
}

fn archive(members: &[Entry], redaction: &Redaction) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    for Entry { name, text } in members {
        let text = redaction.apply(end_of(text));
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(MODE);
        header.set_mtime(now.as_ref().map_or(0, Duration::as_secs));
        archive.append_data(&mut header, name, text.as_bytes())?;
    }
    archive.into_inner()
}

/// The last bytes of `text` that a member may have.
fn end_of(text: &str) -> &str {
    let mut from = text.len().saturating_sub(MAX_MEMBER);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text.get(from..).unwrap_or_default()
}

/// The unit's files, as systemd reads them, or why there are none.
pub(super) fn unit(unit: &Unit) -> Entry {
    let text = match unit {
        Unit::Absent(why) | Unit::Unknown(why) => format!("{why}\n"),
        Unit::Installed { text, .. } => text.clone(),
    };
    let name = "unit.txt";
    Entry { name, text }
}

/// The journal of the unit, or why there is none.
pub(super) async fn journal(unit: &Unit) -> Entry {
    let text = match unit {
        Unit::Absent(why) | Unit::Unknown(why) => format!("{why}\n"),
        Unit::Installed { service, .. } => {
            match timeout(JOURNAL_ANSWER, Systemd::journal(service, JOURNAL)).await {
                Ok(Ok(text)) => text,
                Ok(Err(error)) => format!("{}\n", crate::error::chain(&error)),
                Err(_) => format!("no answer in {} s\n", JOURNAL_ANSWER.as_secs()),
            }
        }
    };
    let name = "journal.txt";
    Entry { name, text }
}

/// The versions of this program and of the system.
pub(super) fn versions(unit: &Unit) -> Entry {
    let read = |path: &str| {
        let text = fs::read_to_string(path);
        text.unwrap_or_else(|error| format!("{path}: {error}\n"))
    };
    let manager = match unit {
        Unit::Installed { version, .. } => format!("systemd {}", version.0),
        Unit::Absent(why) | Unit::Unknown(why) => format!("systemd: {why}"),
    };
    let text = format!(
        "infisical {}\nkernel {}{manager}\n\n{}",
        env!("CARGO_PKG_VERSION"),
        read("/proc/sys/kernel/osrelease"),
        read("/etc/os-release")
    );
    let name = "versions.txt";
    Entry { name, text }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::{Bundle, Entry, MAX_MEMBER, end_of};
    use crate::cli::doctor::redaction::Redaction;
    use crate::secret::Secret;

    #[test]
    fn bundle_is_private_and_never_overwrites() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("bundle.tar");
        let bundle = Bundle::create(&path).expect("made");
        let redaction = Redaction::new([Secret::new("hunter22")]);
        let member = Entry {
            name: "a.txt",
            text: "the token is hunter22".to_owned(),
        };
        bundle.write(&[member], &redaction).expect("written");
        let mode = std::fs::metadata(&path)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o600);
        let bytes = std::fs::read(&path).expect("read");
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut entry = archive
            .entries()
            .expect("entries")
            .next()
            .expect("one")
            .expect("whole");
        let mut text = String::new();
        std::io::Read::read_to_string(&mut entry, &mut text).expect("text");
        assert_eq!(text, "the token is [redacted]");
        let error = Bundle::create(&path).expect_err("it is there").to_string();
        assert!(error.contains("give another name"), "{error}");
    }

    #[test]
    fn long_member_keeps_its_end() {
        let text = format!("ä{}", "x".repeat(MAX_MEMBER - 1));
        assert_eq!(end_of(&text).len(), MAX_MEMBER - 1);
        assert_eq!(end_of("short"), "short");
    }
}

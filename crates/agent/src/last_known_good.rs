//! A mark in the state directory: with this configuration the service has worked.
//!
//! A refusal by the platform is final when nothing ever worked: a person is watching, and must hear
//! of it. It is not when a machine that has worked for months boots while the platform is being
//! redeployed. The mark tells the two apart. It is a hash of what identifies the service to the
//! platform, so that a new credential starts from nothing; a reader of it learns nothing.

use std::fs;
use std::path::PathBuf;

use aws_lc_rs::digest;

use crate::config::file;
use crate::error::chain;

/// The file's name.
const FILE: &str = "worked-with";

/// What a service is to the platform, as a hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Of these texts, secrets included, in this order.
    #[must_use]
    pub fn of(parts: &[&str]) -> Self {
        let mut hash = digest::Context::new(&digest::SHA256);
        for part in parts {
            // With its length, so that no two lists of parts look the same.
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        let hash = hash.finish();
        let hex = hash.as_ref().iter().map(|byte| format!("{byte:02x}"));
        Self(hex.collect())
    }

    /// In hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The mark of one service.
#[derive(Debug, Clone)]
pub struct LastKnownGood {
    file: Option<PathBuf>,
}

impl LastKnownGood {
    /// In the state directory that the service manager made; without one, nothing is ever
    /// last_known_good.
    #[must_use]
    pub fn new(state: Option<PathBuf>) -> Self {
        let file = state.map(|state| state.join(FILE));
        Self { file }
    }

    /// Another file in the same directory.
    #[must_use]
    pub fn sibling(&self, name: &str) -> Option<PathBuf> {
        self.file.as_ref().map(|file| file.with_file_name(name))
    }

    /// True if the service has worked as `fingerprint`. A file that cannot be read counts as none.
    #[must_use]
    pub fn has(&self, fingerprint: &Fingerprint) -> bool {
        let text = self
            .file
            .as_ref()
            .and_then(|file| fs::read_to_string(file).ok());
        text.is_some_and(|text| text.trim_end() == fingerprint.0)
    }

    /// Notes that the service works as `fingerprint`. Blocks for the disk, briefly, and only for
    /// something new; a failure is logged and costs nothing but the patience of a later start.
    pub fn note(&self, fingerprint: &Fingerprint) {
        let Some(file) = self.file.as_ref().filter(|_| !self.has(fingerprint)) else {
            return;
        };
        // Whole: half a mark would undo the one before it.
        let written = file::write_whole(file, format!("{}\n", fingerprint.0).as_bytes(), 0o600);
        if let Err(error) = written {
            tracing::warn!(
                file = %file.display(),
                error = %chain(&error),
                "the mark that this configuration works cannot be kept; if the platform refuses the next start, the service ends instead of asking on"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Fingerprint, LastKnownGood};

    #[test]
    fn worked_configuration_is_known_until_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let last_known_good = LastKnownGood::new(Some(directory.path().to_owned()));
        let (old, new) = (Fingerprint::of(&["a", "b"]), Fingerprint::of(&["ab", ""]));
        assert_ne!(old, new);
        assert!(!last_known_good.has(&old));
        last_known_good.note(&old);
        last_known_good.note(&old);
        assert!(last_known_good.has(&old) && !last_known_good.has(&new));
        last_known_good.note(&new);
        assert!(last_known_good.has(&new) && !last_known_good.has(&old));
    }

    #[test]
    fn without_state_directory_nothing_is_known() {
        let nothing = Fingerprint::of(&[]);
        for state in [None, Some("/nonexistent".into())] {
            let last_known_good = LastKnownGood::new(state);
            last_known_good.note(&nothing);
            assert!(!last_known_good.has(&nothing));
        }
    }
}

//! The relay that was used last, kept on the disk, so that a restart prefers the relay that worked.
//!
//! The file holds the bare name. It is read for the first choice of a run only, and written
//! whenever another relay is in use; a relay that the configuration names is neither looked up nor
//! kept here. The file is a hint: errors are logged.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::file;
use crate::names::RelayName;

/// The file's name in a state directory of its own; elsewhere the extension of the gateway's file.
pub(crate) const FILE: &str = "cached_relay";
/// The name of a relay is public.
const MODE: u32 = 0o644;

/// The file of one gateway. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct CachedRelay(Arc<Cache>);

#[derive(Debug)]
struct Cache {
    file: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The first choice of this run was made.
    was_read: bool,
    /// What is to be in the file; `None` if that is unknown.
    latest: Option<RelayName>,
}

impl CachedRelay {
    /// In the file `in_state` of the state directory that the service manager made, else beside
    /// `store`, the gateway's file.
    pub(crate) fn new(in_state: Option<PathBuf>, store: &Path) -> Self {
        Self(Arc::new(Cache {
            file: in_state.unwrap_or_else(|| store.with_extension(FILE)),
            state: Mutex::default(),
        }))
    }

    /// The relay of the run before, if this is the first choice of this one. Blocks for the disk,
    /// briefly.
    pub(crate) fn take_first(&self) -> Option<RelayName> {
        let mut state = self.0.state();
        if std::mem::replace(&mut state.was_read, true) {
            return None;
        }
        let name = match fs::read_to_string(&self.0.file) {
            Ok(text) => RelayName::try_new(text.trim()).ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let file = self.0.file.display();
                tracing::debug!(%file, %error, "cannot read the cached relay");
                None
            }
        };
        state.latest.clone_from(&name);
        name
    }

    /// Keeps `relay` if it is not what the file says. The disk is written by another thread, and a
    /// failure only logged.
    pub(crate) fn keep(&self, relay: &RelayName) {
        let mut state = self.0.state();
        state.was_read = true;
        if state.latest.as_ref() == Some(relay) {
            return;
        }
        state.latest = Some(relay.clone());
        drop(state);
        let cache = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || cache.write());
    }
}

impl Cache {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) {
        // Read now: of several writes, the last one has the newest name.
        let Some(relay) = self.state().latest.clone() else {
            return;
        };
        let directory = self.file.parent().unwrap_or_else(|| Path::new("."));
        let written = file::make_directory(directory)
            .and_then(|()| file::write_whole(&self.file, relay.as_str().as_bytes(), MODE));
        if let Err(error) = written {
            let file = self.file.display();
            tracing::debug!(%file, %error, "cannot keep the relay for the next start");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::CachedRelay;
    use crate::names::RelayName;

    #[test]
    fn only_first_choice_reads_the_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = directory.path().join("edge.conf");
        let file = directory.path().join("edge.cached_relay");
        for (text, expected) in [
            ("eu-1", Some("eu-1")),
            ("eu-1\n", Some("eu-1")),
            ("", None),
            ("not a name\nat all", None),
        ] {
            std::fs::write(&file, text).expect("written");
            let cached = CachedRelay::new(None, &store);
            let first = cached.take_first();
            assert_eq!(first.as_ref().map(RelayName::as_str), expected, "{text:?}");
            assert!(cached.take_first().is_none());
        }
        let none = CachedRelay::new(Some("/nonexistent/cached_relay".into()), Path::new("/x"));
        assert!(none.take_first().is_none());
    }

    #[tokio::test]
    async fn bare_name_is_written() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("user/gateways/cached_relay");
        let cached = CachedRelay::new(Some(file.clone()), Path::new("/x"));
        let relay = RelayName::try_new("eu-2").expect("a name");
        cached.keep(&relay);
        while std::fs::read_to_string(&file).ok().as_deref() != Some("eu-2") {
            tokio::task::yield_now().await;
        }
        assert!(cached.take_first().is_none(), "a choice was made");
    }
}

//! Where lines end: standard error, the journal behind it, or a file that may be replaced at any time.
//!
//! Nothing here can fail once it runs: what a file does not take goes to standard error.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::error::Reason;
use crate::host::journal;

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

impl Error {
    /// What kind of mistake it is: a place where no file can be made does not become one by waiting.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self.source.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::ReadOnlyFilesystem => Reason::Configuration,
            _ => Reason::Unavailable,
        }
    }
}

/// Where lines end.
#[derive(Debug)]
pub(super) struct Sink {
    /// Standard error is the journal, so that text needs its priority.
    journal: bool,
    /// The journal's own socket takes what would go to standard error.
    native: bool,
    file: Mutex<Option<(PathBuf, File)>>,
    /// What `file` holds, without waiting for a writer.
    is_file: AtomicBool,
    verbose: AtomicBool,
}

impl Sink {
    pub(super) fn new(journal: bool, native: bool) -> Self {
        Self {
            journal,
            native,
            file: Mutex::new(None),
            is_file: AtomicBool::new(false),
            verbose: AtomicBool::new(false),
        }
    }

    pub(super) fn is_file(&self) -> bool {
        self.is_file.load(Ordering::Relaxed)
    }

    pub(super) fn is_journal(&self) -> bool {
        self.journal
    }

    pub(super) fn is_verbose(&self) -> bool {
        self.verbose.load(Ordering::Relaxed)
    }

    pub(super) fn set_verbose(&self, verbose: bool) {
        self.verbose.store(verbose, Ordering::Relaxed);
    }

    /// Lines go to `path` from now on, or to standard error.
    ///
    /// # Errors
    /// The file cannot be opened; lines go where they went.
    pub(super) fn redirect(&self, path: Option<&Path>) -> Result<(), Error> {
        let new = path
            .map(|path| Ok((path.to_owned(), open(path)?)))
            .transpose()?;
        if let (Some(path), false) = (path, self.is_file()) {
            // The last line there, for whoever looks for the others.
            tracing::info!(file = %path.display(), "logging to a file from here on");
        }
        self.is_file.store(new.is_some(), Ordering::Relaxed);
        *self.lock() = new;
        Ok(())
    }

    /// Opens the file again, after it was moved away.
    ///
    /// # Errors
    /// It cannot be opened; the old one is still in use.
    pub(super) fn reopen(&self) -> Result<(), Error> {
        let path = self.lock().as_ref().map(|(path, _)| path.clone());
        let Some(path) = path else {
            return Ok(());
        };
        let file = open(&path)?;
        *self.lock() = Some((path, file));
        Ok(())
    }

    fn write(&self, level: Level, line: &[u8]) {
        if let Some((_, file)) = self.lock().as_mut()
            && file.write_all(line).is_ok()
        {
            return;
        }
        self.write_standard(level, line);
    }

    /// To standard error, whatever else is chosen. Where that fails there is nowhere left to say so.
    pub(super) fn write_standard(&self, level: Level, line: &[u8]) {
        let _ = if self.journal {
            io::stderr().write_all(&journal::with_priority(level, line))
        } else {
            io::stderr().write_all(line)
        };
    }

    fn lock(&self) -> MutexGuard<'_, Option<(PathBuf, File)>> {
        // A file is whole at any time, so a panic elsewhere spoils nothing.
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(path: &Path) -> Result<File, Error> {
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

/// Makes a writer for each line of text.
#[derive(Debug)]
pub(super) struct Lines(pub(super) Arc<Sink>);

/// Takes one line.
#[derive(Debug)]
pub(super) struct LineWriter<'a> {
    sink: &'a Sink,
    level: Level,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter {
            sink: &self.0,
            level: Level::INFO,
        }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> LineWriter<'a> {
        LineWriter {
            sink: &self.0,
            level: *metadata.level(),
        }
    }
}

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.sink.write(self.level, line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A layer that hears of events only while its lines are wanted; of spans always, since it may have to tell of one
/// that began before.
#[derive(Debug)]
pub(super) struct Gate<L> {
    pub(super) layer: L,
    pub(super) sink: Arc<Sink>,
    /// It speaks to the journal's socket.
    pub(super) native: bool,
}

impl<L, S> Layer<S> for Gate<L>
where
    L: Layer<S>,
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        self.layer.on_new_span(attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        self.layer.on_record(id, values, context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let wants_native = self.sink.native && !self.sink.is_file();
        if self.native == wants_native {
            self.layer.on_event(event, context);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use tracing::Level;

    use super::Sink;
    use crate::error::Reason;

    #[test]
    fn lines_follow_a_file_that_was_moved_away() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, moved) = (directory.path().join("log"), directory.path().join("log.1"));
        let sink = Sink::new(false, false);
        sink.redirect(Some(&path)).expect("opened");
        let mode = fs::metadata(&path).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o7777, 0o640);
        sink.write(Level::INFO, b"one\n");
        fs::rename(&path, &moved).expect("moved");
        sink.write(Level::INFO, b"two\n");
        sink.reopen().expect("opened again");
        sink.write(Level::INFO, b"three\n");
        assert_eq!(fs::read_to_string(&moved).expect("read"), "one\ntwo\n");
        assert_eq!(fs::read_to_string(&path).expect("read"), "three\n");
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named_and_the_old_one_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log");
        let sink = Sink::new(false, false);
        sink.redirect(Some(&path)).expect("opened");
        let absent = directory.path().join("absent/log");
        let error = sink.redirect(Some(&absent)).expect_err("no directory");
        assert_eq!(
            error.to_string(),
            format!("cannot log to {}", absent.display())
        );
        assert_eq!(error.reason(), Reason::Configuration);
        sink.write(Level::INFO, b"still here\n");
        assert_eq!(fs::read_to_string(&path).expect("read"), "still here\n");
    }

    #[test]
    fn without_a_file_there_is_nothing_to_reopen() {
        let sink = Sink::new(false, false);
        sink.reopen().expect("nothing to do");
        assert!(!sink.is_file());
    }
}

//! Where lines are made: each goes into the queue at once, and the thread that empties it waits for
//! the reader.

use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::audit::AuditFile;
use super::file::{self, Error};
use super::queue::{Queue, Rank};
use super::writer::{self, Job, Outlets, Place};
use crate::config::log::LogDestination;
use crate::host::journal::{Entry, Socket};

/// How long the last lines may take. The service manager's patience at a stop is ten times that.
const LAST_LINES: Duration = Duration::from_secs(2);

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A line of text.
    Text,
    /// A line of JSON.
    Json,
    /// An entry of the journal with fields.
    Entry,
}

/// How lines look, and where they go without a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) is_json: bool,
    /// Without colour.
    pub(super) is_plain: bool,
    /// The stream is the journal.
    pub(super) is_journal: bool,
    /// With the module that logs.
    pub(super) is_verbose: bool,
    pub(super) destination: LogDestination,
}

/// Takes lines, and knows where they go.
#[derive(Debug)]
pub(super) struct Sink {
    look: RwLock<Look>,
    /// There is the journal's own socket, which takes what would go to the stream.
    has_socket: bool,
    is_file: AtomicBool,
    has_audit: AtomicBool,
    /// How often someone said where lines go.
    orders: AtomicU64,
    /// The thread that writes takes out; it is there from [`Self::start`] on, and what comes before
    /// waits.
    pub(super) queue: Queue<Job>,
    outlets: Mutex<Outlets>,
    has_writer: Mutex<bool>,
}

impl Sink {
    pub(super) fn new(look: Look, socket: Option<Socket>) -> Self {
        Self {
            look: RwLock::new(look),
            has_socket: socket.is_some(),
            is_file: AtomicBool::new(false),
            has_audit: AtomicBool::new(false),
            orders: AtomicU64::new(0),
            queue: Queue::new(),
            outlets: Mutex::new(Outlets::new(look, socket)),
            has_writer: Mutex::new(false),
        }
    }

    /// Lines look, and go without a file, as `look` says from now on.
    pub(super) fn set_look(&self, look: Look) {
        *self.look.write().unwrap_or_else(PoisonError::into_inner) = look;
        self.request(Job::Stream(look));
    }

    pub(super) fn look(&self) -> Look {
        *self.look.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an event becomes.
    fn form(&self) -> Form {
        let look = self.look();
        if look.is_json {
            Form::Json
        } else if self.has_socket && look.is_journal && !self.is_file() {
            Form::Entry
        } else {
            Form::Text
        }
    }

    pub(super) fn is_file(&self) -> bool {
        self.is_file.load(Ordering::Relaxed)
    }

    /// Lines go to `path` from now on, or to standard error.
    ///
    /// # Errors
    /// The file cannot be opened; lines go where they went.
    pub(super) fn redirect(&self, path: Option<&Path>) -> Result<(), Error> {
        let Some(path) = path else {
            self.end_file();
            return Ok(());
        };
        let file = file::open(path, file::LOG)?;
        self.orders.fetch_add(1, Ordering::Relaxed);
        self.begin_file(path);
        self.request(Job::Use(Some((path.to_owned(), file))));
        Ok(())
    }

    /// The same while the program runs, which waits for no disk: what cannot be opened is a
    /// warning.
    pub(super) fn follow(&self, path: Option<&Path>) {
        match path {
            Some(path) => {
                let order = self.orders.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
                self.request(Job::Open(path.to_owned(), order));
            }
            None => self.end_file(),
        }
    }

    /// Audit lines go to `path` from now on, or nowhere.
    ///
    /// # Errors
    /// The file cannot be opened; nothing is changed.
    pub(super) fn redirect_audit(&self, path: Option<&Path>) -> Result<(), Error> {
        let audit = path.map(AuditFile::open).transpose()?;
        self.has_audit.store(audit.is_some(), Ordering::Relaxed);
        self.request(Job::UseAudit(audit));
        Ok(())
    }

    /// The same while the program runs, which waits for no disk: what cannot be opened is a
    /// warning, and the old file is still in use.
    pub(super) fn follow_audit(&self, path: Option<&Path>) {
        self.has_audit.store(path.is_some(), Ordering::Relaxed);
        self.request(match path {
            Some(path) => Job::OpenAudit(path.to_owned()),
            None => Job::UseAudit(None),
        });
    }

    /// Writes a line to the audit file, if there is one.
    pub(super) fn audit(&self, line: &[u8]) {
        if self.has_audit.load(Ordering::Relaxed) {
            // They have the room of errors: a busy log must not cost any.
            self.push(Rank::Error, line.len(), Job::Audit(line.into()));
        }
    }

    /// Opens the files again, after they were moved away; what cannot be opened is a warning, and
    /// the old one is still in use.
    pub(super) fn reopen(&self) {
        self.request(Job::Reopen);
    }

    /// Lines are made for the file at `path` from now on.
    pub(super) fn begin_file(&self, path: &Path) {
        if !self.is_file() {
            // The last line there, for anyone who looks for the others.
            tracing::info!(file = %path.display(), "logging to a file from here on");
        }
        self.is_file.store(true, Ordering::Relaxed);
    }

    /// True if no one has said where lines go since the order of this number.
    pub(super) fn is_latest(&self, order: u64) -> bool {
        self.orders.load(Ordering::Relaxed) == order
    }

    /// Lines are made for no file from now on.
    fn end_file(&self) {
        self.orders.fetch_add(1, Ordering::Relaxed);
        self.is_file.store(false, Ordering::Relaxed);
        self.request(Job::Use(None));
    }

    /// Starts the thread that writes, once.
    ///
    /// # Errors
    /// The system has no thread to give; lines wait.
    pub(super) fn start(self: &Arc<Self>) -> io::Result<()> {
        let mut has_writer = self
            .has_writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !*has_writer {
            writer::start(Arc::clone(self))?;
            *has_writer = true;
        }
        Ok(())
    }

    /// Waits until every line is written, two seconds at most.
    pub(super) fn finish(self: &Arc<Self>) {
        match self.start() {
            Ok(()) => self.queue.wait_until_written(LAST_LINES),
            Err(_) => writer::drain(self),
        }
    }

    fn write(&self, level: Level, line: &[u8]) {
        let place = if self.is_file() {
            Place::File
        } else {
            Place::Standard
        };
        self.line(level, place, line);
    }

    /// To standard error, whatever else is chosen.
    pub(super) fn write_standard(&self, level: Level, line: &[u8]) {
        self.line(level, Place::Standard, line);
    }

    fn line(&self, level: Level, place: Place, line: &[u8]) {
        self.push(
            rank(level),
            line.len(),
            Job::Line(level, place, line.into()),
        );
    }

    pub(super) fn entry(&self, entry: Entry) {
        let size = entry.as_bytes().len();
        self.push(rank(entry.level()), size, Job::Entry(entry));
    }

    fn request(&self, job: Job) {
        self.push(Rank::Request, 0, job);
    }

    fn push(&self, rank: Rank, size: usize, job: Job) {
        self.queue
            .push(rank, size.saturating_add(size_of::<Job>()), job);
    }

    /// For the one that writes.
    pub(super) fn outlets(&self) -> MutexGuard<'_, Outlets> {
        // A file is whole at any time, so a panic elsewhere spoils nothing.
        self.outlets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn rank(level: Level) -> Rank {
    if level == Level::ERROR {
        Rank::Error
    } else {
        Rank::Ordinary
    }
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
        let (sink, level) = (&*self.0, Level::INFO);
        LineWriter { sink, level }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> LineWriter<'a> {
        let (sink, level) = (&*self.0, *metadata.level());
        LineWriter { sink, level }
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

/// A layer that hears of events only while its lines are wanted; of spans always, since it may have
/// to tell of one that began before.
#[derive(Debug)]
pub(super) struct Gate<L> {
    pub(super) layer: L,
    pub(super) sink: Arc<Sink>,
    /// What it makes of an event.
    pub(super) form: Form,
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
        if self.form == self.sink.form() {
            self.layer.on_event(event, context);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;
    use std::sync::Arc;

    use tracing::Level;

    use super::{Look, Sink};
    use crate::config::log::LogDestination;

    fn sink() -> Arc<Sink> {
        let look = Look {
            is_json: false,
            is_plain: true,
            is_journal: false,
            is_verbose: false,
            destination: LogDestination::Stderr,
        };
        Arc::new(Sink::new(look, None))
    }

    /// A sink whose lines go to `path`.
    fn to(path: &Path) -> Arc<Sink> {
        let sink = sink();
        sink.redirect(Some(path)).expect("opened");
        sink
    }

    #[test]
    fn lines_follow_a_moved_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, moved) = (directory.path().join("log"), directory.path().join("log.1"));
        let sink = to(&path);
        let mode = fs::metadata(&path).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o7777, 0o640);
        sink.write(Level::INFO, b"one\n");
        sink.finish();
        fs::rename(&path, &moved).expect("moved");
        sink.write(Level::INFO, b"two\n");
        sink.reopen();
        sink.write(Level::INFO, b"three\n");
        sink.finish();
        assert_eq!(fs::read_to_string(&moved).expect("read"), "one\ntwo\n");
        assert_eq!(fs::read_to_string(&path).expect("read"), "three\n");
    }

    #[test]
    fn unusable_file_is_named_and_not_used() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log");
        let sink = to(&path);
        let absent = directory.path().join("absent/log");
        let error = sink.redirect(Some(&absent)).expect_err("no directory");
        assert_eq!(
            error.to_string(),
            format!("cannot log to {}", absent.display())
        );
        sink.write(Level::INFO, b"still here\n");
        sink.finish();
        assert_eq!(fs::read_to_string(&path).expect("read"), "still here\n");
    }

    #[test]
    fn without_a_file_nothing_is_reopened() {
        let sink = sink();
        sink.reopen();
        sink.finish();
        assert!(!sink.is_file());
    }

    #[test]
    fn line_goes_to_its_times_output() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log");
        let sink = to(&path);
        sink.write(Level::INFO, b"one\n");
        sink.follow(None);
        sink.write(Level::DEBUG, b"to standard error\n");
        let other = directory.path().join("other");
        sink.redirect(Some(&other)).expect("opened");
        sink.write(Level::INFO, b"two\n");
        sink.finish();
        assert_eq!(fs::read_to_string(&path).expect("read"), "one\n");
        assert_eq!(fs::read_to_string(&other).expect("read"), "two\n");
    }
}

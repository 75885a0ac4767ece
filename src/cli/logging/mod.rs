//! Logs: to standard error, the journal or a file, as text for people or as JSON for collectors.
//!
//! The level is that of this program; libraries are heard only when they warn, and the SSH library,
//! which calls ordinary ends of connections errors, only when asked for everything. Logging begins
//! with what flags and environment say, before any file is read; [`Handle::apply`] then follows the
//! configuration for as long as the program runs.
//!
//! Logging never waits for the reader of the lines: a service that waits serves no one and is ended
//! by its watchdog: lines go through a bounded queue to a thread that does nothing else.
//!
//! With JSON the journal gets lines of it too: its fields are for the other formats.

mod audit;
mod file;
mod queue;
mod sink;
mod text;
mod writer;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::panic::{self, PanicHookInfo};
use std::sync::Arc;
use std::thread;

use anyhow::Context as _;
use tracing::{Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry, reload};

pub use file::Error;

use super::exit::Failure;
use crate::config::log::{LogDestination, LogFormat};
use crate::config::settings::{LogLevel, LogSettings};
use crate::error::chain;
use crate::host::journal::{Journal, Socket};
use crate::threads::ADVICE;
use crate::{event, events};
use sink::{Form, Gate, Lines, Look, Sink};
use text::{Fields, Line};

/// What is known of standard error or standard output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stream {
    /// It is the journal.
    pub is_journal: bool,
    /// It is a terminal.
    pub is_terminal: bool,
}

/// How to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logging {
    /// What flags and environment say.
    pub settings: LogSettings,
    /// The level if no one says any.
    pub default: LogLevel,
    /// Colours, if the stream is a terminal.
    pub colour: bool,
    /// Standard error.
    pub stderr: Stream,
    /// Standard output.
    pub stdout: Stream,
}

impl Logging {
    /// Begins to log, to standard error or the journal; call it once. Lines are written from
    /// [`Handle::open`] on, and the file comes with it.
    pub fn start(self) -> Handle {
        // A journal without a socket still reads lines; no reason not to start.
        let has_journal = self.stderr.is_journal || self.stdout.is_journal;
        let socket = has_journal.then(Socket::open).and_then(Result::ok);
        let (subscriber, handle) = self.build(socket);
        subscriber.init();
        let sink = Arc::clone(&handle.0.sink);
        panic::set_hook(Box::new(move |info| report_panic(&sink, info)));
        handle
    }

    fn build(self, socket: Option<Socket>) -> (impl Subscriber + Send + Sync, Handle) {
        let level = self.level(&self.settings);
        let is_native = socket.is_some();
        let sink = Arc::new(Sink::new(self.look(&self.settings), socket));
        let (filter, reload) = reload::Layer::new(targets(level));
        let journal = is_native.then(|| {
            let taker = Arc::clone(&sink);
            Gate {
                layer: Journal::new(move |entry| taker.entry(entry)),
                sink: Arc::clone(&sink),
                form: Form::Entry,
            }
        });
        let has_terminal = self.stderr.is_terminal || self.stdout.is_terminal;
        let text = text(self.colour && has_terminal, &sink);
        let subscriber = tracing_subscriber::registry()
            .with(filter)
            .with(journal)
            .with(text)
            .with(json(&sink));
        let handle = Handle(Arc::new(Shared {
            logging: self,
            sink,
            reload,
        }));
        (subscriber, handle)
    }

    fn level(&self, settings: &LogSettings) -> LogLevel {
        settings.level.unwrap_or(self.default)
    }

    /// How lines look, and where they go without a file, as `settings` say.
    fn look(&self, settings: &LogSettings) -> Look {
        let destination = settings.destination.unwrap_or_default();
        let stream = match destination {
            LogDestination::Stderr => self.stderr,
            LogDestination::Stdout => self.stdout,
        };
        let format = settings.format.unwrap_or_default();
        Look {
            is_json: format == LogFormat::Json,
            is_plain: format == LogFormat::Plain || !stream.is_terminal,
            is_journal: stream.is_journal,
            is_verbose: matches!(self.level(settings), LogLevel::Debug | LogLevel::Trace),
            destination,
        }
    }
}

/// As the standard library does, which would wait for the reader of standard error.
fn report_panic(sink: &Sink, info: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let name = thread.name().unwrap_or("<unnamed>");
    let trace = Backtrace::capture();
    let trace = match trace.status() {
        BacktraceStatus::Captured => format!("stack backtrace:\n{trace}"),
        _ => String::new(),
    };
    let text = format!("thread '{name}' {info}\n{trace}");
    sink.write_standard(Level::ERROR, text.as_bytes());
}

/// The layer for lines of text.
fn text<S>(colour: bool, sink: &Arc<Sink>) -> Gate<impl Layer<S> + Send + Sync + use<S>>
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
{
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(Lines(Arc::clone(sink)))
        // They would go to standard error, past the queue.
        .log_internal_errors(false)
        .with_ansi(colour)
        .fmt_fields(Fields)
        .event_format(Line(Arc::clone(sink)));
    Gate {
        layer,
        sink: Arc::clone(sink),
        form: Form::Text,
    }
}

/// The layer for lines of JSON.
fn json<S>(sink: &Arc<Sink>) -> Gate<impl Layer<S> + Send + Sync + use<S>>
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
{
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(Lines(Arc::clone(sink)))
        .log_internal_errors(false)
        .json()
        .flatten_event(true)
        .with_ansi(false);
    Gate {
        layer,
        sink: Arc::clone(sink),
        form: Form::Json,
    }
}

/// The running log, to be changed while it runs.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

struct Shared {
    logging: Logging,
    sink: Arc<Sink>,
    reload: reload::Handle<Targets, Registry>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.0.logging).finish()
    }
}

impl Handle {
    /// Goes on in the file that flags or environment name, if they do, and starts the thread that
    /// writes: call it when the process has given up its privileges, which threads have of their
    /// own.
    ///
    /// # Errors
    /// The file cannot be opened, and lines go where they went; or there is no thread, and they
    /// wait for the end.
    pub fn open(&self) -> anyhow::Result<()> {
        let Shared { logging, sink, .. } = &*self.0;
        let file = logging.settings.file.as_deref();
        sink.redirect(file).map_err(failure)?;
        sink.start()
            .with_context(|| format!("cannot start the thread that writes the log; {ADVICE}"))
            .map_err(Failure::unavailable)
    }

    /// Logs as `settings` say from now on, which hold what flags and environment say too. Blocks
    /// for the disk, briefly.
    ///
    /// # Errors
    /// The file cannot be opened; nothing is changed then.
    pub fn apply(&self, settings: &LogSettings) -> Result<(), Error> {
        self.0.sink.redirect(settings.file.as_deref())?;
        self.0.sink.redirect_audit(settings.audit_file.as_deref())?;
        self.change(settings);
        Ok(())
    }

    /// The same for a program that runs already: a file that cannot be opened is a warning, the old
    /// one stays in use, and the level changes all the same. An unchanged file is opened again.
    pub fn follow(&self, settings: &LogSettings) {
        self.change(settings);
        self.0.sink.follow(settings.file.as_deref());
        self.0.sink.follow_audit(settings.audit_file.as_deref());
    }

    /// Opens the file again, after logrotate moved it away; a failure is a warning, and the old
    /// file stays in use.
    pub fn reopen(&self) {
        self.0.sink.reopen();
    }

    /// Writes a line to the audit file, if there is one.
    pub fn audit(&self, line: &[u8]) {
        self.0.sink.audit(line);
    }

    /// What is logged until the returned value is dropped will be written, unless that takes more
    /// than two seconds.
    #[must_use]
    pub fn written_at_the_end(&self) -> impl Drop {
        AtTheEnd(Arc::clone(&self.0.sink))
    }

    /// Everything but the file.
    fn change(&self, settings: &LogSettings) {
        let Shared { logging, sink, .. } = &*self.0;
        sink.set_look(logging.look(settings));
        // It fails only where nothing is logged any more.
        let _ = self.0.reload.reload(targets(logging.level(settings)));
    }

    /// Reports the error that ends the program, where logs go and as they look; on standard error
    /// in any case.
    pub fn report(&self, error: &anyhow::Error) {
        let sink = &self.0.sink;
        let look = sink.look();
        let is_plain = !look.is_json && !look.is_journal;
        if sink.is_file() || !is_plain {
            event!(events::FAILED, error = %chain(error.as_ref()));
        }
        if sink.is_file() || is_plain {
            sink.write_standard(Level::ERROR, format!("{}\n", describe(error)).as_bytes());
        }
    }
}

/// Waits for the last lines when it is dropped, after a panic too.
struct AtTheEnd(Arc<Sink>);

impl Drop for AtTheEnd {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// A handle to a log that no one reads, for tests of what is given one.
#[cfg(test)]
pub(super) fn unread() -> Handle {
    let logging = Logging {
        settings: LogSettings::default(),
        default: LogLevel::Info,
        colour: false,
        stderr: Stream::default(),
        stdout: Stream::default(),
    };
    logging.build(None).1
}

/// A log file that cannot be opened, as an error of the start: a disk or a directory that is not
/// there yet may come, and a service is started again.
pub(super) fn failure(error: Error) -> anyhow::Error {
    Failure::unavailable(error)
}

fn targets(level: LogLevel) -> Targets {
    let ours = match level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    };
    // Its own trace lines hold what it decrypts.
    let ssh = match level {
        LogLevel::Trace => LevelFilter::DEBUG,
        LogLevel::Error | LogLevel::Warn | LogLevel::Info | LogLevel::Debug => LevelFilter::ERROR,
    };
    Targets::new()
        .with_default(Level::WARN.min(ours))
        .with_target("infisical", ours)
        .with_target("russh", ssh)
}

/// The error and its causes, as the last line of the program.
#[must_use]
pub fn describe(error: &anyhow::Error) -> String {
    format!("infisical: {}", chain(error.as_ref()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixDatagram;
    use std::path::{Path, PathBuf};

    use tracing::Level;

    use super::{Handle, Logging, Socket, Stream, targets};
    use crate::config::log::LogFormat;
    use crate::config::settings::{LogLevel, LogSettings};
    use crate::{event, events};

    fn logging(format: LogFormat) -> Logging {
        let stderr = Stream {
            is_terminal: true,
            ..Stream::default()
        };
        let settings = LogSettings {
            format: Some(format),
            ..LogSettings::default()
        };
        Logging {
            settings,
            default: LogLevel::Info,
            colour: true,
            stderr,
            stdout: Stream::default(),
        }
    }

    fn to_journal() -> Logging {
        let stderr = Stream {
            is_journal: true,
            ..Stream::default()
        };
        Logging {
            stderr,
            ..logging(LogFormat::Console)
        }
    }

    /// What is written to the file when `work` logs in `format`, to a file from the beginning.
    fn written(format: LogFormat, work: impl FnOnce(&Handle, &Path)) -> String {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log");
        let (subscriber, handle) = logging(format).build(None);
        tracing::subscriber::with_default(subscriber, || {
            let settings = LogSettings {
                format: Some(format),
                ..to(&path, None)
            };
            handle.apply(&settings).expect("opened");
            work(&handle, &path);
            drop(handle.written_at_the_end());
        });
        fs::read_to_string(&path).expect("read")
    }

    fn to(path: &Path, level: Option<LogLevel>) -> LogSettings {
        LogSettings {
            level,
            file: Some(PathBuf::from(path)),
            ..LogSettings::default()
        }
    }

    fn event() {
        event!(events::RELOADED, relay.host = "h", attempt = 3);
    }

    #[test]
    fn file_text_has_no_ids_or_colours() {
        let text = written(LogFormat::Console, |_, _| event());
        assert!(
            text.contains("INFO configuration reloaded relay.host=\"h\" attempt=3\n"),
            "{text}"
        );
        assert!(
            !text.contains("message_id") && !text.contains('\u{1b}'),
            "{text}"
        );
    }

    #[test]
    fn the_format_changes_while_it_runs() {
        let text = written(LogFormat::Console, |handle, path| {
            event();
            for format in [LogFormat::Json, LogFormat::Plain] {
                let settings = LogSettings {
                    format: Some(format),
                    ..to(path, None)
                };
                handle.apply(&settings).expect("applied");
                event();
            }
        });
        let is_json: Vec<_> = text.lines().map(|line| line.starts_with('{')).collect();
        assert_eq!(is_json, [false, true, false], "{text}");
    }

    #[test]
    fn json_has_every_field() {
        let text = written(LogFormat::Json, |_, _| event());
        let line: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(line["message"], events::RELOADED.text);
        assert_eq!(line["message_id"], events::RELOADED.id);
        assert_eq!(line["attempt"], 3);
    }

    #[test]
    fn level_and_file_change_at_runtime() {
        let text = written(LogFormat::Console, |handle, path| {
            tracing::debug!("not heard");
            handle
                .apply(&to(path, Some(LogLevel::Debug)))
                .expect("applied");
            tracing::debug!("heard");
            let absent = path.with_file_name("absent/log");
            handle
                .apply(&to(&absent, Some(LogLevel::Error)))
                .expect_err("no directory");
            tracing::debug!("still heard");
            let other = path.with_file_name("other");
            handle.apply(&to(&other, None)).expect("applied");
            tracing::info!("elsewhere");
            tracing::debug!("not heard again");
            drop(handle.written_at_the_end());
            let text = fs::read_to_string(&other).expect("read");
            assert!(
                text.contains("elsewhere") && text.lines().count() == 1,
                "{text}"
            );
        });
        let heard: Vec<_> = text
            .lines()
            .filter(|line| line.ends_with("heard"))
            .collect();
        assert_eq!(heard.len(), 2, "{text}");
        assert!(
            text.contains(" infisical::cli::logging::tests: heard"),
            "{text}"
        );
    }

    #[test]
    fn failed_reopening_warns_in_old_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let (here, gone) = (directory.path().join("here"), directory.path().join("gone"));
        fs::create_dir(&here).expect("made");
        let (subscriber, handle) = logging(LogFormat::Console).build(None);
        tracing::subscriber::with_default(subscriber, || {
            handle.apply(&to(&here.join("log"), None)).expect("opened");
            drop(handle.written_at_the_end());
            fs::rename(&here, &gone).expect("moved");
            handle.reopen();
            handle.follow(&to(&here.join("log"), Some(LogLevel::Debug)));
            tracing::debug!("the level has changed");
            // The warnings are made while these are written.
            drop(handle.written_at_the_end());
            drop(handle.written_at_the_end());
        });
        let text = fs::read_to_string(gone.join("log")).expect("read");
        let warnings = text.matches(events::LOG_FILE_KEPT.text).count();
        assert_eq!(warnings, 2, "{text}");
        assert!(text.contains("the level has changed"), "{text}");
        assert!(text.contains("cannot log to "), "{text}");
    }

    #[test]
    fn last_lines_are_written_after_a_panic() {
        let text = written(LogFormat::Console, |handle, path| {
            let panic = std::panic::catch_unwind(|| {
                let _written = handle.written_at_the_end();
                tracing::info!("last lines");
                panic!("a defect");
            });
            panic.expect_err("a defect");
            let text = fs::read_to_string(path).expect("read");
            assert!(text.ends_with("last lines\n"), "{text}");
        });
        assert!(!text.is_empty());
    }

    /// Receives one entry, as text.
    fn receive(journald: &UnixDatagram) -> String {
        let mut buffer = vec![0; 1 << 16];
        let length = journald.recv(&mut buffer).expect("an entry");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn unread_journal_stops_no_one() {
        const LINES: usize = 10_000;
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        let journald = UnixDatagram::bind(&path).expect("a socket");
        let (subscriber, handle) = to_journal().build(Socket::at(&path).ok());
        tracing::subscriber::with_default(subscriber, || {
            handle.open().expect("a thread");
            // The kernel keeps a few, the queue some more, and no one reads.
            for number in 0..LINES {
                tracing::info!(number, "a line");
            }
        });
        let mut lines = 0;
        let lost = loop {
            let entry = receive(&journald);
            if entry.contains(events::LOG_LINES_LOST.id) {
                assert!(entry.starts_with("PRIORITY=4\n"), "{entry}");
                let lost = entry.lines().find_map(|line| line.strip_prefix("LOST="));
                break lost.and_then(|lost| lost.parse::<usize>().ok());
            }
            assert!(entry.contains(&format!("\nNUMBER={lines}\n")), "{entry}");
            lines += 1;
        };
        assert_eq!(lost, Some(LINES - lines));
    }

    #[test]
    fn refused_journal_entry_goes_to_the_stream() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        let first = UnixDatagram::bind(&path).expect("a socket");
        let (subscriber, handle) = to_journal().build(Socket::at(&path).ok());
        drop(first);
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("not heard");
            tracing::info!("to standard error");
            drop(handle.written_at_the_end());
            fs::remove_file(&path).expect("removed");
            let second = UnixDatagram::bind(&path).expect("a socket");
            tracing::info!("heard");
            assert!(receive(&second).ends_with("MESSAGE=heard\n"));
        });
    }

    #[test]
    fn libraries_are_heard_when_they_warn() {
        let (error, warn, info, debug, trace) = (
            Level::ERROR,
            Level::WARN,
            Level::INFO,
            Level::DEBUG,
            Level::TRACE,
        );
        for (level, target, loudest) in [
            (LogLevel::Info, "infisical_gateway::connection", info),
            (LogLevel::Info, "infisical::cli", info),
            (LogLevel::Info, "hyper::client", warn),
            (LogLevel::Info, "russh::server", error),
            (LogLevel::Debug, "infisical", debug),
            (LogLevel::Debug, "russh", error),
            (LogLevel::Trace, "infisical", trace),
            (LogLevel::Trace, "russh::client", debug),
            (LogLevel::Trace, "rustls", warn),
            (LogLevel::Error, "infisical", error),
            (LogLevel::Error, "hyper", error),
        ] {
            let targets = targets(level);
            for candidate in [error, warn, info, debug, trace] {
                assert_eq!(
                    targets.would_enable(target, &candidate),
                    candidate <= loudest,
                    "{level:?} {target} {candidate}"
                );
            }
        }
    }
}

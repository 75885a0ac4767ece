//! The thread that writes. It is the only one that waits for the reader of lines: a journal without
//! room on its disk, a terminal that was stopped, a file on a server that is away.
//!
//! Where lines cannot go as wanted they go to standard error, and where that fails there is nowhere
//! left to say so.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracing::{Dispatch, Level, dispatcher};

use super::audit::AuditFile;
use super::file::{self, Error};
use super::sink::{Look, Sink};
use crate::cli::progress;
use crate::config::log::LogDestination;
use crate::error::chain;
use crate::host::journal::{self, Entry, Socket};
use crate::{event, events};

/// Between two attempts to write to a standard error that does not wait by itself, as a parent may
/// have made it.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What there is to do, in order.
#[derive(Debug)]
pub(super) enum Job {
    /// A line of text.
    Line(Level, Place, Box<[u8]>),
    /// An entry for the journal's socket.
    Entry(Entry),
    /// Lines for the file go to this one from now on, or there is none.
    Use(Option<(PathBuf, File)>),
    /// The same, but the file is still to be opened, while the program runs: the order of this
    /// number.
    Open(PathBuf, u64),
    /// The files were moved away: make them again.
    Reopen,
    /// A line for the audit file.
    Audit(Box<[u8]>),
    /// Lines for the audit file go to this one from now on, or there is none.
    UseAudit(Option<AuditFile>),
    /// The same, but the file is still to be opened, while the program runs.
    OpenAudit(PathBuf),
    /// Lines that go to no file go to the stream of this look from now on.
    Stream(Look),
}

/// For where a line was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Standard,
    File,
}

/// Where lines end.
#[derive(Debug)]
pub(super) struct Outlets {
    /// The stream is the journal, so that text needs its priority.
    journal: bool,
    socket: Option<Socket>,
    /// A descriptor of our own: no one who writes to standard error otherwise waits for us.
    standard: Option<File>,
    file: Option<(PathBuf, File)>,
    audit: Option<AuditFile>,
}

impl Outlets {
    pub(super) fn new(look: Look, socket: Option<Socket>) -> Self {
        let mut outlets = Self {
            journal: false,
            socket,
            standard: None,
            file: None,
            audit: None,
        };
        outlets.use_stream(look);
        outlets
    }

    fn use_stream(&mut self, look: Look) {
        let standard = match look.destination {
            LogDestination::Stderr => io::stderr().as_fd().try_clone_to_owned(),
            LogDestination::Stdout => io::stdout().as_fd().try_clone_to_owned(),
        };
        self.journal = look.is_journal;
        self.standard = standard.ok().map(File::from);
    }

    fn line(&mut self, level: Level, place: Place, line: &[u8]) {
        // A file that was opened without waiting is written without waiting: a pipe that is full
        // does not take the line.
        if let (Place::File, Some((_, file))) = (place, &mut self.file)
            && file.write_all(line).is_ok()
        {
            return;
        }
        if self.journal {
            self.standard(&journal::with_priority(level, line));
        } else {
            progress::suspended(|| self.standard(line));
        }
    }

    fn entry(&mut self, entry: &Entry) {
        let sent = self.socket.as_ref().map(|socket| socket.send(entry));
        if !matches!(sent, Some(Ok(()))) {
            // journald may be restarting. It still has the other end of this stream; the socket is
            // tried again with the next entry.
            let line = format!("{}\n", entry.message());
            self.standard(&journal::with_priority(entry.level(), line.as_bytes()));
        }
    }

    fn standard(&mut self, mut bytes: &[u8]) {
        let Some(standard) = &mut self.standard else {
            return;
        };
        while !bytes.is_empty() {
            match standard.write(bytes) {
                Ok(count) if count > 0 => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::park_timeout(LOOK_AGAIN);
                }
                Ok(_) | Err(_) => return,
            }
        }
    }
}

/// Starts the thread.
///
/// # Errors
/// The system has none to give.
pub(super) fn start(sink: Arc<Sink>) -> io::Result<()> {
    // Of what is said here, the same subscriber hears.
    let dispatch = dispatcher::get_default(Clone::clone);
    let thread = std::thread::Builder::new().name("log".to_owned());
    // It ends with the process, which may have to end while it waits.
    thread
        .spawn(move || {
            loop {
                let (job, lost) = sink.queue.next();
                // A defect may cost a line, not the log.
                let _ = catch_unwind(AssertUnwindSafe(|| work(&sink, &dispatch, job, lost)));
            }
        })
        .map(drop)
}

/// Writes what is there, in the caller's thread: for a program that ends before it had any other.
pub(super) fn drain(sink: &Arc<Sink>) {
    let dispatch = dispatcher::get_default(Clone::clone);
    while let Some((job, lost)) = sink.queue.try_next() {
        work(sink, &dispatch, job, lost);
    }
}

fn work(sink: &Sink, dispatch: &Dispatch, job: Job, lost: Option<u64>) {
    if let Some(lost) = lost {
        dispatcher::with_default(dispatch, || tell_of_loss(lost));
    }
    let mut outlets = sink.outlets();
    match job {
        Job::Line(level, place, line) => outlets.line(level, place, &line),
        Job::Entry(entry) => outlets.entry(&entry),
        Job::Use(file) => outlets.file = file,
        Job::Stream(look) => outlets.use_stream(look),
        Job::Audit(line) => {
            if let Some(audit) = &mut outlets.audit {
                dispatcher::with_default(dispatch, || audit.write(&line));
            }
        }
        Job::UseAudit(audit) => outlets.audit = audit,
        Job::OpenAudit(path) => match AuditFile::open(&path) {
            Ok(audit) => outlets.audit = Some(audit),
            Err(error) => dispatcher::with_default(dispatch, || warn_of_the_old_file(&error)),
        },
        Job::Open(path, order) => match file::open(&path, file::LOG) {
            Ok(file) => {
                // Someone may have wanted something else since.
                if sink.is_latest(order) {
                    dispatcher::with_default(dispatch, || sink.begin_file(&path));
                }
                outlets.file = Some((path, file));
            }
            Err(error) => dispatcher::with_default(dispatch, || warn_of_the_old_file(&error)),
        },
        Job::Reopen => {
            let Outlets { file, audit, .. } = &mut *outlets;
            let log = file.as_mut().map_or(Ok(()), |(path, file)| {
                *file = file::open(path, file::LOG)?;
                Ok(())
            });
            let audit = audit.as_mut().map_or(Ok(()), AuditFile::reopen);
            for error in [log, audit].into_iter().filter_map(Result::err) {
                dispatcher::with_default(dispatch, || warn_of_the_old_file(&error));
            }
        }
    }
}

fn tell_of_loss(lost: u64) {
    event!(events::LOG_LINES_LOST, lost);
}

fn warn_of_the_old_file(error: &Error) {
    event!(events::LOG_FILE_KEPT, error = %chain(error));
}

//! A service is handed over to a successor: the same program with the same arguments, as its file
//! is now, after an upgrade.
//!
//! The two share a pair of sockets, which is the successor's standard input, and nothing else; all
//! other descriptors but standard output and error are closed when the successor is executed. Both
//! write lines of text, so that two versions of the program understand each other: a line that is
//! not known is ignored. The end of the stream is the end of the other process. A process that can
//! write there is this program, or the user who started it.
//!
//! The successor is started in two steps: a process that starts it and ends. So it is the service
//! manager's own child, not that of the process before, and the manager notices its end at once.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream as BlockingStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Take};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::error::printable;

/// The variable that tells a process what it is in a hand-over.
pub const VARIABLE: &str = "INFISICAL_SUCCESSOR";
/// Its value for the process that starts the successor and ends.
pub const LAUNCHER: &str = "launcher";
/// Its value for the successor.
const SUCCESSOR: &str = "successor";

/// Bytes that are read of the other process, at most: it says a few lines.
const MAX_BYTES: u64 = 64 << 10;
/// How long the successor may take to be executed.
const EXECUTION: Duration = Duration::from_secs(10);
/// How long the other process may take to read a line; there is room for all of them.
const WRITE: Duration = Duration::from_secs(5);
/// What a file's name ends with in /proc once another one is in its place.
const DELETED: &str = " (deleted)";

/// Why there is no successor, or why it is not heard of.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program cannot be executed, where it lies.
    #[error("cannot execute {}", .path.display())]
    Execute {
        /// Where it lies.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The program was executed and failed at once.
    #[error("{} does not start ({status})", .path.display())]
    Start {
        /// Where it lies.
        path: PathBuf,
        /// How it ended.
        status: ExitStatus,
    },
    /// The program was executed and does nothing.
    #[error("the program did not start within {} s", EXECUTION.as_secs())]
    Stuck,
    /// There are no descriptors, for instance.
    #[error("cannot talk to the other process")]
    Stream(#[source] io::Error),
    /// The stream has ended.
    #[error("the other process ended; its last lines say why")]
    Ended,
}

/// What a successor reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// It runs.
    Started {
        /// Its process.
        pid: u32,
        /// Its version.
        version: String,
        /// Identifies the text of the units that its version comes with.
        units: String,
    },
    /// The relay admits no second connection of one gateway.
    TurnedAway,
    /// It serves.
    Serving,
    /// It ends, and why.
    Failed(String),
}

/// What the process before answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Its own connection is closed.
    Released,
    /// The service is the successor's.
    TakeOver,
}

impl Report {
    fn line(&self) -> String {
        match self {
            Self::Started {
                pid,
                version,
                units,
            } => format!("started {pid} {units} {version}"),
            Self::TurnedAway => "turned-away".to_owned(),
            Self::Serving => "serving".to_owned(),
            Self::Failed(why) => format!("failed {}", printable(why)),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "started" => {
                let mut parts = rest.splitn(3, ' ');
                Some(Self::Started {
                    pid: parts.next()?.parse().ok()?,
                    units: parts.next()?.to_owned(),
                    version: printable(parts.next()?),
                })
            }
            "turned-away" => Some(Self::TurnedAway),
            "serving" => Some(Self::Serving),
            "failed" => Some(Self::Failed(printable(rest))),
            _ => None,
        }
    }
}

impl Answer {
    fn line(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::TakeOver => "take-over",
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let mut all = [Self::Released, Self::TakeOver].into_iter();
        all.find(|answer| answer.line() == line)
    }
}

/// One end of the pair.
#[derive(Debug)]
struct Peer {
    // Not in halves, of which one that is dropped ends the stream for the whole process.
    lines: BufReader<Take<UnixStream>>,
    line: Vec<u8>,
}

impl Peer {
    fn new(stream: BlockingStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let stream = UnixStream::from_std(stream)?;
        Ok(Self {
            lines: BufReader::new(stream.take(MAX_BYTES)),
            line: Vec::new(),
        })
    }

    /// The next line that `parse` knows. Cancel-safe.
    async fn read<T>(&mut self, parse: impl Fn(&str) -> Option<T>) -> Result<T, Error> {
        loop {
            let reading = self.lines.read_until(b'\n', &mut self.line);
            let count = reading.await.map_err(Error::Stream)?;
            if count == 0 {
                return Err(Error::Ended);
            }
            let line = std::mem::take(&mut self.line);
            if let Some(known) = parse(String::from_utf8_lossy(&line).trim_end()) {
                return Ok(known);
            }
        }
    }

    async fn write(&mut self, line: &str) -> Result<(), Error> {
        let line = format!("{line}\n");
        let stream = self.lines.get_mut().get_mut();
        let written = timeout(WRITE, stream.write_all(line.as_bytes())).await;
        match written {
            Ok(written) => written.map_err(Error::Stream),
            Err(_) => Err(Error::Stream(io::ErrorKind::TimedOut.into())),
        }
    }
}

/// Where this program lies, also after another one was put in its place.
///
/// # Errors
/// There is no /proc.
pub fn program() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    let text = path.to_str().and_then(|path| path.strip_suffix(DELETED));
    Ok(text.map_or_else(|| path.clone(), PathBuf::from))
}

/// The process that is to take the service over, as the one before sees it. It ends when this is
/// dropped, unless it was told [`Answer::TakeOver`].
#[derive(Debug)]
pub struct Successor(Peer);

impl Successor {
    /// Starts the program at `path` with the arguments and the environment of this process.
    ///
    /// # Errors
    /// It cannot be executed.
    pub async fn start(path: PathBuf) -> Result<Self, Error> {
        let (ours, theirs) = BlockingStream::pair().map_err(Error::Stream)?;
        let starting = tokio::task::spawn_blocking(move || start(&path, theirs.into()));
        match timeout(EXECUTION, starting).await {
            Ok(Ok(started)) => started?,
            Ok(Err(error)) => return Err(Error::Stream(error.into())),
            Err(_) => return Err(Error::Stuck),
        }
        Peer::new(ours).map(Self).map_err(Error::Stream)
    }

    /// What it reports next. Cancel-safe.
    ///
    /// # Errors
    /// It has ended.
    pub async fn report(&mut self) -> Result<Report, Error> {
        self.0.read(Report::parse).await
    }

    /// Tells it `answer`.
    ///
    /// # Errors
    /// It has ended.
    pub async fn tell(&mut self, answer: Answer) -> Result<(), Error> {
        self.0.write(answer.line()).await
    }
}

/// Starts the process that starts the successor, and waits for its end. Blocks.
fn start(path: &Path, stdin: OwnedFd) -> Result<(), Error> {
    let mut command = again(path, LAUNCHER);
    // It names the process that the manager's watchdog waits for: the one before.
    command.env_remove("WATCHDOG_PID").stdin(Stdio::from(stdin));
    let status = command.status().map_err(|source| Error::Execute {
        path: path.to_owned(),
        source,
    })?;
    if status.success() {
        return Ok(());
    }
    let path = path.to_owned();
    Err(Error::Start { path, status })
}

/// Starts the successor in the process that is there for that. Its standard input is the socket.
///
/// # Errors
/// The program cannot be executed.
pub fn launch() -> Result<(), Error> {
    let path = program().map_err(Error::Stream)?;
    match again(&path, SUCCESSOR).spawn() {
        // Not waited for: it outlives this process.
        Ok(_) => Ok(()),
        Err(source) => Err(Error::Execute { path, source }),
    }
}

/// This process's own command, executed from `path`.
fn again(path: &Path, role: &str) -> Command {
    let mut arguments = std::env::args_os();
    let mut command = Command::new(path);
    command.arg0(arguments.next().unwrap_or_else(|| OsString::from(path)));
    command.args(arguments).env(VARIABLE, role);
    command
}

/// The process that has the service still, as its successor sees it.
#[derive(Debug)]
pub struct Predecessor(Peer);

impl Predecessor {
    /// The one whose socket is standard input. Must be called inside the runtime.
    ///
    /// # Errors
    /// Standard input is something else.
    pub fn connect() -> Result<Self, Error> {
        let stdin = io::stdin().as_fd().try_clone_to_owned();
        let stream = BlockingStream::from(stdin.map_err(Error::Stream)?);
        Peer::new(stream).map(Self).map_err(Error::Stream)
    }

    /// Reports to it.
    ///
    /// # Errors
    /// It has ended.
    pub async fn report(&mut self, report: &Report) -> Result<(), Error> {
        self.0.write(&report.line()).await
    }

    /// What it answers next. Cancel-safe.
    ///
    /// # Errors
    /// It has ended, or gave this process up.
    pub async fn answer(&mut self) -> Result<Answer, Error> {
        self.0.read(Answer::parse).await
    }
}

/// Reports to the process before, if there is one, that this one fails because of `why`. For the
/// end of a successor; blocks no longer than the socket's buffer makes it.
pub fn fail(why: &str) {
    if let Ok(stdin) = io::stdin().as_fd().try_clone_to_owned() {
        let line = Report::Failed(why.to_owned()).line();
        // If it is gone, no one needs the reason.
        let _ = BlockingStream::from(stdin).write_all(format!("{line}\n").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    use super::{Answer, Error, Peer, Report};

    #[test]
    fn reports_and_answers_are_read_as_written() {
        let started = Report::Started {
            pid: 7,
            version: "1.2.3 (abc 2026-01-01)".to_owned(),
            units: "f00d".to_owned(),
        };
        let failed = Report::Failed("no\nroute".to_owned());
        for report in [started, Report::TurnedAway, Report::Serving] {
            assert_eq!(Report::parse(&report.line()), Some(report));
        }
        assert_eq!(failed.line().lines().count(), 1);
        for answer in [Answer::Released, Answer::TakeOver] {
            assert_eq!(Answer::parse(answer.line()), Some(answer));
        }
        for line in ["", "started", "started x y z", "serving now?", "later"] {
            assert!(
                Report::parse(line).is_none_or(|report| report == Report::Serving),
                "{line}"
            );
        }
    }

    #[tokio::test]
    async fn unknown_lines_are_ignored() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        let mut peer = Peer::new(ours).expect("a peer");
        theirs
            .write_all(b"of a later version\n\xff\nserving\n")
            .expect("written");
        drop(theirs);
        assert_eq!(
            peer.read(Report::parse).await.expect("a report"),
            Report::Serving
        );
        let end = peer.read(Report::parse).await;
        assert!(matches!(end, Err(Error::Ended)));
    }
}

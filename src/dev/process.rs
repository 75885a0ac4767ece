//! One child process: a role of this program, started from its own file.
//!
//! Invariants: a child never outlives this process, however that ends (its standard input is a pipe
//! held here, and it stops at the end of it); it is in a process group of its own, so that Ctrl-C
//! reaches it only through us, in our order; no secret is in its arguments or environment, and
//! nothing of our environment that configures the program reaches it.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, ChildStdin, Command};

/// Asked to stop, a child has this long; a gateway drains its sessions meanwhile.
const STOP_DEADLINE: Duration = Duration::from_secs(15);
/// Lines of a log that are shown of a child that died.
const TAIL_LINES: usize = 12;
/// Bytes read from the end of a log for that.
const TAIL_BYTES: u64 = 16 * 1024;
/// Variables that would send our loopback requests elsewhere, or our readiness to our own
/// supervisor.
const NOT_PASSED: [&str; 8] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
];

/// Something about a child went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot start the {name}")]
    Start {
        name: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the {name} ended by itself ({status}); the end of {}:\n{tail}", .log.display())]
    Died {
        name: &'static str,
        status: ExitStatus,
        log: PathBuf,
        tail: String,
    },
    #[error(
        "the {name} took longer than {} s to {what}; the end of {}:\n{tail}",
        .after.as_secs(),
        .log.display()
    )]
    TooSlow {
        name: &'static str,
        what: &'static str,
        after: Duration,
        log: PathBuf,
        tail: String,
    },
    #[error("cannot watch the {name}")]
    Watch {
        name: &'static str,
        #[source]
        source: io::Error,
    },
}

/// A running child.
#[derive(Debug)]
pub(super) struct Process {
    name: &'static str,
    child: Child,
    /// The child stops when this is closed. Not left in `child`, which closes it to wait.
    _lifeline: Option<ChildStdin>,
    pid: u32,
    log: PathBuf,
}

impl Process {
    /// Starts this program's `arguments`; what it writes goes to `log`.
    pub(super) fn start<A: AsRef<OsStr>>(
        name: &'static str,
        arguments: &[A],
        log: (PathBuf, File),
    ) -> Result<Self, Error> {
        let failed = |source| Error::Start { name, source };
        let (path, file) = log;
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command
            .arg("--exit-on-stdin-close")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(file.try_clone().map_err(failed)?)
            .stderr(file)
            .process_group(0)
            .kill_on_drop(true);
        for (variable, _) in std::env::vars_os() {
            if variable
                .to_str()
                .is_some_and(|name| name.starts_with("INFISICAL_") || NOT_PASSED.contains(&name))
            {
                command.env_remove(variable);
            }
        }
        let mut child = command.spawn().map_err(failed)?;
        let pid = child.id().unwrap_or_default();
        tracing::debug!(child = name, pid, "started");
        Ok(Self {
            name,
            _lifeline: child.stdin.take(),
            child,
            pid,
            log: path,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    /// The error of a child that did not get ready. `what` completes "took longer than … to".
    pub(super) fn too_slow(&self, what: &'static str, after: Duration) -> Error {
        Error::TooSlow {
            name: self.name,
            what,
            after,
            tail: tail(&self.log),
            log: self.log.clone(),
        }
    }

    /// The error of a child that has ended by itself, if it has.
    pub(super) fn gone(&mut self) -> Option<Error> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(self.dead(status)),
            Err(source) => Some(Error::Watch {
                name: self.name,
                source,
            }),
        }
    }

    fn dead(&self, status: ExitStatus) -> Error {
        Error::Died {
            name: self.name,
            status,
            tail: tail(&self.log),
            log: self.log.clone(),
        }
    }

    /// Waits until the child has ended by itself, which it should not. Cancel-safe.
    pub(super) async fn died(&mut self) -> Error {
        match self.child.wait().await {
            Ok(status) => self.dead(status),
            Err(source) => Error::Watch {
                name: self.name,
                source,
            },
        }
    }

    /// Asks the child to stop, waits, and kills it if need be.
    pub(super) async fn stop(mut self) {
        // `id` is absent once the child was reaped: its number may belong to another process by
        // now.
        let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) else {
            return;
        };
        if let Err(error) = kill(Pid::from_raw(pid), Signal::SIGTERM) {
            tracing::debug!(child = self.name, %error, "cannot ask it to stop");
        }
        match tokio::time::timeout(STOP_DEADLINE, self.child.wait()).await {
            Ok(_) => tracing::debug!(child = self.name, "stopped"),
            Err(_) => {
                tracing::warn!(child = self.name, pid, "does not stop; killing it");
                let _ = self.child.kill().await;
            }
        }
    }
}

/// The last lines of a log, indented; never an error, since this only explains one.
fn tail(log: &Path) -> String {
    use io::{Read as _, Seek as _};
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(io::SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let shown = lines
        .iter()
        .skip(lines.len().saturating_sub(TAIL_LINES))
        .map(|line| format!("    {line}"))
        .collect::<Vec<_>>()
        .join("\n");
    if shown.is_empty() {
        "    (nothing)".to_owned()
    } else {
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::tail;

    #[test]
    fn tail_is_the_logs_last_lines() {
        let directory = tempfile::tempdir().expect("a directory");
        let log = directory.path().join("log");
        assert_eq!(tail(&log), "    (nothing)");
        let text: String = (0..2000).map(|n| format!("line {n}\n")).collect();
        std::fs::write(&log, text).expect("written");
        let shown = tail(&log);
        assert!(shown.starts_with("    line 1988\n"), "{shown}");
        assert!(shown.ends_with("    line 1999"), "{shown}");
    }
}

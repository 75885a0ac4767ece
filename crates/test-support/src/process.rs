//! A child process: started without our environment, its output kept in memory as it comes, killed
//! when dropped, and its output printed when the case fails.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::watch;

use super::{PATIENCE, eventually};

/// What is printed of a failed case's child at most.
const SHOWN_LINES: usize = 400;

/// What the reader threads have seen.
#[derive(Default)]
struct Seen {
    /// Both streams, in order of arrival.
    lines: Vec<String>,
    stdout: Vec<String>,
    open_pipes: usize,
}

/// A running (or ended) child.
pub struct Process {
    name: String,
    child: Mutex<Child>,
    /// The other ends are the reader threads.
    seen: Arc<watch::Sender<Seen>>,
    stdin: Option<ChildStdin>,
}

/// The program under test, without any of our environment.
pub fn infisical(home: &Path) -> Command {
    clean(crate::built::program(), home)
}

/// A foreign program, without any of our environment.
pub fn clean(program: impl AsRef<OsStr>, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("HOME", home).current_dir(home);
    command.env("XDG_RUNTIME_DIR", home);
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env("PATH", path);
    command
}

/// The same command as a user that may have so many threads at most, this command's included;
/// `None`, visibly, where that cannot be arranged.
pub fn with_processes(command: &Command, limit: usize) -> Option<Command> {
    let is_there = Command::new("setpriv").arg("--version").output().is_ok();
    if !is_there || !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: without root and setpriv, there are threads enough");
        return None;
    }
    // The limit counts for a real user that is not root, without the capabilities that lift it.
    let user = 20_000 + std::process::id() % 20_000;
    let mut limited = Command::new("setpriv");
    limited.arg(format!("--ruid={user}"));
    limited.args(["--bounding-set=-all", "--inh-caps=-all"]);
    limited.args(["prlimit", &format!("--nproc={limit}:{limit}")]);
    Some(launched(limited, command))
}

/// The same command as an ordinary user; `None`, visibly, where root cannot arrange that.
pub fn as_user(command: &Command) -> Option<Command> {
    if !nix::unistd::geteuid().is_root() {
        return Some(launched(Command::new("env"), command));
    }
    let setpriv = || {
        let mut user = Command::new("setpriv");
        user.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        user
    };
    let mut probe = setpriv();
    probe.args(["test", "-x"]).arg(crate::built::program());
    if !probe.status().is_ok_and(|status| status.success()) {
        eprintln!(
            "SKIPPED: without setpriv, or in root's own directory, there is no ordinary user"
        );
        return None;
    }
    let user = setpriv();
    let mut command = launched(user, command);
    command.current_dir("/");
    Some(command)
}

/// `command`, started by `launcher`, with its own environment and directory.
fn launched(mut launcher: Command, command: &Command) -> Command {
    launcher.arg(command.get_program()).args(command.get_args());
    launcher.env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            launcher.env(name, value);
        }
    }
    if let Some(directory) = command.get_current_dir() {
        launcher.current_dir(directory);
    }
    launcher
}

/// The same command with so many descriptors at most; `None`, visibly, where prlimit(1) is not
/// installed.
pub fn with_descriptors(command: &Command, limit: usize) -> Option<Command> {
    let is_there = Command::new("prlimit").arg("--version").output().is_ok();
    if !is_there {
        eprintln!("SKIPPED: prlimit is not installed, so there are descriptors enough");
        return None;
    }
    let mut limited = Command::new("prlimit");
    limited.arg(format!("--nofile={limit}:{limit}"));
    Some(launched(limited, command))
}

impl Process {
    /// Starts `command`; stdout and stderr are both captured, stdin is a pipe.
    pub fn spawn(name: &str, mut command: Command) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        let stdin = child.stdin.take();
        let (seen, _) = watch::channel(Seen {
            open_pipes: 2,
            ..Seen::default()
        });
        let seen = Arc::new(seen);
        read_lines(child.stdout.take().expect("stdout"), &seen, true);
        read_lines(child.stderr.take().expect("stderr"), &seen, false);
        Self {
            name: name.to_owned(),
            child: Mutex::new(child),
            seen,
            stdin,
        }
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> usize {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(&path).expect("a running process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.expect("VmRSS in KiB").parse().expect("a number")
    }

    /// The process id.
    pub fn pid(&self) -> Pid {
        let id = self.child.lock().expect("not poisoned").id();
        Pid::from_raw(i32::try_from(id).expect("a pid"))
    }

    /// What the case calls it.
    #[allow(dead_code, reason = "only tests/faults asks")]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Everything written so far, both streams, in order of arrival.
    pub fn output(&self) -> String {
        self.seen.borrow().lines.join("\n")
    }

    /// What was written to stdout so far.
    pub fn stdout(&self) -> String {
        self.seen.borrow().stdout.join("\n")
    }

    /// How many lines were written so far; hand it to [`Self::wait_for_line_after`].
    pub fn mark(&self) -> usize {
        self.seen.borrow().lines.len()
    }

    /// True once neither the process nor one that it started can write any more.
    pub fn has_ended_output(&self) -> bool {
        self.seen.borrow().open_pipes == 0
    }

    /// Waits for a line with `part` in it, from the beginning of the output.
    pub async fn wait_for_line(&self, part: &str) -> String {
        self.wait_for_line_after(0, part).await
    }

    /// Waits for a line with `part` in it among those after the first `mark`.
    pub async fn wait_for_line_after(&self, mark: usize, part: &str) -> String {
        self.wait_for(&format!("a line with {part:?}"), |lines| {
            lines
                .iter()
                .skip(mark)
                .find(|line| line.contains(part))
                .cloned()
        })
        .await
    }

    /// Waits until `find` finds what it looks for in the output.
    pub async fn wait_for<T>(&self, what: &str, mut find: impl FnMut(&[String]) -> Option<T>) -> T {
        let mut changes = self.seen.subscribe();
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                let open = {
                    let seen = changes.borrow_and_update();
                    if let Some(found) = find(&seen.lines) {
                        return Ok(found);
                    }
                    seen.open_pipes
                };
                if open == 0 {
                    return Err("its output ended without it");
                }
                changes.changed().await.expect("we hold the sender");
            }
        })
        .await
        .unwrap_or(Err("it did not come in time"));
        match waited {
            Ok(found) => found,
            Err(why) => panic!("waiting for {what} from {}: {why}", self.name),
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap_or_else(|error| panic!("{} {signal}: {error}", self.name));
    }

    /// True while the process has not ended.
    pub fn is_running(&self) -> bool {
        self.try_exit().is_none()
    }

    fn try_exit(&self) -> Option<ExitStatus> {
        let mut child = self.child.lock().expect("not poisoned");
        child.try_wait().expect("a child of ours")
    }

    /// Waits for the end, not for the output: another process may write there still.
    pub async fn ended(&self) -> ExitStatus {
        eventually(&format!("the end of {}", self.name), || async {
            self.try_exit().ok_or("it still runs")
        })
        .await
    }

    /// Waits for the end and for the last line of output.
    pub async fn exit(&self) -> ExitStatus {
        let status = self.ended().await;
        let mut changes = self.seen.subscribe();
        let drained = changes.wait_for(|seen| seen.open_pipes == 0);
        // A grandchild may hold the pipe; what was written is enough.
        let _ = tokio::time::timeout(PATIENCE, drained).await;
        status
    }

    /// Waits for the end and gives the exit code; fails if a signal ended it.
    pub async fn exit_code(&self) -> i32 {
        let status = self.exit().await;
        status
            .code()
            .unwrap_or_else(|| panic!("{} ended by {status}", self.name))
    }

    /// Kills the process at once and waits for its end.
    pub async fn kill(&self) {
        self.signal(Signal::SIGKILL);
        self.exit().await;
    }

    /// The write end of the child's stdin; dropping it is the end of its input.
    pub fn take_stdin(&mut self) -> ChildStdin {
        self.stdin.take().expect("stdin is taken once")
    }

    /// What the system shows of the running child to everyone (arguments) and to its owner
    /// (environment).
    pub fn command_line_and_environment(&self) -> String {
        let read = |file: &str| {
            let path = format!("/proc/{}/{file}", self.pid());
            let bytes = match std::fs::read(&path) {
                // An undumpable process shows its environment to root alone.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => Vec::new(),
                read => read.unwrap_or_else(|error| panic!("{path}: {error}")),
            };
            String::from_utf8_lossy(&bytes).replace('\0', "\n")
        };
        read("cmdline") + &read("environ")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut().expect("not poisoned");
        let _ = child.kill();
        let _ = child.wait();
        if std::thread::panicking() {
            let seen = self.seen.borrow();
            let skipped = seen.lines.len().saturating_sub(SHOWN_LINES);
            eprintln!("---- {} ({skipped} lines skipped)", self.name);
            for line in seen.lines.iter().skip(skipped) {
                eprintln!("{line}");
            }
            eprintln!("---- end of {}", self.name);
        }
    }
}

fn read_lines(pipe: impl Read + Send + 'static, seen: &Arc<watch::Sender<Seen>>, is_stdout: bool) {
    let seen = Arc::clone(seen);
    std::thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line), Ok(n) if n > 0) {
            let text = String::from_utf8_lossy(&line)
                .trim_end_matches(['\n', '\r'])
                .to_owned();
            seen.send_modify(|seen| {
                if is_stdout {
                    seen.stdout.push(text.clone());
                }
                seen.lines.push(text);
            });
            line.clear();
        }
        seen.send_modify(|seen| seen.open_pipes -= 1);
    });
}

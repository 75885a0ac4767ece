//! The service manager of this machine, as its administrator speaks to it: `systemctl` and
//! `journalctl`, found by absolute paths, started without a shell, and waited for within bounds.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, SystemTime};

use time::PrimitiveDateTime;
use time::macros::format_description;
use tokio::process::Command;

use super::unit::Version;
use crate::error::printable;

/// There, if systemd runs this machine (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";
/// Where its programs are.
const FOLDERS: [&str; 2] = ["/usr/bin", "/bin"];
/// Limit for one command. A stop is the longest: the unit's own limit, and some more.
const DEADLINE: Duration = Duration::from_secs(90);

/// The service manager does not do what is asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another one, or none, runs this machine.
    #[error("systemd does not run this machine (there is no {BOOTED})")]
    NotRunning,
    /// A program of it is missing.
    #[error("{0} is neither in /usr/bin nor in /bin")]
    Missing(&'static str),
    /// A program cannot be started.
    #[error("cannot run {command}")]
    Run {
        /// Program and arguments.
        command: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It does not come to an end.
    #[error("{command} has not ended after {} s", DEADLINE.as_secs())]
    Stuck {
        /// Program and arguments.
        command: String,
    },
    /// It says no.
    #[error("{command} failed: {output}")]
    Failed {
        /// Program and arguments.
        command: String,
        /// What it said.
        output: String,
    },
}

/// How a unit is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// `active`, `activating`, `failed`, `inactive` …
    pub active: String,
    /// `running`, `auto-restart`, `dead` …
    pub sub: String,
    /// What the service says of itself.
    pub status: String,
    /// How the last run ended: `success`, `exit-code`, `watchdog` …
    pub result: String,
    /// Exit status of the last run.
    pub exit_status: i32,
    /// Names this run in the journal; empty if there was none.
    pub invocation: String,
    /// Its main process; 0 if it does not run.
    pub main_pid: u32,
    /// When its last main process was started, as far as the manager tells; none if there was none.
    pub started: Option<SystemTime>,
    /// The file behind the unit was changed since it was read.
    pub stale: bool,
}

/// How much of the journal is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalRange {
    /// The last lines, at most.
    pub lines: usize,
    /// Since when, as systemd.time(7) says it: `-1h`.
    pub since: &'static str,
}

impl State {
    /// Reads what `systemctl show` prints.
    fn parse(text: &str) -> Self {
        let mut state = Self::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            let value_text = value.to_owned();
            match key {
                "ActiveState" => state.active = value_text,
                "SubState" => state.sub = value_text,
                "StatusText" => state.status = printable(value),
                "Result" => state.result = value_text,
                "ExecMainStatus" => state.exit_status = value.parse().unwrap_or_default(),
                "InvocationID" => state.invocation = value_text,
                "MainPID" => state.main_pid = value.parse().unwrap_or_default(),
                "ExecMainStartTimestamp" => state.started = timestamp(value),
                "NeedDaemonReload" => state.stale = value == "yes",
                _ => {}
            }
        }
        state
    }

    /// It runs and has said that it is ready.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.active.as_str(), "active" | "reloading" | "refreshing")
    }

    /// It runs, is on its way up or down as it was told before, or has failed.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        let is_under_way = matches!(self.active.as_str(), "activating" | "deactivating");
        self.is_up() || is_under_way || self.has_failed()
    }

    /// It ended: for good, or to be started again after a while.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.active == "failed" || self.sub.starts_with("auto-restart")
    }
}

/// A unit that the manager knows, under a name that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownUnit {
    /// The name that was asked for.
    pub name: String,
    /// Its own name, of which the other may be an alias.
    pub id: String,
}

impl KnownUnit {
    /// Reads what `systemctl show` prints for `names`, a block for each; those that are not found
    /// are left out.
    fn parse(text: &str, names: &[String]) -> Vec<Self> {
        let blocks = text.split("\n\n").zip(names);
        let unit = |(block, name): (&str, &String)| {
            let value = |key: &str| {
                let mut lines = block.lines();
                lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            };
            let is_found = value("LoadState").is_some_and(|state| state != "not-found");
            is_found.then(|| Self {
                name: name.clone(),
                id: value("Id").unwrap_or(name).to_owned(),
            })
        };
        blocks.filter_map(unit).collect()
    }
}

/// Reads a time as `--timestamp=us+utc` prints it.
fn timestamp(text: &str) -> Option<SystemTime> {
    let form = format_description!(
        "[weekday repr:short] [year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:6] UTC"
    );
    let time = PrimitiveDateTime::parse(text, form).ok()?;
    Some(time.assume_utc().into())
}

/// The first manager that prints times with their microseconds.
const TIMES: Version = Version(247);

/// The service manager.
#[derive(Debug, Clone)]
pub struct Systemd {
    systemctl: PathBuf,
    version: Version,
}

impl Systemd {
    /// The one that runs this machine.
    ///
    /// # Errors
    /// Another one does, or it does not answer.
    pub async fn find() -> Result<Self, Error> {
        if !Path::new(BOOTED).is_dir() {
            return Err(Error::NotRunning);
        }
        let systemctl = locate("systemctl").ok_or(Error::Missing("systemctl"))?;
        let output = run(&systemctl, &["--version"]).await?;
        // One that does not tell is taken for a new one: it ignores what it does not know.
        let version = Version::parse(&output).unwrap_or(Version::NEWEST);
        Ok(Self { systemctl, version })
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Reads changed unit files.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn reload_units(&self) -> Result<(), Error> {
        self.call(&["daemon-reload"]).await
    }

    /// Does `verb` (`enable`, `disable`, `stop`, `reset-failed` …) with `unit`, and waits for it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn act(&self, verb: &str, unit: &str) -> Result<(), Error> {
        self.call(&["--quiet", verb, "--", unit]).await
    }

    /// Begins to start or restart `unit`; [`Self::show`] tells what became of it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn begin(&self, verb: &str, unit: &str) -> Result<(), Error> {
        self.call(&["--quiet", "--no-block", verb, "--", unit])
            .await
    }

    /// Sends `signal` to the main process of `unit`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn signal(&self, signal: &str, unit: &str) -> Result<(), Error> {
        // Newer managers call it --kill-whom, and still know this name.
        self.call(&["kill", "--kill-who=main", "--signal", signal, "--", unit])
            .await
    }

    /// How `unit` is.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn show(&self, unit: &str) -> Result<State, Error> {
        let what = "--property=ActiveState,SubState,StatusText,Result,ExecMainStatus,ExecMainStartTimestamp,InvocationID,\
                    MainPID,NeedDaemonReload";
        let mut arguments = vec!["show", what];
        arguments.extend((self.version >= TIMES).then_some("--timestamp=us+utc"));
        arguments.extend(["--", unit]);
        let output = run(&self.systemctl, &arguments).await?;
        Ok(State::parse(&output))
    }

    /// The files of `unit`, in the order in which they count; each begins with its path in a comment.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn cat(&self, unit: &str) -> Result<String, Error> {
        run(&self.systemctl, &["cat", "--", unit]).await
    }

    /// What `unit` has logged lately.
    ///
    /// # Errors
    /// There is no journal, or it cannot be read.
    pub async fn journal(unit: &str, range: JournalRange) -> Result<String, Error> {
        let journalctl = locate("journalctl").ok_or(Error::Missing("journalctl"))?;
        let (lines, since) = (range.lines, range.since);
        let (lines, since) = (format!("--lines={lines}"), format!("--since={since}"));
        let unit = format!("--unit={unit}");
        let form = ["--no-pager", "--output=short-iso"];
        let arguments = [&form[..], &[&lines, &since, &unit]].concat();
        run(&journalctl, &arguments).await
    }

    /// Those of the units called `names` that there are, loaded or not.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn known(&self, names: &[String]) -> Result<Vec<KnownUnit>, Error> {
        let mut arguments = vec!["show", "--property=Id,LoadState", "--"];
        arguments.extend(names.iter().map(String::as_str));
        let output = run(&self.systemctl, &arguments).await?;
        Ok(KnownUnit::parse(&output, names))
    }

    /// The units that match `pattern` and run, have failed, or are about to run.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn running(&self, pattern: &str) -> Result<Vec<String>, Error> {
        let arguments = ["list-units", "--plain", "--no-legend", "--", pattern];
        let output = run(&self.systemctl, &arguments).await?;
        let first = |line: &str| line.split_whitespace().next().map(str::to_owned);
        Ok(output.lines().filter_map(first).collect())
    }

    /// The last lines that one run of `unit` has logged; none if the journal cannot be read.
    pub async fn last_lines(&self, unit: &str, state: &State, count: usize) -> Vec<String> {
        let Some(journalctl) = locate("journalctl") else {
            return Vec::new();
        };
        let mut arguments = vec!["--no-pager".to_owned(), "--output=cat".to_owned()];
        arguments.extend([format!("--lines={count}"), format!("--unit={unit}")]);
        if !state.invocation.is_empty() {
            arguments.push(format!("_SYSTEMD_INVOCATION_ID={}", state.invocation));
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = run(&journalctl, &arguments).await.unwrap_or_default();
        output.lines().map(str::to_owned).collect()
    }

    async fn call(&self, arguments: &[&str]) -> Result<(), Error> {
        run(&self.systemctl, arguments).await.map(drop)
    }
}

fn locate(program: &str) -> Option<PathBuf> {
    let mut paths = FOLDERS.iter().map(|folder| Path::new(folder).join(program));
    paths.find(|path| path.is_file())
}

/// Runs a program in an environment of its own, for its words must not depend on a language.
async fn run(program: &Path, arguments: &[&str]) -> Result<String, Error> {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let command = format!("{name} {}", arguments.join(" "));
    let mut process = Command::new(program);
    process.args(arguments).env_clear().env("LC_ALL", "C.UTF-8");
    process.env("SYSTEMD_COLORS", "0").env("SYSTEMD_PAGER", "");
    process.stdin(Stdio::null()).kill_on_drop(true);
    // Ctrl-C is for us, who let a step come to its end.
    process.process_group(0);
    let ended = match tokio::time::timeout(DEADLINE, process.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(source)) => return Err(Error::Run { command, source }),
        Err(_) => return Err(Error::Stuck { command }),
    };
    told(command, &ended)
}

fn told(command: String, output: &Output) -> Result<String, Error> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = printable(String::from_utf8_lossy(&output.stderr).trim());
    let output = if said.is_empty() {
        output.status.to_string()
    } else {
        said
    };
    Err(Error::Failed { command, output })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use std::time::{Duration, SystemTime};

    use super::{Error, KnownUnit, State, run, timestamp};

    #[test]
    fn unit_state_is_read_by_key() {
        let text = "ActiveState=active\nSubState=running\nStatusText=connected to a=b\nResult=success\n\
                    ExecMainStatus=0\nInvocationID=abc\nMainPID=7\nNeedDaemonReload=yes\nOther=x\n";
        let state = State::parse(text);
        assert!(state.is_up() && !state.has_failed() && state.stale);
        assert_eq!(
            (state.status.as_str(), state.invocation.as_str()),
            ("connected to a=b", "abc")
        );
        let ended =
            State::parse("ActiveState=activating\nSubState=auto-restart\nExecMainStatus=69\n");
        assert!(ended.has_failed() && !ended.is_up());
        assert_eq!(ended.exit_status, 69);
        assert_eq!(State::parse("nonsense"), State::default());
    }

    #[test]
    fn known_units_are_read_block_by_block() {
        let names = ["a.service", "sshd.service", "b.mount"].map(str::to_owned);
        let text = "Id=a.service\nLoadState=not-found\n\n\
                    Id=ssh.service\nLoadState=loaded\n\n\
                    Id=b.mount\nLoadState=loaded\n";
        let unit = |name: &str, id: &str| KnownUnit {
            name: name.to_owned(),
            id: id.to_owned(),
        };
        assert_eq!(
            KnownUnit::parse(text, &names),
            [
                unit("sshd.service", "ssh.service"),
                unit("b.mount", "b.mount")
            ]
        );
        assert_eq!(KnownUnit::parse("", &names), []);
    }

    #[test]
    fn start_time_is_exact_or_unknown() {
        let start = Duration::from_micros(1_764_053_616_095_840);
        let text = "Tue 2025-11-25 06:53:36.095840 UTC";
        assert_eq!(timestamp(text), Some(SystemTime::UNIX_EPOCH + start));
        for text in ["", "n/a", "Tue 2025-11-25 06:53:36 UTC"] {
            assert_eq!(timestamp(text), None, "{text}");
        }
    }

    #[tokio::test]
    async fn failed_command_is_reported_with_output() {
        let output = run(Path::new("/bin/sh"), &["-c", "echo $LC_ALL"]).await;
        assert_eq!(output.expect("output"), "C.UTF-8\n");
        let error = run(
            Path::new("/bin/sh"),
            &["-c", "echo no such unit >&2; exit 5"],
        )
        .await;
        let text = error.expect_err("failed").to_string();
        assert!(text.ends_with("failed: no such unit"), "{text}");
        let absent = run(Path::new("/nonexistent/systemctl"), &[]).await;
        assert!(matches!(absent, Err(Error::Run { .. })));
    }
}

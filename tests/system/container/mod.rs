//! A container in which systemd is the first process: its files put in place, booted, driven,
//! rebooted, ended.
//!
//! Its root is the release's root file system with a layer of its own above it, so that nothing is
//! left of it afterwards. The layer is mounted in a mount namespace that ends with the container.
//! It has no network but its own loopback.

mod cgroup;
mod output;
mod setup;

pub(crate) use output::Output;
pub(crate) use setup::Setup;

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use cgroup::ControlGroup;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::image::{self, Release};
use crate::wait;

/// What one command may take, in seconds, as timeout(1) reads it.
const COMMAND_LIMIT: &str = "180";
/// How systemd-nspawn ends when the system inside asked for a reboot.
const REBOOT: i32 = 133;

/// Enters a control group and mounts the layer where there is one, then becomes the container's
/// supervisor. Some system calls are given back that a container has not and a machine has, so that
/// a service's own limits can be seen. Ours is asked to end the container when the thread that
/// started it ends, however that comes.
const LAUNCH: &str = r#"
[ -z "$CGROUP" ] || echo $$ >"$CGROUP/cgroup.procs"
[ -z "$LAYERS" ] || mount -t overlay overlay -o "$LAYERS" "$1"
exec setpriv --pdeathsig TERM systemd-nspawn --quiet --boot --register=no --keep-unit --private-network \
  --system-call-filter="@keyring @memlock bpf open_by_handle_at perf_event_open" --resolv-conf=off --console=pipe --directory="$@"
"#;

/// A running container; ended and removed when dropped.
pub(crate) struct Container {
    name: String,
    /// systemd-nspawn, while it runs.
    supervisor: Option<Child>,
    /// The container's first process, in our numbering.
    leader: Pid,
    cgroup: Option<ControlGroup>,
    setup: Setup,
}

impl Container {
    fn boot(setup: Setup) -> Self {
        // One at a time for each release, so the name is its own.
        let name = image::name_of_run(setup.release.name);
        let mut container = Self {
            cgroup: ControlGroup::create(&name),
            name,
            supervisor: None,
            leader: Pid::from_raw(0),
            setup,
        };
        container.start();
        container
    }

    /// What is in it.
    pub(crate) fn release(&self) -> Release {
        self.setup.release
    }

    fn start(&mut self) {
        let console = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.setup.part("console"))
            .expect("a file");
        let group = self.cgroup.as_ref();
        let mut launch = Command::new("unshare");
        launch
            .args(["--mount", "--propagation=private", "sh", "-ec", LAUNCH])
            .arg("sh")
            .arg(self.setup.part("root"))
            .arg(format!("--machine={}", self.name))
            .args(&self.setup.binds)
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            .env("LAYERS", self.setup.layers.as_deref().unwrap_or_default())
            .env(
                "CGROUP",
                group.map_or_else(PathBuf::new, |group| group.0.clone()),
            )
            .stdin(Stdio::null())
            .stdout(console.try_clone().expect("a descriptor"))
            .stderr(console);
        let child = launch
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start unshare: {error}"));
        let id = child.id();
        self.supervisor = Some(child);
        wait::until("the container's systemd", || {
            if let Some(status) = self.supervisor_status() {
                panic!("{} ended ({status}):\n{}", self.name, self.console());
            }
            self.leader = leader(id).ok_or_else(|| self.console())?;
            let state = self.run(["systemctl", "is-system-running", "--wait"]);
            match state.stdout.trim() {
                "running" => Ok(()),
                // Something failed, and the case should say what.
                "degraded" => panic!("{}", self.sh("systemctl --failed --no-pager").stdout),
                _ => Err(format!("{state:?}\n{}", self.console())),
            }
        });
    }

    fn supervisor_status(&mut self) -> Option<ExitStatus> {
        let child = self.supervisor.as_mut()?;
        child.try_wait().expect("a child of ours")
    }

    /// What systemd wrote while it booted.
    fn console(&self) -> String {
        let bytes = std::fs::read(self.setup.part("console")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A command inside, as root, without any of our environment; for anyone who wants its pipes.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=5", COMMAND_LIMIT, "nsenter"])
            .args(["--all", "--target", &self.leader.to_string(), "--"])
            .args(words)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin")
            .envs([("HOME", "/root"), ("LANG", "C.UTF-8"), ("TERM", "dumb")])
            .envs([("SYSTEMD_COLORS", "0"), ("SYSTEMD_PAGER", "cat")]);
        command
    }

    /// Runs a command inside, as root, to its end.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Output {
        self.run_with_input(words, "")
    }

    /// The same, with something on its standard input.
    pub(crate) fn run_with_input<S: AsRef<OsStr>>(
        &self,
        words: impl IntoIterator<Item = S>,
        input: &str,
    ) -> Output {
        let mut command = self.command(words);
        let shown = format!("{:?}", command.get_args().skip(6).collect::<Vec<_>>());
        command.stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("timeout");
        let mut stdin = child.stdin.take().expect("a pipe");
        let output = std::thread::scope(|scope| {
            // A command that does not read is none that fails.
            scope.spawn(move || stdin.write_all(input.as_bytes()));
            child.wait_with_output().expect("a child of ours")
        });
        Output {
            command: shown,
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a line of shell inside.
    pub(crate) fn sh(&self, line: &str) -> Output {
        self.run(["sh", "-c", line])
    }

    /// Writes a file inside; its mode is right from the beginning.
    #[track_caller]
    pub(crate) fn write(&self, path: &str, text: &str, mode: u32) {
        let script = "mkdir -p \"${1%/*}\" && umask 077 && cat >\"$1\" && chmod \"$2\" \"$1\"";
        let mode = format!("{mode:o}");
        let words = ["sh", "-c", script, "sh", path, &mode];
        self.run_with_input(words, text).ok();
    }

    /// What a file inside holds.
    #[track_caller]
    pub(crate) fn read(&self, path: &str) -> String {
        self.run(["cat", path]).ok()
    }

    /// One property of a unit, as `systemctl show` has it.
    #[track_caller]
    pub(crate) fn property(&self, unit: &str, name: &str) -> String {
        let shown = self.run(["systemctl", "show", "--value", "-p", name, "--", unit]);
        shown.ok().trim_end().to_owned()
    }

    /// How exposed a unit is, in tenths (`systemd-analyze security`): 0 is best, 100 worst.
    #[track_caller]
    pub(crate) fn exposure(&self, unit: &str) -> u32 {
        let table = self
            .run(["systemd-analyze", "security", "--no-pager", unit])
            .ok();
        // The last line: "→ Overall exposure level for UNIT: 1.4 OK :-)"
        let level = table.lines().last().and_then(|line| line.rsplit_once(": "));
        let level = level.and_then(|(_, level)| level.split(' ').next());
        let tenths = level.map(|level| level.replace('.', ""));
        let tenths = tenths.and_then(|tenths| tenths.parse().ok());
        tenths.unwrap_or_else(|| panic!("no level in:\n{table}"))
    }

    /// Messages of a unit since the boot, one a line.
    #[track_caller]
    pub(crate) fn journal(&self, unit: &str) -> String {
        self.run(["journalctl", "--sync"]).ok();
        self.run(["journalctl", "-b", "-q", "-o", "cat", "-u", unit])
            .ok()
    }

    /// Reboots it as an administrator would, and waits until everything is up again.
    pub(crate) fn reboot(&mut self) {
        let before = self.boot_id();
        // The answer may be cut off by what was asked for.
        let asked = self.run(["systemctl", "reboot"]);
        let status = self.ended(&asked);
        assert_eq!(status.code(), Some(REBOOT), "{asked:?}\n{}", self.console());
        self.start();
        assert_ne!(self.boot_id(), before, "it has not booted again");
    }

    /// Powers it off as an administrator would.
    pub(crate) fn poweroff(&mut self) {
        let asked = self.run(["systemctl", "poweroff"]);
        let status = self.ended(&asked);
        assert!(status.success(), "{asked:?}\n{}", self.console());
    }

    /// Boots it after [`Self::poweroff`].
    pub(crate) fn power_on(&mut self) {
        self.start();
    }

    fn ended(&mut self, asked: &Output) -> ExitStatus {
        let status = wait::until("the end of the container", || {
            self.supervisor_status().ok_or_else(|| format!("{asked:?}"))
        });
        self.supervisor = None;
        status
    }

    fn boot_id(&self) -> String {
        self.read("/proc/sys/kernel/random/boot_id")
    }

    /// What a person would look at after a failure: the state of our units, and what they said.
    pub(crate) fn account(&self) -> String {
        let units = "'infisical*' 'test-*'";
        let look = self.sh(&format!(
            "systemctl status --no-pager --lines=0 --all {units}; systemctl --failed --no-pager; \
             journalctl -b --no-pager --lines=80 -o short-precise -u 'infisical*' -u 'test-*'"
        ));
        look.stdout + &look.stderr
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let Some(mut supervisor) = self.supervisor.take() else {
            return;
        };
        if supervisor.try_wait().is_ok_and(|status| status.is_none()) {
            // The kernel ends a process namespace with its first process; the supervisor alone
            // would leave it behind.
            if self.leader.as_raw() > 0 {
                let _ = kill(self.leader, Signal::SIGKILL);
            }
            let _ = supervisor.kill();
            let _ = supervisor.wait();
        }
    }
}

/// The child of the supervisor, once it is a systemd.
fn leader(supervisor: u32) -> Option<Pid> {
    let path = format!("/proc/{supervisor}/task/{supervisor}/children");
    let children = std::fs::read_to_string(path).ok()?;
    let child: i32 = children.split_whitespace().next()?.parse().ok()?;
    let name = std::fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
    (name.trim() == "systemd").then_some(Pid::from_raw(child))
}

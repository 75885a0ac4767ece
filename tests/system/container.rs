//! A container in which systemd is the first process: its files put in place, booted, driven, rebooted, ended.
//!
//! Its root is the release's root file system with a layer of its own above it, so that nothing is left of it afterwards.
//! The layer is mounted in a mount namespace that ends with the container. It has no network but its own loopback.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::image::{self, Release};
use crate::wait;

/// What one command may take, in seconds, as timeout(1) reads it.
const COMMAND_LIMIT: &str = "180";
/// How systemd-nspawn ends when the system inside asked for a reboot.
const REBOOT: i32 = 133;

/// Enters a control group and mounts the layer where there is one, then becomes the container's supervisor. Some system
/// calls are given back that a container has not and a machine has, so that a service's own limits can be seen. Ours is
/// told to end the container when the thread that started it ends, however that comes.
const LAUNCH: &str = r#"
[ -z "$CGROUP" ] || echo $$ >"$CGROUP/cgroup.procs"
[ -z "$LAYERS" ] || mount -t overlay overlay -o "$LAYERS" "$1"
exec setpriv --pdeathsig TERM systemd-nspawn --quiet --boot --register=no --keep-unit --private-network \
  --system-call-filter="@keyring @memlock bpf open_by_handle_at perf_event_open" --resolv-conf=off --console=pipe --directory="$@"
"#;

/// A container that is not running yet.
pub(crate) struct Setup {
    release: Release,
    /// Holds all of it.
    directory: TempDir,
    /// What the root file system is covered with; without it the container has a copy.
    layers: Option<String>,
    binds: Vec<String>,
}

impl Setup {
    pub(crate) fn new(release: Release) -> Self {
        let image = image::root(release);
        let directory = image::scratch(release);
        for part in ["root", "upper", "work"] {
            std::fs::create_dir(directory.path().join(part)).expect("a directory");
        }
        // A root directory is open to all, a temporary one is not.
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(directory.path().join("upper"), open).expect("a mode");
        let at = directory.path().display();
        let lower = image.display();
        let layers = format!("lowerdir={lower},upperdir={at}/upper,workdir={at}/work");
        let mut setup = Self {
            release,
            directory,
            layers: Some(layers),
            binds: Vec::new(),
        };
        if !setup.can_mount_layers() {
            setup.layers = None;
            let mut copy = Command::new("cp");
            copy.args(["-a", "--reflink=auto"]);
            copy.arg(image.join(".")).arg(setup.part("root"));
            assert!(copy.status().expect("cp").success(), "cannot copy {lower}");
        }
        setup
    }

    fn part(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn can_mount_layers(&self) -> bool {
        let mut mount = Command::new("unshare");
        mount.args(["--mount", "mount", "-t", "overlay", "overlay", "-o"]);
        mount.arg(self.layers.as_deref().unwrap_or_default());
        let mount = mount.arg(self.part("root")).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success())
    }

    /// Where a file of the container is while it does not run.
    fn outside(&self, path: &str) -> PathBuf {
        let layer = self.layers.as_ref().map_or("root", |_| "upper");
        let outside = self.part(layer).join(path.trim_start_matches('/'));
        let folder = outside.parent().expect("a path below the root");
        std::fs::create_dir_all(folder).unwrap_or_else(|error| panic!("{path}: {error}"));
        outside
    }

    /// Writes a file before the first boot.
    pub(crate) fn write(self, path: &str, text: &str, mode: u32) -> Self {
        let outside = self.outside(path);
        std::fs::write(&outside, text).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&outside, mode).expect("a mode");
        self
    }

    /// Copies a file of this machine, with its mode, before the first boot.
    pub(crate) fn copy_in(self, from: &Path, path: &str) -> Self {
        std::fs::copy(from, self.outside(path))
            .unwrap_or_else(|error| panic!("{} to {path}: {error}", from.display()));
        self
    }

    /// Starts a unit at every boot.
    pub(crate) fn enable(self, unit: &str) -> Self {
        let wants = format!("/etc/systemd/system/multi-user.target.wants/{unit}");
        let target = format!("/etc/systemd/system/{unit}");
        std::os::unix::fs::symlink(target, self.outside(&wants)).expect("a link");
        self
    }

    /// Shows a directory of this machine, read-only, at `path`.
    pub(crate) fn bind_ro(mut self, from: &Path, path: &str) -> Self {
        self.binds
            .push(format!("--bind-ro={}:{path}", from.display()));
        self
    }

    /// Starts it, and waits until systemd has started everything.
    pub(crate) fn boot(self) -> Container {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{}-{count}", self.release.name, std::process::id());
        let mut container = Container {
            cgroup: ControlGroup::create(&name),
            name,
            supervisor: None,
            leader: Pid::from_raw(0),
            setup: self,
        };
        container.start();
        container
    }
}

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
            .env("CGROUP", group.map_or(OsStr::new(""), |g| g.0.as_os_str()))
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

    /// A command inside, as root, without any of our environment; for whoever wants its pipes.
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
            // The kernel ends a process namespace with its first process; the supervisor alone would leave it behind.
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

/// How a command inside ended.
#[derive(Debug)]
pub(crate) struct Output {
    command: String,
    /// `None` if a signal ended it.
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// What it wrote to standard output; fails if the command did.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        self.exits(0)
    }

    /// The same, of a command that must end with this exit code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> String {
        assert_eq!(
            self.status,
            Some(code),
            "{}\n{}{}",
            self.command,
            self.stdout,
            self.stderr
        );
        self.stdout
    }
}

/// A control group for one container: without it, two of them would share one, for nobody here registers them.
struct ControlGroup(PathBuf);

impl ControlGroup {
    /// `None` where the unified hierarchy cannot be written; then the supervisor's is used.
    fn create(name: &str) -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
        let path = Path::new(mount.split(' ').nth(4)?).join(format!("infisical-test-{name}"));
        std::fs::create_dir(&path).ok()?;
        Some(Self(path))
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // The kernel empties a group a moment after the last process in it is gone.
        for _ in 0..100 {
            if remove_groups(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// A group can be removed when it has no other below it; what looks like files in it is none.
fn remove_groups(path: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_groups(&entry.path())?;
        }
    }
    std::fs::remove_dir(path)
}

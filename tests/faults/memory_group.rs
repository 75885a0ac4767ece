//! A control group whose processes may have so much memory and no more, by either of the kernel's
//! interfaces.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{launch, wait};

/// How long the kernel may take to end what is killed.
const END: Duration = Duration::from_secs(10);

/// Exists until dropped, and what is in it too.
pub(crate) struct MemoryGroup {
    folder: PathBuf,
    files: &'static Files,
}

/// What one interface calls its files.
struct Files {
    root: &'static str,
    /// A controller that children get only if their parent passes it on.
    passed_on: bool,
    limit: &'static str,
    peak: &'static str,
    /// Has a line `oom_kill NUMBER`.
    kills: &'static str,
}

const INTERFACES: [Files; 2] = [
    Files {
        root: "/sys/fs/cgroup",
        passed_on: true,
        limit: "memory.max",
        peak: "memory.peak",
        kills: "memory.events",
    },
    Files {
        root: "/sys/fs/cgroup/memory",
        passed_on: false,
        limit: "memory.limit_in_bytes",
        peak: "memory.max_usage_in_bytes",
        kills: "memory.oom_control",
    },
];

impl MemoryGroup {
    /// With a limit of so many bytes.
    ///
    /// # Errors
    /// Why there can be none here.
    pub(crate) fn make(limit: u64) -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("infisical-fault-{}-{number}", std::process::id());
        let mut last = "there is no memory controller".to_owned();
        for files in &INTERFACES {
            let root = Path::new(files.root);
            let made = || -> io::Result<Self> {
                if files.passed_on {
                    fs::write(root.join("cgroup.subtree_control"), "+memory")?;
                }
                let folder = root.join(&name);
                fs::create_dir(&folder)?;
                let group = Self { folder, files };
                fs::write(group.folder.join(files.limit), limit.to_string())?;
                group.number(files.peak)?;
                Ok(group)
            };
            match made() {
                Ok(group) => return Ok(group),
                Err(error) => last = format!("no memory limit below {}: {error}", files.root),
            }
        }
        Err(last)
    }

    /// `command`, which goes into the group first and keeps its process id.
    pub(crate) fn within(&self, command: &Command) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo $$ >\"$0\" && exec \"$@\""]);
        shell.arg(self.folder.join("cgroup.procs"));
        launch::by(shell, command)
    }

    /// The most that the group has ever had, in bytes.
    pub(crate) fn peak(&self) -> u64 {
        self.number(self.files.peak).expect("a number")
    }

    /// How many of its processes the kernel has killed for want of memory.
    pub(crate) fn kills(&self) -> u64 {
        let text = fs::read_to_string(self.folder.join(self.files.kills)).expect("the group");
        let kills = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        kills
            .and_then(|kills| kills.trim().parse().ok())
            .expect("a number")
    }

    fn number(&self, file: &str) -> io::Result<u64> {
        let text = fs::read_to_string(self.folder.join(file))?;
        text.trim().parse().map_err(io::Error::other)
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let end = std::time::Instant::now() + END;
        while fs::remove_dir(&self.folder).is_err() && std::time::Instant::now() < end {
            let members = fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
            for member in members.lines().filter_map(|line| line.parse().ok()) {
                let _ = kill(Pid::from_raw(member), Signal::SIGKILL);
            }
            wait::pause(Duration::from_millis(10));
        }
    }
}

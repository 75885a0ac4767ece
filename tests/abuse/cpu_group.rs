//! A control group whose processes may use a part of one core, by either of the kernel's
//! interfaces.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Microseconds in which the quota is given again.
const PERIOD: u32 = 100_000;

/// Exists until dropped; what is in it must have ended before.
pub(crate) struct CpuGroup(PathBuf);

impl CpuGroup {
    /// With so many percent of one core.
    ///
    /// # Errors
    /// Why there can be none here.
    pub(crate) fn make(percent: u32) -> Result<Self, String> {
        let quota = PERIOD / 100 * percent;
        let name = format!("infisical-abuse-{}", std::process::id());
        let unified = || -> io::Result<Self> {
            let root = Path::new("/sys/fs/cgroup");
            fs::write(root.join("cgroup.subtree_control"), "+cpu")?;
            let folder = root.join(&name);
            fs::create_dir(&folder)?;
            let group = Self(folder);
            fs::write(group.0.join("cpu.max"), format!("{quota} {PERIOD}"))?;
            Ok(group)
        };
        let separate = || -> io::Result<Self> {
            let folder = Path::new("/sys/fs/cgroup/cpu").join(&name);
            fs::create_dir(&folder)?;
            let group = Self(folder);
            fs::write(group.0.join("cpu.cfs_period_us"), PERIOD.to_string())?;
            fs::write(group.0.join("cpu.cfs_quota_us"), quota.to_string())?;
            Ok(group)
        };
        unified()
            .or_else(|_| separate())
            .map_err(|error| format!("there is no CPU controller: {error}"))
    }

    /// `command`, which goes into the group first and keeps its process id.
    pub(crate) fn within(&self, command: &Command) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo $$ >\"$0\" && exec \"$@\""]);
        shell.arg(self.0.join("cgroup.procs"));
        shell.arg(command.get_program()).args(command.get_args());
        shell
    }
}

impl Drop for CpuGroup {
    fn drop(&mut self) {
        // The kernel takes a moment to remove what has been killed from it.
        for _ in 0..1000 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::yield_now();
        }
    }
}

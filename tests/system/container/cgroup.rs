//! The control group of one container.

use std::path::{Path, PathBuf};

use crate::image;
use crate::wait;

/// A control group for one container: without it, two of them would share one, for no one here
/// registers them.
pub(super) struct ControlGroup(pub(super) PathBuf);

impl ControlGroup {
    /// `None` where the unified hierarchy cannot be written; then the supervisor's is used.
    pub(super) fn create(name: &str) -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
        let parent = Path::new(mount.split(' ').nth(4)?);
        for entry in std::fs::read_dir(parent).ok()?.map_while(Result::ok) {
            if image::is_abandoned(&entry.path()) {
                // If the container still ends, a later run removes its group.
                let _ = remove_groups(&entry.path());
            }
        }
        let path = parent.join(name);
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
            wait::pause(std::time::Duration::from_millis(20));
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

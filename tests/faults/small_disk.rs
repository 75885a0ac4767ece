//! A disk of the test's own, which can be full or read-only.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What takes up all room.
const FILLER: &str = "filler";
/// Far more than what any case writes.
const SIZE: &str = "size=512k,mode=0700";

/// Mounted until dropped.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// At `path`, which is made; mount it before the processes that are to see it.
    pub(crate) fn mount(path: &Path) -> Self {
        fs::create_dir_all(path).expect("a directory");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", SIZE, "tmpfs"]).arg(path);
        run(command);
        Self(path.to_owned())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Not another byte.
    pub(crate) fn fill(&self) {
        let filler = File::options()
            .create(true)
            .append(true)
            .open(self.0.join(FILLER));
        let mut filler = filler.expect("the filler");
        let error = loop {
            if let Err(error) = filler.write_all(&[0; 1024]) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    }

    /// There is room again.
    pub(crate) fn free(&self) {
        fs::remove_file(self.0.join(FILLER)).expect("the filler");
    }

    /// Nothing can be changed, or all again.
    pub(crate) fn read_only(&self, read_only: bool) {
        let mut command = Command::new("mount");
        let how = if read_only {
            "remount,ro"
        } else {
            "remount,rw"
        };
        command.args(["-o", how]).arg(&self.0);
        run(command);
    }

    /// What is on it, but for what takes up the room.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("the disk");
        let names = entries.map(|entry| {
            let name = entry.expect("an entry").file_name();
            name.to_string_lossy().into_owned()
        });
        let mut names: Vec<String> = names.filter(|name| name != FILLER).collect();
        names.sort();
        names
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A process that still uses it keeps it, out of sight.
        let mut command = Command::new("umount");
        let _ = command
            .arg("--lazy")
            .arg(&self.0)
            .stderr(Stdio::null())
            .status();
    }
}

fn run(mut command: Command) {
    let output = command.output().expect("a program of every system");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {complaints}");
}

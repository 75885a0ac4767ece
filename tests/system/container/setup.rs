//! A container before its first boot: its layer above the release's root file system, and files put
//! into it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::Container;
use crate::image::{self, Release};

/// A container that is not running yet.
pub(crate) struct Setup {
    pub(super) release: Release,
    /// Holds all of it.
    directory: TempDir,
    /// What the root file system is covered with; without it the container has a copy.
    pub(super) layers: Option<String>,
    pub(super) binds: Vec<String>,
}

impl Setup {
    pub(crate) fn new(release: Release) -> Self {
        let image = image::root(release);
        let directory = image::scratch(release.name);
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

    pub(super) fn part(&self, name: &str) -> PathBuf {
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

    /// Runs a program in it that needs no system around it.
    pub(crate) fn try_out(&self, program: &[&str]) -> std::process::Output {
        const TRY: &str = r#"
            [ -z "$LAYERS" ] || mount -t overlay overlay -o "$LAYERS" "$1"
            exec chroot "$@"
        "#;
        Command::new("unshare")
            .args(["--mount", "--propagation=private", "sh", "-ec", TRY, "sh"])
            .arg(self.part("root"))
            .args(program)
            .env("LAYERS", self.layers.as_deref().unwrap_or_default())
            .output()
            .expect("unshare")
    }

    /// Starts it, and waits until systemd has started everything.
    pub(crate) fn boot(self) -> Container {
        Container::boot(self)
    }
}

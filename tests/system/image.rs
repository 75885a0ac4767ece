//! Root file systems with a systemd to boot, made by debootstrap and kept between runs.
//!
//! They are in `$INFISICAL_TEST_CACHE`, by default /var/cache/infisical-test, under a name that
//! says what is in them: with other packages it is another name. One is built under a temporary
//! name and renamed, so that it is whole or not there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a Debian machine with our services has, beyond the smallest system.
const PACKAGES: &[&str] = &[
    "ca-certificates",
    "dbus",
    "iproute2",
    "libnss-resolve",
    "libnss-systemd",
    "logrotate",
    "make",
    "procps",
    "python3-apt",
    "rpm",
    "sudo",
    "systemd",
    "systemd-resolved",
    "systemd-sysv",
];

/// What belongs to a run and not to the next one begins with this, and the run's process id.
const RUN: &str = "infisical-test-";

/// A Debian release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Release {
    pub(crate) name: &'static str,
    /// The version of its systemd.
    pub(crate) systemd: u32,
}

/// Every release that the cases run on.
pub(crate) const RELEASES: &[Release] = &[
    Release {
        name: "trixie",
        systemd: 257,
    },
    Release {
        name: "bookworm",
        systemd: 252,
    },
];

/// Where everything of ours lies: a directory on a real disk.
fn cache() -> PathBuf {
    let chosen = std::env::var_os("INFISICAL_TEST_CACHE").filter(|path| !path.is_empty());
    chosen.map_or_else(|| PathBuf::from("/var/cache/infisical-test"), PathBuf::from)
}

/// The root file system of `release`, which no one may change; built if it is not there.
pub(crate) fn root(release: Release) -> PathBuf {
    built(release.name, PACKAGES)
}

/// The smallest root file system of a release by name, which need not be able to boot.
pub(crate) fn smallest(name: &'static str) -> PathBuf {
    built(name, &[])
}

fn built(name: &str, packages: &[&str]) -> PathBuf {
    let list = packages.join(",");
    let root = cache().join(format!("{name}-{:016x}", fingerprint(&list)));
    if root.is_dir() {
        return root;
    }
    eprintln!(
        "building {} (a minute or two, once)",
        root.to_string_lossy()
    );
    let building = scratch(name);
    let target = building.path().join("root");
    let mut command = Command::new("debootstrap");
    command.arg("--variant=minbase");
    if !list.is_empty() {
        command.arg(format!("--include={list}"));
    }
    let output = command
        .arg(name)
        .arg(&target)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("cannot start debootstrap: {error}"));
    assert!(
        output.status.success(),
        "debootstrap {name} failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    // Fails if another run was faster, and then its result is as good.
    if let Err(error) = std::fs::rename(&target, &root) {
        assert!(root.is_dir(), "cannot name it {}: {error}", root.display());
    }
    root
}

/// A directory of this run for one container, which vanishes when dropped.
pub(crate) fn scratch(release: &str) -> tempfile::TempDir {
    let prefix = format!("{}-", name_of_run(release));
    tempfile::Builder::new()
        .prefix(&prefix)
        .tempdir_in(cache())
        .unwrap_or_else(|error| panic!("no directory in {}: {error}", cache().display()))
}

/// A name that is this run's, and shows it.
pub(crate) fn name_of_run(release: &str) -> String {
    format!("{RUN}{}-{release}", std::process::id())
}

/// Makes the cache, and removes from it what runs left that were killed.
pub(crate) fn prepare() -> std::io::Result<()> {
    std::fs::create_dir_all(cache())?;
    for entry in std::fs::read_dir(cache())? {
        let path = entry?.path();
        if is_abandoned(&path) {
            std::fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

/// True for what is named after a run that is over.
pub(crate) fn is_abandoned(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let run = name.strip_prefix(RUN).and_then(|rest| rest.split_once('-'));
    run.is_some_and(|(pid, _)| !Path::new("/proc").join(pid).exists())
}

/// FNV-1a, which is the same in every version of every compiler.
fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

//! A newer OpenSSH than this machine's, for what only that has: Debian 13's, unpacked into the
//! target directory with the libraries that it needs, and run by its own loader. Nothing of it is
//! installed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::openssh::utf8;

/// The first release whose OpenSSH has `mlkem768x25519-sha256`.
const RELEASE: &str = "trixie";
/// What is unpacked, by the beginning of a package's name.
const PACKAGES: [&str; 3] = ["lib", "openssh-", "zlib1g"];
/// The programs, and where the package has them.
const PROGRAMS: [(&str, &str); 4] = [
    ("ssh", "usr/bin/ssh"),
    ("sshd", "usr/sbin/sshd"),
    ("sshd-session", "usr/lib/openssh/sshd-session"),
    ("sshd-auth", "usr/lib/openssh/sshd-auth"),
];

/// Where the programs are, each by its name; `None`, and said so, if they cannot be had here.
pub fn programs() -> Option<&'static Path> {
    static PROGRAMS: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match PROGRAMS.get_or_init(install) {
        Ok(directory) => Some(directory),
        Err(why) => {
            eprintln!("SKIPPED: a newer OpenSSH is not tried as a peer: {why}");
            None
        }
    }
}

/// Lines for its `sshd`, which would start this machine's processes otherwise.
pub fn paths(programs: &Path) -> [String; 2] {
    let path = |program: &str| programs.join(program).display().to_string();
    [
        format!("SshdSessionPath {}", path("sshd-session")),
        format!("SshdAuthPath {}", path("sshd-auth")),
    ]
}

/// Fills a directory that is whole or not there.
fn install() -> Result<PathBuf, String> {
    let parent = crate::built::scratch();
    let directory = parent.join(format!("openssh-{RELEASE}"));
    if directory.is_dir() {
        return Ok(directory);
    }
    if !nix::unistd::Uid::effective().is_root() {
        return Err("only root can run debootstrap".to_owned());
    }
    let building = tempfile::tempdir_in(parent).map_err(|error| error.to_string())?;
    let (download, root) = (
        building.path().join("download"),
        building.path().join("root"),
    );
    let mut command = Command::new("debootstrap");
    command.args(["--download-only", "--variant=minbase"]);
    command.args(["--include=openssh-client,openssh-server", RELEASE]);
    run(command.arg(&download))?;
    std::fs::create_dir(&root).map_err(|error| error.to_string())?;
    let archives = std::fs::read_dir(download.join("var/cache/apt/archives"));
    for archive in archives.map_err(|error| error.to_string())? {
        let archive = archive.map_err(|error| error.to_string())?.path();
        let name = archive
            .file_name()
            .map(OsStr::to_string_lossy)
            .unwrap_or_default();
        let is_package = archive.extension() == Some(OsStr::new("deb"));
        if is_package && PACKAGES.iter().any(|package| name.starts_with(package)) {
            run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&root))?;
        }
    }
    let wanted = directory.join("root");
    for (name, path) in PROGRAMS {
        let wrapper = building.path().join(name);
        std::fs::write(&wrapper, script(&root, &wanted, path)?).map_err(|e| e.to_string())?;
        run(Command::new("chmod").args(["755", utf8(&wrapper)]))?;
    }
    std::fs::remove_dir_all(&download).map_err(|error| error.to_string())?;
    run(Command::new("chmod").args(["755", utf8(building.path())]))?;
    // Fails if another run was faster, and then its result is as good.
    if let Err(error) = std::fs::rename(building.path(), &directory) {
        assert!(directory.is_dir(), "{}: {error}", directory.display());
    }
    Ok(directory)
}

/// What runs a program with its own loader and libraries, found in `root`, which will be at
/// `wanted`.
fn script(root: &Path, wanted: &Path, program: &str) -> Result<String, String> {
    let loader = [
        "usr/lib64/ld-linux-x86-64.so.2",
        "usr/lib/ld-linux-aarch64.so.1",
    ];
    let loader = loader.iter().find(|loader| root.join(loader).exists());
    let loader = loader.ok_or("no loader for this machine")?;
    let libraries = ["usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu"];
    let libraries = libraries.map(|path| wanted.join(path).display().to_string());
    // `sshd` wants to be called by an absolute path.
    Ok(format!(
        "#!/bin/sh\nexec '{}' --library-path '{}' '{}' \"$@\"\n",
        wanted.join(loader).display(),
        libraries.join(":"),
        wanted.join(program).display(),
    ))
}

fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("{program} does not start: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = lines.lines().last().unwrap_or_default();
    Err(format!("{program}: {}: {last}", output.status))
}

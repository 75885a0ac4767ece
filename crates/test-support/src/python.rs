//! Python packages as peers: installed once into the target directory, from wherever `pip` finds
//! them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::process::clean;

/// AsyncSSH, and what it encrypts with. The version of the latter decides whether there is ML-KEM.
const ASYNCSSH: &[&str] = &["asyncssh==2.24.1", "cryptography==50.0.2"];
/// Scanners of SSH and TLS.
const SCANNERS: &[&str] = &["ssh-audit==3.9.0", "sslyze==6.3.1"];
/// There is no wheel of it; it is Python alone.
const AS_SOURCE: &str = "sslyze";
/// AWS's own library, which signs requests.
const BOTOCORE: &[&str] = &["botocore==1.43.11"];

/// `python3` with AsyncSSH; `None`, and said so, if it cannot be had here.
pub fn with_asyncssh(home: &Path) -> Option<Command> {
    static PACKAGES: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let packages = PACKAGES.get_or_init(|| install(ASYNCSSH));
    python(home, packages, "AsyncSSH is not tried as a peer")
}

/// `python3` with AWS's own library; `None`, and said so, if it cannot be had here.
pub fn with_botocore(home: &Path) -> Option<Command> {
    static PACKAGES: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let packages = PACKAGES.get_or_init(|| install(BOTOCORE));
    python(home, packages, "signatures are not compared with AWS's own")
}

/// `python3` with the modules `ssh_audit` and `sslyze`; `None`, and said so, if they cannot be had
/// here.
pub fn with_scanners(home: &Path) -> Option<Command> {
    static PACKAGES: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let packages = PACKAGES.get_or_init(|| install(SCANNERS));
    python(home, packages, "the ports are not scanned")
}

fn python(home: &Path, packages: &Result<PathBuf, String>, without: &str) -> Option<Command> {
    match packages {
        Ok(packages) => {
            let mut command = clean("python3", home);
            command.env("PYTHONPATH", packages);
            // No one waits for a full buffer.
            command.env("PYTHONUNBUFFERED", "1");
            Some(command)
        }
        Err(why) => {
            eprintln!("SKIPPED: {without}: {why}");
            None
        }
    }
}

/// Puts `packages` into a directory that is whole or not there.
fn install(packages: &[&str]) -> Result<PathBuf, String> {
    let parent = crate::built::scratch();
    let directory = parent.join(format!("python-{}", packages.join("-")));
    if directory.is_dir() {
        return Ok(directory);
    }
    let building = tempfile::tempdir_in(parent).map_err(|error| error.to_string())?;
    let target = building.path().join("packages");
    let output = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--only-binary", ":all:"])
        .args(["--no-binary", AS_SOURCE])
        .arg("--target")
        .arg(&target)
        .args(packages)
        .output()
        .map_err(|error| format!("python3 does not start: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    // Fails if another run was faster, and then its result is as good.
    if let Err(error) = std::fs::rename(&target, &directory) {
        assert!(directory.is_dir(), "{}: {error}", directory.display());
    }
    Ok(directory)
}

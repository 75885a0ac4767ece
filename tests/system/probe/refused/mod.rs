//! What an intruder would try. An attempt that is refused by something else than the sandbox proves
//! nothing, so the cases also run all of this outside of it.

mod escapes;
mod files;
mod kernel;
mod processes;
mod sockets;

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Attempt, refusal};

type Named = (String, Box<dyn FnOnce() -> Attempt>);

/// Where everyone may write.
const TEMPORARY: &[&str] = &["/dev/shm", "/tmp", "/var/tmp"];

/// Everything, of a service that reads `configuration`.
pub(super) fn all(configuration: &str) -> Vec<Named> {
    let mut all = Vec::new();
    files::files(&mut all, configuration);
    processes::privileges(&mut all);
    processes::processes(&mut all);
    kernel::kernel(&mut all);
    sockets::network(&mut all);
    sockets::sockets(&mut all);
    escapes::escapes(&mut all);
    files::mounts(&mut all);
    all
}

fn add(all: &mut Vec<Named>, what: impl Into<String>, attempt: impl FnOnce() -> Attempt + 'static) {
    all.push((what.into(), Box::new(attempt)));
}

/// A copy of a program, which was not there before.
fn execute_in(folder: impl AsRef<Path>, original: &str, arguments: &[&str]) -> Attempt {
    let program = folder.as_ref().join("infisical-probe-program");
    let mode = Permissions::from_mode(0o700);
    let copied = fs::copy(original, &program).and_then(|_| fs::set_permissions(&program, mode));
    let outcome = copied
        .map_err(|_| refusal())
        .and_then(|()| execute(&program.to_string_lossy(), arguments));
    let _ = fs::remove_file(&program);
    outcome
}

fn execute(program: &str, arguments: &[&str]) -> Attempt {
    let output = Command::new(program).args(arguments).output()?;
    // The loader starts, and says itself that it may not map the program.
    if output.status.success() {
        Ok(())
    } else {
        Err(refusal())
    }
}

fn open_to_write(path: impl AsRef<Path>) -> Attempt {
    OpenOptions::new().write(true).open(path).map(drop)
}

fn state() -> PathBuf {
    directory("STATE_DIRECTORY")
}

/// A directory that systemd made for the service.
pub(in crate::probe) fn directory(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable);
    PathBuf::from(path.unwrap_or_else(|| panic!("no {variable}")))
}

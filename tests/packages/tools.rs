//! The tools, and how they are run.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What `make dist` has built.
pub(crate) fn dist() -> PathBuf {
    let dist = std::env::var_os("DIST").map_or_else(|| "target/dist".into(), PathBuf::from);
    root().join(dist)
}

/// Where `make test-tools` installs.
pub(crate) fn tools() -> PathBuf {
    let tools = std::env::var_os("TOOLS").map_or_else(|| "target/dist-tools".into(), PathBuf::from);
    root().join(tools)
}

/// A tool that `make test-tools` has installed, or one of this machine; says so where it is not.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let tools = tools();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = [tools.join("bin"), tools.join("checks/bin")];
    let folders = folders.into_iter().chain(std::env::split_paths(&path));
    let found = folders
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    if found.is_none() {
        eprintln!("SKIPPED: {name} is not installed (make test-tools)");
    }
    found
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command.output();
    output.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"))
}

/// The same of one that must succeed; gives what it printed.
#[track_caller]
pub(crate) fn ok(command: &mut Command) -> String {
    let output = run(command);
    let (stdout, stderr) = text(&output);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{stdout}{stderr}",
        output.status
    );
    stdout
}

pub(crate) fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

//! What `make dist` has built, installed as its users install it, where nothing of it was before.

pub(super) mod ansible;
pub(super) mod deb;
pub(super) mod elsewhere;
pub(super) mod image;
pub(super) mod quick;
pub(super) mod rpm;

use std::path::{Path, PathBuf};

use crate::container::Container;
use crate::image::Release;
use crate::lab::Lab;
use crate::service::{self, UNIT};

/// The program that the packages install.
const PROGRAM: &str = "/usr/bin/infisical-gateway";
/// The file that it leads to.
const FILE: &str = "/usr/lib/infisical-gateway/infisical-gateway";
/// Where the container sees what was built.
const DIST: &str = "/srv/dist";
/// A service that was never started.
const UNUSED: &str = "infisical-relay.service";

/// What was built, and by default where `make dist` puts it.
fn dist() -> PathBuf {
    let directory = std::env::var_os("DIST").map_or_else(|| "target/dist".into(), PathBuf::from);
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    assert!(directory.is_dir(), "{directory:?} is made by make dist");
    directory
}

/// The one file in `directory` whose name begins and ends so.
fn find(directory: &Path, begin: &str, end: &str) -> PathBuf {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut found: Vec<PathBuf> = paths
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(begin) && name.ends_with(end)
        })
        .collect();
    let first = found.pop();
    assert!(found.is_empty(), "more than one {begin}*{end}: {found:?}");
    first.unwrap_or_else(|| panic!("no {begin}*{end} in {directory:?}"))
}

fn boot(release: Release) -> Lab {
    Lab::start(Lab::bare(release).bind_ro(&dist(), DIST))
}

/// Nothing is enabled or runs, and users and directories are there.
#[track_caller]
fn assert_ready_and_idle(container: &Container) {
    for unit in [UNIT, UNUSED] {
        assert_eq!(container.property(unit, "UnitFileState"), "disabled");
        assert_eq!(container.property(unit, "ActiveState"), "inactive");
    }
    let mode = container
        .run(["stat", "-c", "%a %U", "/etc/infisical"])
        .ok();
    assert_eq!(mode, "700 root\n");
    container
        .run(["getent", "passwd", "infisical-gateway"])
        .ok();
    let called = container.run(["readlink", "-f", "/usr/bin/infisical"]);
    assert_eq!(called.ok().trim(), FILE);
    let explained = container.run(["journalctl", "--list-catalog"]).ok();
    assert!(explained.contains("Infisical") || explained.contains("gateway"));
}

/// Which start of `unit` this is, and its main process.
fn start_of(container: &Container, unit: &str) -> [String; 2] {
    ["InvocationID", "MainPID"].map(|property| container.property(unit, property))
}

/// Asserts that another process has `unit` since `before`, without a restart.
#[track_caller]
fn assert_handed_over(container: &Container, unit: &str, before: &[String; 2]) {
    let [invocation, process] = start_of(container, unit);
    assert_eq!(invocation, before[0], "{unit} was restarted");
    assert_ne!(process, before[1], "{unit} runs the program of before");
}

/// Makes gateways services by the packaged program, the second of them by name.
#[track_caller]
fn install_gateways(lab: &Lab, names: &[&str]) {
    for name in names {
        let token = service::token_file(lab, name);
        let words = [PROGRAM, "gateway", "systemd", "install"].map(str::to_owned);
        let mut words = words.to_vec();
        if *name == service::GATEWAY {
            words.extend(["--name".to_owned(), (*name).to_owned()]);
        } else {
            words.push((*name).to_owned());
        }
        words.extend(service::enrollment(lab, &token));
        words.push("--user".to_owned());
        lab.container.run(words).ok();
        lab.assert_session(name);
    }
}

/// The unit that a package brought is the one that runs.
#[track_caller]
fn assert_packaged_unit_runs(container: &Container) {
    let path = container.property(UNIT, "FragmentPath");
    assert!(
        path.ends_with(&format!("lib/systemd/system/{UNIT}")),
        "{path}"
    );
    assert!(!path.starts_with("/etc"), "{path}");
    let command = container.property(UNIT, "ExecStart");
    assert!(command.contains(PROGRAM), "{command}");
}

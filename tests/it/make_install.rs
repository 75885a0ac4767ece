//! `make install` and `make uninstall`: what they write and where, and that one undoes the other.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs `make` in the repository; gives what it printed, or nothing where there is no `make`.
fn make(words: &[&str], destination: &Path) -> Option<String> {
    let mut command = Command::new("make");
    command
        .args(["-s", "-C", env!("CARGO_MANIFEST_DIR")])
        .args(words)
        .arg(format!("BINARY={}", env!("CARGO_BIN_EXE_infisical")))
        .arg(format!("DESTDIR={}", destination.display()));
    let Ok(output) = command.output() else {
        eprintln!("SKIPPED: make is not installed");
        return None;
    };
    assert!(output.status.success(), "{words:?}: {output:?}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Every file below `directory`, as a path from there.
fn files(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(path) = waiting.pop() {
        for entry in std::fs::read_dir(&path).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                let relative = path.strip_prefix(directory).expect("below");
                found.insert(relative.to_owned());
            }
        }
    }
    found
}

#[test]
fn make_install_honours_prefix_or_explains() {
    let to = tempfile::tempdir().expect("a directory");
    let Some(printed) = make(&["install", "PREFIX=/usr/local"], to.path()) else {
        return;
    };
    let installed = files(to.path());
    for file in [
        "usr/local/bin/infisical",
        "usr/local/lib/systemd/system/infisical-gateway@.service",
        "usr/local/lib/systemd/catalog/infisical.catalog",
        "usr/local/lib/sysusers.d/infisical.conf",
        "usr/local/share/doc/infisical/LICENSE",
        "usr/local/share/man/man1/infisical.1",
        "usr/local/share/man/man1/infisical-gateway-systemd-install.1",
        "usr/local/share/bash-completion/completions/infisical",
        "usr/local/share/zsh/site-functions/_infisical",
        "usr/local/share/fish/vendor_completions.d/infisical.fish",
    ] {
        assert!(installed.contains(Path::new(file)), "{file}: {installed:?}");
    }
    let outside: Vec<_> = installed
        .iter()
        .filter(|file| !file.starts_with("usr/local"))
        .collect();
    assert_eq!(outside, [Path::new("etc/logrotate.d/infisical")]);
    for part in [
        "outside of /usr/local",
        "etc/logrotate.d/infisical",
        "SYSCONFDIR=",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    // A package for /usr has it where distributions look.
    let package = tempfile::tempdir().expect("a directory");
    make(&["install", "PREFIX=/usr"], package.path());
    let catalogue = "usr/lib/systemd/catalog/infisical.catalog";
    assert!(files(package.path()).contains(Path::new(catalogue)));
}

#[test]
fn make_install_can_leave_etc_alone() {
    let to = tempfile::tempdir().expect("a directory");
    let words = ["install", "PREFIX=/opt/tools", "SYSCONFDIR="];
    if make(&words, to.path()).is_none() {
        return;
    }
    let installed = files(to.path());
    assert!(installed.len() > 10, "{installed:?}");
    for file in &installed {
        assert!(file.starts_with("opt/tools"), "{file:?}");
    }
}

#[test]
fn make_uninstall_removes_what_install_wrote() {
    let to = tempfile::tempdir().expect("a directory");
    let prefix = "PREFIX=/usr/local";
    if make(&["install", prefix], to.path()).is_none() {
        return;
    }
    let foreign = Path::new("usr/local/bin/another");
    std::fs::write(to.path().join(foreign), "").expect("written");
    make(&["uninstall", prefix], to.path());
    assert_eq!(files(to.path()), BTreeSet::from([foreign.to_owned()]));
    let documents = to.path().join("usr/local/share/doc/infisical");
    assert!(!documents.exists(), "its own directories stay");
    // A second time there is nothing to do.
    make(&["uninstall", prefix], to.path());
}

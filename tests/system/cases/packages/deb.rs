//! The Debian package, installed by apt from a signed repository.

use std::path::Path;
use std::process::Command;

use super::{PROGRAM, UNUSED, assert_packaged_unit_runs, assert_ready_and_idle, dist, find};
use crate::container::Container;
use crate::image::Release;
use crate::lab::Lab;
use crate::service::{self, GATEWAY, UNIT};

/// Where the container sees the repository.
pub(super) const REPOSITORY: &str = "/srv/repository";
/// A gateway whose unit the installer writes.
const NAMED: &str = "edge";
/// The files of the official command line's package that have the names of ours.
const OFFICIAL: &str = r#"
mkdir -p /tmp/official/DEBIAN /tmp/official/usr/bin /tmp/official/usr/share/man/man1 \
  /tmp/official/usr/share/zsh/site-functions /tmp/official/usr/share/fish/vendor_completions.d
cd /tmp/official
printf '#!/bin/sh\necho the official one\n' >usr/bin/infisical
chmod 755 usr/bin/infisical
for file in usr/share/man/man1/infisical.1.gz usr/share/zsh/site-functions/_infisical \
  usr/share/fish/vendor_completions.d/infisical.fish; do echo official >$file; done
printf 'Package: infisical\nVersion: 0.43\nArchitecture: all\nMaintainer: a test <test@localhost>\nDescription: stand-in\n' \
  >DEBIAN/control
dpkg-deb --build /tmp/official /tmp/infisical.deb
"#;

pub(in crate::cases) fn boot(release: Release) -> Lab {
    let repository = repository(release);
    if repository.exists() {
        std::fs::remove_dir_all(&repository).expect("removed");
    }
    publish(release, &dist());
    Lab::start(Lab::bare(release).bind_ro(&repository, REPOSITORY))
}

/// The repository on this machine.
pub(super) fn repository(release: Release) -> std::path::PathBuf {
    dist().join("tests").join(release.name).join("repository")
}

/// Adds the package in `directory` to the repository, which is signed by a key of its own.
fn publish(release: Release, directory: &Path) {
    let repository = repository(release);
    let keys = repository.with_file_name("keys");
    std::fs::create_dir_all(&repository).expect("a directory");
    let package = find(directory, "infisical-gateway_", ".deb");
    let name = package.file_name().expect("a name");
    std::fs::copy(&package, repository.join(name)).expect("copied");
    let make = Command::new("make")
        .args(["-s", "-C", env!("CARGO_MANIFEST_DIR"), "apt-repo"])
        .arg(format!("DIR={}", repository.display()))
        .arg(format!("SIGNING_KEYS={}", keys.display()))
        .output()
        .expect("make");
    assert!(make.status.success(), "{make:?}");
}

#[track_caller]
fn apt(container: &Container, words: &str) -> String {
    let line = format!(
        "export DEBIAN_FRONTEND=noninteractive; apt-get update -qq && apt-get {words} -y -q 2>&1"
    );
    container.sh(&line).ok()
}

pub(in crate::cases) fn apt_installs_it_and_starts_nothing(lab: &mut Lab) {
    let container = &lab.container;
    let source = format!("deb [signed-by={REPOSITORY}/key.gpg] file:{REPOSITORY} ./\n");
    container.write("/etc/apt/sources.list", &source, 0o644);
    apt(container, "install infisical-gateway");
    assert_ready_and_idle(container);
    let packaged = container
        .sh("dpkg-query -Wf '${Version}' infisical-gateway")
        .ok();
    let version = container.run([PROGRAM, "--version"]).ok();
    let (upstream, _) = packaged.split_once('-').expect("a revision");
    assert!(version.contains(upstream), "{version}");
    assert_eq!(container.run(["dpkg", "--verify"]).ok(), "");
    assert_eq!(container.run(["dpkg", "--audit"]).ok(), "");
}

pub(in crate::cases) fn its_gateways_reach_a_private_service(lab: &mut Lab) {
    super::install_gateways(lab, &[GATEWAY, NAMED]);
    assert_packaged_unit_runs(&lab.container);
}

pub(in crate::cases) fn upgrade_hands_over_only_what_runs(lab: &mut Lab) {
    let container = &lab.container;
    let units = [UNIT, "edge.service"];
    let before = units.map(|unit| super::start_of(container, unit));
    publish(container.release(), &dist().join("upgrade"));
    let said = apt(container, "upgrade");
    assert!(said.contains("Setting up infisical-gateway"), "{said}");
    for (unit, before) in units.iter().zip(&before) {
        super::assert_handed_over(container, unit, before);
    }
    lab.assert_session(GATEWAY);
    lab.assert_session(NAMED);
    assert_eq!(container.property(UNUSED, "ActiveState"), "inactive");
    assert_eq!(container.property(UNIT, "UnitFileState"), "enabled");
}

pub(in crate::cases) fn removed_it_keeps_its_configuration(lab: &mut Lab) {
    let container = &lab.container;
    apt(container, "remove infisical-gateway");
    for unit in [UNIT, "edge.service"] {
        assert_eq!(container.property(unit, "ActiveState"), "inactive");
    }
    container.run(["test", "-f", service::CONFIGURATION]).ok();
    container
        .sh("! test -e /usr/bin/infisical && ! test -L /usr/bin/infisical")
        .ok();
    apt(container, "install infisical-gateway");
    lab.assert_session(GATEWAY);
    lab.assert_session(NAMED);
}

pub(in crate::cases) fn purged_it_leaves_nothing(lab: &mut Lab) {
    let container = &lab.container;
    // The test's own platform and relay keep theirs elsewhere.
    container
        .sh("systemctl stop test-relay test-platform && mv /var/lib/infisical /root/platform")
        .ok();
    apt(container, "purge infisical-gateway");
    let left = container.sh(
        "find / -xdev -name '*infisical*' -not -path '/proc/*' -not -path '/srv/*' -not -path '/root/*' \
         -not -path '/tmp/*' -not -path '/usr/local/*' -not -path '/var/lib/apt/lists/*'; \
         ls -d /etc/systemd/system/edge.service* 2>/dev/null; true",
    );
    assert_eq!(left.ok(), "");
    container
        .sh("mv /root/platform /var/lib/infisical && systemctl start test-platform test-relay")
        .ok();
}

pub(in crate::cases) fn official_command_line_keeps_its_name(lab: &mut Lab) {
    let container = &lab.container;
    container.sh(OFFICIAL).ok();
    let official = || container.run(["/usr/bin/infisical"]).ok();
    let orders = [
        ["install /tmp/infisical.deb", "install infisical-gateway"],
        ["install infisical-gateway", "install /tmp/infisical.deb"],
    ];
    for order in orders {
        for command in order {
            apt(container, command);
        }
        assert_eq!(official(), "the official one\n", "{order:?}");
        container.run([PROGRAM, "--version"]).ok();
        apt(container, "remove infisical-gateway");
        assert_eq!(official(), "the official one\n", "{order:?}");
        assert_eq!(container.run(["dpkg", "--verify", "infisical"]).ok(), "");
        apt(container, "purge infisical infisical-gateway");
    }
}

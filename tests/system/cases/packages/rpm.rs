//! The RPM package, installed by Debian's rpm, which has no distribution's policies around it.

use super::{PROGRAM, UNUSED, assert_packaged_unit_runs, assert_ready_and_idle, dist, find};
use crate::container::Container;
use crate::image::Release;
use crate::lab::Lab;
use crate::service::{self, GATEWAY, UNIT};

pub(in crate::cases) fn boot(release: Release) -> Lab {
    super::boot(release)
}

/// Its own words for a machine that is Debian's: the dependencies are not rpm's to know.
#[track_caller]
fn rpm(container: &Container, words: &[&str]) -> String {
    let rpm = ["rpm", "--dbpath=/var/lib/rpm", "--nodeps"];
    // Earlier releases let nothing be installed but by alien.
    let force = container.release().name == "bookworm";
    let force = force.then_some("--force-debian");
    container.run(rpm.iter().chain(&force).chain(words)).ok()
}

fn package(folder: &str) -> String {
    let path = find(&dist().join(folder), "infisical-gateway-", ".rpm");
    let name = path
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    format!("{}/{folder}/{name}", super::DIST)
}

pub(in crate::cases) fn rpm_installs_it_and_starts_nothing(lab: &mut Lab) {
    let readme = include_str!("../../../../README.md");
    assert!(readme.contains("rpm -i infisical-gateway-*.x86_64.rpm"));
    let container = &lab.container;
    rpm(container, &["--install", &package(".")]);
    assert_ready_and_idle(container);
    let verified = rpm(container, &["--verify", "infisical-gateway"]);
    assert_eq!(verified, "");
}

pub(in crate::cases) fn its_gateway_reaches_a_private_service(lab: &mut Lab) {
    super::install_gateways(lab, &[GATEWAY]);
    assert_packaged_unit_runs(&lab.container);
}

pub(in crate::cases) fn upgrade_hands_over_only_what_runs(lab: &mut Lab) {
    let container = &lab.container;
    let before = super::start_of(container, UNIT);
    rpm(container, &["--upgrade", &package("upgrade")]);
    super::assert_handed_over(container, UNIT, &before);
    lab.assert_session(GATEWAY);
    assert_eq!(container.property(UNUSED, "ActiveState"), "inactive");
    assert_eq!(container.property(UNIT, "UnitFileState"), "enabled");
}

pub(in crate::cases) fn removed_it_keeps_its_configuration(lab: &mut Lab) {
    let container = &lab.container;
    rpm(container, &["--erase", "infisical-gateway"]);
    assert_eq!(container.property(UNIT, "ActiveState"), "inactive");
    container.run(["test", "-f", service::CONFIGURATION]).ok();
    container
        .sh(&format!(
            "! test -e {PROGRAM} && ! test -L /usr/bin/infisical"
        ))
        .ok();
    rpm(container, &["--install", &package(".")]);
    container.run(["systemctl", "enable", "--now", UNIT]).ok();
    lab.assert_session(GATEWAY);
}

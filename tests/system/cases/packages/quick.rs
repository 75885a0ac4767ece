//! The README's shortest way, followed to the letter.

use super::{DIST, assert_packaged_unit_runs, dist, find};
use crate::cases::readme;
use crate::image::Release;
use crate::lab::{Lab, PROGRAM};

/// Where a person has the package and the token.
const DOWNLOADS: &str = "/root/downloads";
/// The program of the test's own platform and relay, out of sight of those who look for `infisical`.
const ASIDE: &str = "/root/infisical";

pub(in crate::cases) fn boot(release: Release) -> Lab {
    readme::boot_with(release, |setup| setup.bind_ro(&dist(), DIST))
}

pub(in crate::cases) fn debian_package_serves_as_the_readme_says(lab: &mut Lab) {
    let container = &lab.container;
    let package = find(&dist(), "infisical-gateway_", ".deb");
    let package = package.file_name().expect("a name").to_string_lossy();
    let copy = format!("mkdir {DOWNLOADS} && cp {DIST}/{package} {DOWNLOADS}/");
    container.sh(&copy).ok();
    readme::save_token(lab, DOWNLOADS);
    container.run(["mv", PROGRAM, ASIDE]).ok();
    let blocks = readme::blocks(readme::QUICK);
    let [install, _] = blocks.as_slice() else {
        panic!("{blocks:?}");
    };
    readme::follow_in(lab, DOWNLOADS, install);
    readme::configure(lab, DOWNLOADS);
    assert_packaged_unit_runs(container);
    container.run(["mv", ASIDE, PROGRAM]).ok();
    lab.assert_session(readme::GATEWAY);
}

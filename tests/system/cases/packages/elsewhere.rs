//! Forms that need no service manager: each runs `dev --check`, which starts a platform, a relay
//! and a gateway and reaches two private services through them.

use std::path::Path;
use std::process::Command;

use super::{dist, find};
use crate::image::{self, Release};
use crate::lab::Lab;

/// The oldest release that still has a mirror.
const OLD: &str = "bullseye";

pub(in crate::cases) fn boot(release: Release) -> Lab {
    super::boot(release)
}

#[track_caller]
fn assert_round_trip(command: &mut Command) {
    let output = command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
    let output = output.output().expect("started");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

pub(in crate::cases) fn portable_program_works_on_an_old_release(_lab: &mut Lab) {
    const RUN: &str = r#"
        mount -t tmpfs -o mode=1777 tmpfs "$1/tmp"
        mount -t proc proc "$1/proc"
        cp "$2" "$1/tmp/infisical"
        HOME=/tmp exec chroot "$1" /tmp/infisical dev --check
    "#;
    let program = find(&dist(), "infisical-gateway-", "-gnu");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation=private", "sh", "-ec", RUN, "sh"]);
    assert_round_trip(command.arg(image::smallest(OLD)).arg(program));
}

pub(in crate::cases) fn npm_wrapper_runs_the_program(_lab: &mut Lab) {
    let place = tempfile::tempdir().expect("a directory");
    let home = place.path();
    let tarballs = ["infisical-gateway-linux-x64-", "infisical-gateway-"];
    let tarballs = tarballs.map(|begin| {
        // The wrapper's name is the beginning of the other's.
        let version = env!("CARGO_PKG_VERSION");
        find(&dist(), &format!("{begin}{version}"), ".tgz")
    });
    let mut npm = Command::new("npm");
    npm.args([
        "install",
        "--silent",
        "--offline",
        "--no-audit",
        "--no-fund",
    ]);
    npm.args(tarballs).current_dir(home).env("HOME", home);
    let output = npm.output().expect("npm");
    assert!(output.status.success(), "{output:?}");
    let wrapper = home.join("node_modules/.bin/infisical-gateway");
    assert!(Path::new(&wrapper).exists(), "{output:?}");
    let shell = format!(
        "HOME={} exec {} dev --check",
        home.display(),
        wrapper.display()
    );
    assert_round_trip(Command::new("sh").args(["-c", &shell]));
}

//! Forms that need no service manager: each runs `dev --check`, which starts a platform, a relay
//! and a gateway and reaches two private services through them.

use std::path::Path;
use std::process::Command;

use super::{dist, find};
use crate::image::{self, Release};
use crate::lab::Lab;

const README: &str = include_str!("../../../../README.md");
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

/// What a user does with a download before it is installed.
pub(in crate::cases) fn checksums_are_right_and_signed(_lab: &mut Lab) {
    let checks: [&[&str]; 2] = [
        &[
            "gpgv",
            "--keyring",
            "./key.gpg",
            "SHA256SUMS.asc",
            "SHA256SUMS",
        ],
        &["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"],
    ];
    for check in checks {
        let (program, arguments) = check.split_first().expect("a program");
        let output = Command::new(program)
            .args(arguments)
            .current_dir(dist())
            .output();
        let output = output.expect("started");
        assert!(output.status.success(), "{check:?}: {output:?}");
    }
    let sums = std::fs::read_to_string(dist().join("SHA256SUMS")).expect("sums");
    for form in [
        "-gnu",
        ".debug",
        ".cdx.json",
        ".deb",
        ".rpm",
        ".tgz",
        ".tar.gz",
    ] {
        assert!(
            sums.lines().any(|line| line.ends_with(form)),
            "{form} in {sums}"
        );
    }
}

pub(in crate::cases) fn portable_program_works_on_an_old_release(_lab: &mut Lab) {
    const RUN: &str = r#"
        mount -t tmpfs -o mode=1777 tmpfs "$1/tmp"
        mount -t proc proc "$1/proc"
        cp "$2" "$1/tmp/infisical"
        HOME=/tmp exec chroot "$1" /tmp/infisical dev --check
    "#;
    assert!(README.contains("infisical-gateway-*-x86_64-unknown-linux-gnu"));
    let program = find(&dist(), "infisical-gateway-", "-gnu");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation=private", "sh", "-ec", RUN, "sh"]);
    assert_round_trip(command.arg(image::smallest(OLD)).arg(program));
}

pub(in crate::cases) fn npm_wrapper_runs_the_program(_lab: &mut Lab) {
    const COMMAND: &str = "npm install infisical-gateway-*.tgz";
    let place = tempfile::tempdir().expect("a directory");
    let home = place.path();
    assert!(README.contains(COMMAND));
    for begin in ["infisical-gateway-linux-x64-", "infisical-gateway-"] {
        // The wrapper's name is the beginning of the other's.
        let begin = format!("{begin}{}", env!("CARGO_PKG_VERSION"));
        let tarball = find(&dist(), &begin, ".tgz");
        let name = tarball.file_name().expect("a name");
        std::fs::copy(&tarball, home.join(name)).expect("copied");
    }
    let mut npm = Command::new("sh");
    npm.args(["-c", COMMAND]).current_dir(home);
    // Nothing is downloaded.
    npm.env("HOME", home).env("npm_config_offline", "true");
    npm.env("npm_config_audit", "false");
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

//! The README's installation, followed to the letter on a machine that has nothing of it yet; and
//! units that wait for the tunnel, which come with it.

use std::path::Path;

use crate::container::Setup;
use crate::image::{self, Release};
use crate::lab::{Lab, PROGRAM};
use crate::peer;
use crate::service::{self, UNIT};
use crate::wait;

/// Where the source is, as a person has it.
const SOURCE: &str = "/root/infisical";
/// What the container sees of it.
const BOUND: &str = "/usr/src/infisical";
/// The shortest way.
pub(super) const QUICK: &str = "60 seconds to a private service";
/// The name of the gateway on the platform.
pub(super) const GATEWAY: &str = "office";
/// A build that was done already; all else that is called by this name is missing.
const CARGO: &str = "#!/bin/sh\n[ \"$1 $2\" = 'build --release' ]\n";
/// A service that needs the tunnel.
const DEPENDENT: &str = "test-dependent.service";

/// The platform that people get who name none, with a certificate that this machine believes.
pub(super) fn boot(release: Release) -> Lab {
    boot_with(release, |setup| {
        setup.bind_ro(Path::new(env!("CARGO_MANIFEST_DIR")), BOUND)
    })
}

/// The same with what `more` adds.
pub(super) fn boot_with(release: Release, more: impl FnOnce(Setup) -> Setup) -> Lab {
    let name = peer::PLATFORM.to_owned();
    let issued = rcgen::generate_simple_self_signed([name]).expect("a certificate");
    let (certificate, key) = (issued.cert.pem(), issued.signing_key.serialize_pem());
    let believed = image::root(release).join("etc/ssl/certs/ca-certificates.crt");
    let believed = std::fs::read_to_string(believed).expect("certificates");
    let name = image::root(release).join("etc/hostname");
    let name = std::fs::read_to_string(name).expect("a name");
    let hosts = format!("127.0.0.1 localhost\n127.0.1.1 {name}\n");
    let platform = format!(
        "[Unit]\nAfter=test-peer.service\n[Service]\nExecStart=\n\
         ExecStart={PROGRAM} platform start --listen 127.0.0.1:443 \
         --tls-cert /etc/test/platform.crt --tls-key /etc/test/platform.key\n"
    );
    let domain = format!("https://{}", peer::PLATFORM);
    let relay = format!("[Service]\nEnvironment=INFISICAL_API_URL={domain}\n");
    let setup = more(Lab::setup(release))
        .write("/etc/test/platform.crt", &certificate, 0o644)
        .write("/etc/test/platform.key", &key, 0o600)
        .write(
            "/etc/ssl/certs/ca-certificates.crt",
            &format!("{believed}{certificate}"),
            0o644,
        )
        .write("/usr/bin/cargo", CARGO, 0o755)
        // sudo looks for the machine's own name, for a while.
        .write("/etc/hosts", &hosts, 0o644)
        .drop_in("test-platform.service", &platform)
        .drop_in("test-relay.service", &relay);
    let mut lab = Lab::start(setup);
    lab.administrator = vec![
        "--domain".to_owned(),
        domain,
        "--token-file=/var/lib/infisical/platform/admin-token".to_owned(),
    ];
    lab
}

/// The blocks of shell in the section of this heading.
pub(super) fn blocks(section: &str) -> Vec<String> {
    let readme = include_str!("../../../README.md");
    let heading = format!("\n### {section}\n");
    let (_, text) = readme.split_once(&heading).expect("it");
    let end = text.split("\n#").next().unwrap_or_default();
    let blocks = end.split("```sh\n").skip(1);
    let blocks = blocks.map(|rest| rest.split("```").next().unwrap_or_default().to_owned());
    blocks.collect()
}

/// Runs a block as it is, where a person would.
#[track_caller]
fn follow(lab: &Lab, block: &str) -> String {
    follow_in(lab, SOURCE, block)
}

/// Runs a block as it is in this directory.
#[track_caller]
pub(super) fn follow_in(lab: &Lab, directory: &str, block: &str) -> String {
    println!("{block}");
    let script = format!("cd {directory}\n{block}");
    lab.container.run(["sh", "-exc", &script]).ok()
}

pub(super) fn its_commands_work_as_they_are_written(lab: &mut Lab) {
    let container = &lab.container;
    // All but what was built here, of which there is only the program.
    let copy = format!(
        "mkdir -p {SOURCE}/target/release && mv {PROGRAM} {SOURCE}/target/release/ && cd {BOUND} && tar -c --exclude=./target --exclude=./.git . | tar -x -C {SOURCE}"
    );
    container.sh(&copy).ok();
    let others = blocks("Other ways to install");
    let [build] = others.as_slice() else {
        panic!("{others:?}");
    };
    follow(lab, build);
    container.run([PROGRAM, "--version"]).ok();
    let token = save_token(lab, SOURCE);
    configure(lab, SOURCE);
    lab.assert_session(GATEWAY);
    let unit = format!("/usr/local/lib/systemd/system/{UNIT}");
    assert_eq!(container.property(UNIT, "FragmentPath"), unit);
    lab.assert_hidden(&token);
    lab.assert_hidden(&service::secret(container));
}

/// Puts an enrollment token where the README has it; the token.
#[track_caller]
pub(super) fn save_token(lab: &Lab, directory: &str) -> String {
    let token = lab.enrollment_token(GATEWAY);
    let path = format!("{directory}/enrollment-token");
    lab.container.write(&path, &token, 0o600);
    token
}

/// Does what the README says after the installation.
#[track_caller]
pub(super) fn configure(lab: &Lab, directory: &str) {
    let quick = blocks(QUICK);
    let [_, configure] = quick.as_slice() else {
        panic!("{quick:?}");
    };
    let said = follow_in(lab, directory, configure);
    assert!(said.contains("Active: active (running)"), "{said}");
    assert!(said.contains("Gateway started successfully"), "{said}");
}

pub(super) fn unit_that_needs_the_tunnel_waits(lab: &mut Lab) {
    let container = &lab.container;
    let unit = "[Unit]\nWants=infisical-gateway-online.target\nAfter=infisical-gateway-online.target\n\
                [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=test -e /run/infisical-gateway/online\n";
    container.write(&format!("{}/{DEPENDENT}", service::UNITS), unit, 0o644);
    container.run(["systemctl", "daemon-reload"]).ok();
    container.run(["systemctl", "stop", "test-relay"]).ok();
    service::wait_for_status(container, UNIT, "not connected");
    let waiting = [PROGRAM, "gateway", "wait-online", "--timeout=1"];
    let waited = container.run(waiting);
    assert_eq!(waited.status, Some(69), "{waited:?}");
    assert!(waited.stderr.contains("not connected"), "{waited:?}");
    let start = ["systemctl", "start", "--no-block", DEPENDENT];
    container.run(start).ok();
    let wait_unit = "infisical-gateway-wait-online.service";
    service::wait_for_state(container, wait_unit, "activating");
    assert_eq!(container.property(DEPENDENT, "ActiveState"), "inactive");
    container.run(["systemctl", "start", "test-relay"]).ok();
    service::wait_for_state(container, DEPENDENT, "active");
    assert_eq!(container.property(wait_unit, "ActiveState"), "active");
    container.run(waiting).ok();
}

pub(super) fn installed_units_are_known_to_systemd(lab: &mut Lab) {
    // One file for all releases: what is newer than a release is passed over there, and said.
    let said = lab
        .container
        .sh("cd /usr/local/lib/systemd/system && ls && \
         systemd-analyze verify --man=no infisical-*.service infisical-*.target 2>&1");
    let said = said.ok();
    assert!(said.contains("infisical-relay@.service\n"), "{said}");
    let about = |line: &&str| line.contains("infisical-") && line.contains(": ");
    let newest = image::RELEASES.iter().map(|release| release.systemd).max();
    let is_newest = Some(lab.container.release().systemd) == newest;
    let wrong = said.lines().filter(about);
    let wrong = wrong.filter(|line| is_newest || !line.contains("ignoring"));
    assert_eq!(wrong.collect::<Vec<_>>(), Vec::<&str>::new());
    // Users and directories of packages, and the presets.
    for command in [
        "systemd-sysusers --dry-run",
        "systemd-tmpfiles --create /usr/local/lib/tmpfiles.d/infisical.conf",
        "logrotate --debug /etc/logrotate.d/infisical",
        "journalctl --update-catalog",
    ] {
        lab.container.sh(command).ok();
    }
}

pub(super) fn it_goes_as_the_readme_says(lab: &mut Lab) {
    let command = "sudo infisical gateway systemd uninstall";
    assert!(include_str!("../../../README.md").contains(command));
    follow(lab, command);
    let container = &lab.container;
    wait::until("its end", || {
        let state = container.property(UNIT, "ActiveState");
        if state == "inactive" {
            Ok(())
        } else {
            Err(state)
        }
    });
    assert_eq!(container.property(UNIT, "UnitFileState"), "disabled");
}

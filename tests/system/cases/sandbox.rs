//! What a process can do from within the service, tried by one.

use std::collections::BTreeSet;

use crate::container::Container;
use crate::lab::Lab;
use crate::probe;
use crate::sandbox;
use crate::service::{self, CONFIGURATION, GATEWAY, UNIT, User};

/// What the sandbox leaves open: abstract sockets belong to the network, which a gateway shares
/// with its machine.
const OPEN: &[&str] = &["connect to an abstract socket"];
/// The same for a user of its own. On such a socket the kernel tells of changes of the network;
/// nothing can be changed by it.
const OPEN_TO_A_USER: &[&str] = &["connect to an abstract socket", "make a netlink socket"];

pub(super) fn outside_of_it_nearly_everything_is_possible(lab: &mut Lab) {
    service::install(lab, User::Root);
    prepare(&lab.container);
    let report = Report::read(&sandbox::probe_outside(&lab.container, CONFIGURATION));
    // The container itself has limits; what it refuses is not asserted.
    let limits = names(LIMITS);
    let wrong = report.refused.difference(&limits);
    let wrong: Vec<_> = wrong
        .filter(|what| !what.contains(" at the mount "))
        .collect();
    assert!(wrong.is_empty(), "outside: {wrong:#?}");
    assert!(report.broken.is_empty(), "outside: {:#?}", report.broken);
}

pub(super) fn root_sandbox_allows_only_what_is_needed(lab: &mut Lab) {
    assert_sandbox(lab, UNIT, CONFIGURATION, OPEN);
}

pub(super) fn user_sandbox_allows_only_what_is_needed(lab: &mut Lab) {
    let configuration = sandbox::configuration(CONFIGURATION, User::Dynamic);
    assert_sandbox(lab, UNIT, &configuration, OPEN_TO_A_USER);
}

pub(super) fn sandbox_score_as_root_is_best(lab: &mut Lab) {
    assert_exposure(lab, UNIT, 14);
    assert_no_warnings(lab, UNIT);
}

pub(super) fn sandbox_score_as_user_is_best(lab: &mut Lab) {
    assert_exposure(lab, UNIT, 11);
    assert_no_warnings(lab, UNIT);
}

pub(super) fn service_works_as_its_own_user(lab: &mut Lab) {
    service::install(lab, User::Dynamic);
    lab.assert_session(GATEWAY);
    assert_user(&lab.container);
}

pub(super) fn encrypted_credential_replaces_the_file(lab: &mut Lab) {
    let container = &lab.container;
    let encrypted = format!("{CONFIGURATION}.cred");
    let encrypt = ["systemd-creds", "encrypt", "--name=gateway.conf"];
    let encrypt = encrypt.into_iter().chain([CONFIGURATION, &encrypted]);
    container.run(encrypt).ok();
    let secret = service::secret(container);
    assert!(!container.read(&encrypted).contains(&secret));
    let text = format!("LoadCredential=\nLoadCredentialEncrypted=gateway.conf:{encrypted}");
    service::drop_in(container, UNIT, &text);
    container.run(["systemctl", "restart", UNIT]).ok();
    container.run(["shred", "-u", CONFIGURATION]).ok();
    container.run(["systemctl", "restart", UNIT]).ok();
    lab.assert_session(GATEWAY);
    lab.assert_hidden(&secret);
    assert_user(container);
}

/// The service's process has no root, and shows a name of its own.
fn assert_user(container: &Container) {
    let process = container.property(UNIT, "MainPID");
    let user = ["ps", "-o", "user:32=", "-p", &process];
    assert_eq!(container.run(user).ok().trim(), "infisical-gateway");
    let status = container.read(&format!("/proc/{process}/status"));
    let lines: Vec<&str> = status.lines().collect();
    for none in ["CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"] {
        let line = format!("{none}:\t0000000000000000");
        assert!(lines.contains(&line.as_str()), "{status}");
    }
    assert!(!status.contains("Uid:\t0"), "{status}");
    // What it was handed over is not for others.
    let unprivileged = ["setpriv", "--reuid=65534", "--clear-groups", "cat"];
    let places = [
        format!("/run/credentials/{UNIT}/gateway.conf"),
        format!("/proc/{process}/environ"),
    ];
    for place in places {
        let read = container.run(unprivileged.into_iter().chain([place.as_str()]));
        assert_ne!(read.status, Some(0), "{read:?}");
        assert!(read.stderr.contains("Permission denied"), "{read:?}");
    }
}

pub(super) fn assert_exposure(lab: &Lab, unit: &str, most: u32) {
    let release = lab.container.release().name;
    let exposure = lab.container.exposure(unit);
    println!("exposure of {unit} on {release}: {exposure} tenths, {most} at most");
    assert!(exposure <= most, "{exposure} tenths, {most} at most");
}

/// The service manager knows every line that the installer wrote for it.
pub(super) fn assert_no_warnings(lab: &Lab, unit: &str) {
    let verify = ["systemd-analyze", "verify", "--man=no", unit];
    let verified = lab.container.run(verify);
    let said = format!("{}{}", verified.stdout, verified.stderr);
    assert_eq!(verified.status, Some(0), "{said}");
    assert!(!said.contains("infisical-"), "{said}");
}

/// `unit`, which reads `configuration`, allows what is `open` and no more.
pub(super) fn assert_sandbox(lab: &Lab, unit: &str, configuration: &str, open: &[&str]) {
    let report = Report::read(&sandbox::probe(&lab.container, unit, configuration));
    assert_eq!(
        report.allowed,
        names(open),
        "what is possible, and what may be"
    );
    assert!(report.broken.is_empty(), "{:#?}", report.broken);
    let journal = sandbox::journal(&lab.container);
    assert!(journal.contains(probe::JOURNAL_LINE), "{journal}");
}

fn names(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|what| (*what).to_owned()).collect()
}

/// Things that are there on real machines and would be worth having for an intruder.
pub(super) fn prepare(container: &Container) {
    container.write("/home/someone/secret", "secret", 0o644);
    container.write("/root/secret", "secret", 0o644);
    for path in probe::CONFIGURATIONS {
        if container.run(["test", "-e", path]).status != Some(0) {
            container.write(path, "INFISICAL_TOKEN=secret\n", 0o600);
        }
    }
    container
        .run(["mkdir", "-p", "/run/systemd/transient"])
        .ok();
    // By hand, so that the list cannot be empty, and everything that listens here.
    let found = container
        .sh("find /run -type s -not -path '/run/host/inaccessible/*' | sort")
        .ok();
    for socket in [
        "/run/systemd/private",
        "/run/docker.sock",
        "/run/dbus/system_bus_socket",
    ] {
        assert!(found.lines().any(|line| line == socket), "{found}");
    }
    let victim = container.property("test-peer.service", "MainPID");
    container.write(probe::SOCKETS, &found, 0o644);
    container.write(probe::VICTIM, &victim, 0o644);
}

/// What the container may refuse to everyone; the sandbox's own refusal cannot be seen in it.
const LIMITS: &[&str] = &[
    "account processes",
    "get ports",
    "load a module",
    "load a module by descriptor",
    "make a kernel crypto socket",
    "make a vsock socket",
    "open /dev/kmsg",
    "open /dev/mem",
    "open /dev/sda",
    "open /dev/vda",
    "read the kernel's log",
    "replace the kernel",
    "set the clock",
    "swap",
    "unload a module",
];

/// The probe's lines, by what they say.
struct Report {
    refused: BTreeSet<String>,
    allowed: BTreeSet<String>,
    broken: BTreeSet<String>,
}

impl Report {
    fn read(text: &str) -> Self {
        let mut report = Self {
            refused: BTreeSet::new(),
            allowed: BTreeSet::new(),
            broken: BTreeSet::new(),
        };
        let mut works = 0;
        for line in text.lines() {
            let (verdict, what) = line.split_once(' ').unwrap_or((line, ""));
            let what = what
                .split_once(" (")
                .map_or(what, |(what, _)| what)
                .to_owned();
            match verdict {
                "refused" => report.refused.insert(what),
                "ALLOWED" => report.allowed.insert(what),
                "BROKEN" => report.broken.insert(line.to_owned()),
                "works" => {
                    works += 1;
                    true
                }
                _ => panic!("the probe says {line:?}"),
            };
        }
        assert!(works + report.broken.len() > 5, "{text}");
        assert!(report.refused.len() + report.allowed.len() > 50, "{text}");
        report
    }
}

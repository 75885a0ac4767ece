//! What a process can do from within the service, tried by one.

use std::collections::BTreeSet;

use crate::container::Container;
use crate::lab::Lab;
use crate::probe;
use crate::service::{self, UNIT, User};

/// What the sandbox leaves open.
const OPEN: &[&str] = &[
    // Abstract sockets belong to the network, which a gateway shares with its machine.
    "connect to an abstract socket",
];

pub(super) fn outside_of_it_nearly_everything_is_possible(lab: &mut Lab) {
    service::install(lab, User::Root);
    prepare(&lab.container);
    let report = Report::read(&service::probe_outside(&lab.container));
    // The container itself has limits; what it refuses is not asserted.
    let limits = names(LIMITS);
    let wrong = report.refused.difference(&limits);
    let wrong: Vec<_> = wrong
        .filter(|what| !what.contains(" at the mount "))
        .collect();
    assert!(wrong.is_empty(), "outside: {wrong:#?}");
    assert!(report.broken.is_empty(), "outside: {:#?}", report.broken);
}

pub(super) fn inside_as_root_only_what_is_needed_is_possible(lab: &mut Lab) {
    assert_sandbox(lab, User::Root);
}

pub(super) fn inside_as_a_user_only_what_is_needed_is_possible(lab: &mut Lab) {
    service::install(lab, User::Dynamic);
    assert_sandbox(lab, User::Dynamic);
}

pub(super) fn its_score_is_as_good_as_root_can_have(lab: &mut Lab) {
    assert_exposure(lab, 14);
}

pub(super) fn its_score_is_as_good_as_a_user_can_have(lab: &mut Lab) {
    assert_exposure(lab, 11);
}

fn assert_exposure(lab: &Lab, most: u32) {
    let release = lab.container.release().name;
    let exposure = lab.container.exposure(UNIT);
    println!("exposure on {release}: {exposure} tenths, {most} at most");
    assert!(exposure <= most, "{exposure} tenths, {most} at most");
}

fn assert_sandbox(lab: &Lab, user: User) {
    let report = Report::read(&service::probe(&lab.container, user));
    assert_eq!(
        report.allowed,
        names(OPEN),
        "what is possible, and what may be"
    );
    assert!(report.broken.is_empty(), "{:#?}", report.broken);
    let journal = lab.container.journal("infisical-probe.service");
    assert!(journal.contains(probe::JOURNAL_LINE), "{journal}");
}

fn names(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|what| (*what).to_owned()).collect()
}

/// Things that are there on real machines and would be worth having for an intruder.
fn prepare(container: &Container) {
    container.write("/home/someone/secret", "secret", 0o644);
    container.write("/root/secret", "secret", 0o644);
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

/// What the container may refuse to everybody; the sandbox's own refusal cannot be seen in it.
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

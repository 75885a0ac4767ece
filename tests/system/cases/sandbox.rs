//! What a process can do from within the service, tried by one.

use std::collections::BTreeSet;

use crate::container::Container;
use crate::lab::Lab;
use crate::probe;
use crate::service::{self, User};

/// What the root variant's sandbox leaves open, and why.
const OPEN_AS_ROOT: &[&str] = &[];

/// What the other variant's sandbox leaves open, and why.
const OPEN_AS_USER: &[&str] = &[];

pub(super) fn outside_of_it_nearly_everything_is_possible(lab: &mut Lab) {
    service::install(lab, User::Root);
    prepare(&lab.container);
    let report = Report::read(&lab.container, &service::probe_outside(&lab.container));
    // The container itself has limits; what it refuses is not asserted.
    let limits = limits();
    let wrong: Vec<_> = report.refused.difference(&limits).collect();
    assert!(wrong.is_empty(), "outside: {wrong:#?}");
    assert!(report.broken.is_empty(), "outside: {:#?}", report.broken);
}

pub(super) fn inside_as_root_only_what_is_needed_is_possible(lab: &mut Lab) {
    assert_sandbox(lab, User::Root, OPEN_AS_ROOT);
}

pub(super) fn inside_as_a_user_only_what_is_needed_is_possible(lab: &mut Lab) {
    service::install(lab, User::Dynamic);
    assert_sandbox(lab, User::Dynamic, OPEN_AS_USER);
}

fn assert_sandbox(lab: &Lab, user: User, open: &[&str]) {
    let report = Report::read(&lab.container, &service::probe(&lab.container, user));
    let open: BTreeSet<String> = open.iter().map(|what| (*what).to_owned()).collect();
    assert_eq!(report.allowed, open, "what is possible, and what may be");
    assert!(report.broken.is_empty(), "{:#?}", report.broken);
    let journal = lab.container.journal("infisical-probe.service");
    assert!(journal.contains(probe::JOURNAL_LINE), "{journal}");
}

/// Things that are there on real machines and would be worth having for an intruder.
fn prepare(container: &Container) {
    container.write("/home/someone/secret", "secret", 0o644);
    container.write("/root/secret", "secret", 0o644);
    container
        .run(["mkdir", "-p", "/run/systemd/transient"])
        .ok();
    // By hand, so that the list cannot be empty, and everything that listens here.
    let found = container.sh("find /run -type s | sort").ok();
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

/// What the container refuses to everybody.
fn limits() -> BTreeSet<String> {
    BTreeSet::new()
}

/// The probe's lines, by what they say.
struct Report {
    refused: BTreeSet<String>,
    allowed: BTreeSet<String>,
    broken: BTreeSet<String>,
}

impl Report {
    fn read(container: &Container, text: &str) -> Self {
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
        println!("{}:\n{text}", container.release().name);
        report
    }
}

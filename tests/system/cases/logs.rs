//! What the service says: in the journal, with the catalogue, and in a file.

use crate::container::Container;
use crate::lab::Lab;
use crate::service::{self, GATEWAY, UNIT, User};
use crate::wait;

/// Events by their ids, with what scripts wait for.
const CONTRACT: &[(&str, &str)] = &[
    (
        "2f522ea059514b94b52bb7b0e40b0413",
        "Successfully registered gateway and received certificates",
    ),
    (
        "b043ea7127b24e7da4e5351c77d67d07",
        "Gateway started successfully",
    ),
    (
        "26a33608608b4dddaa04633596cb9a07",
        "Gateway is reachable by Infisical",
    ),
];
/// Where the service is configured to log.
const LOG: &str = "/var/log/infisical/gateway.log";

pub(super) fn contract_lines_reach_the_journal_with_ids(lab: &mut Lab) {
    service::install(lab, User::Root);
    let container = &lab.container;
    for (id, text) in CONTRACT {
        let entry = wait::until(text, || {
            let mut entries = service::entries(container, UNIT, id);
            let only = entries.len() == 1;
            let last = entries.pop().ok_or("none")?;
            only.then_some(last).ok_or("several")
        });
        let message = entry["MESSAGE"].as_str().unwrap_or_default();
        assert!(message.starts_with(text), "{entry}");
        assert_eq!(entry["PRIORITY"], "6", "{entry}");
        assert_eq!(entry["SYSLOG_IDENTIFIER"], "infisical", "{entry}");
        // From the program's own entries, which standard error could not give.
        assert_eq!(entry["_TRANSPORT"], "journal", "{entry}");
    }
}

pub(super) fn the_catalogue_explains_them(lab: &mut Lab) {
    let container = &lab.container;
    container.run(["journalctl", "--update-catalog"]).ok();
    for (id, text) in CONTRACT {
        let filter = format!("MESSAGE_ID={id}");
        let look = ["journalctl", "-b", "-q", "-x", "-u", UNIT, &filter];
        let shown = container.run(look).ok();
        assert!(shown.contains(text), "{shown}");
        assert!(shown.contains("Defined-By: infisical"), "{shown}");
        assert!(shown.contains("Nothing is to be done."), "{shown}");
        // Fields of the entry are filled in.
        assert!(!shown.contains("@RELAY_HOST@"), "{shown}");
    }
}

pub(super) fn a_journal_that_stands_still_ends_nothing(lab: &mut Lab) {
    /// Lines for more than a socket's buffer and the queue.
    const SESSIONS: usize = 60;
    let container = &lab.container;
    service::drop_in(
        container,
        UNIT,
        "WatchdogSec=2\nEnvironment=INFISICAL_LOG_LEVEL=trace",
    );
    container.run(["systemctl", "restart", UNIT]).ok();
    lab.assert_session(GATEWAY);
    let before = service::invocation(container, UNIT);
    let signal = |name: &str| {
        let signal = format!("--signal={name}");
        let kill = ["systemctl", "kill", &signal, "systemd-journald.service"];
        container.run(kill).ok();
    };
    let answered = || -> u64 {
        let time = container.property(UNIT, "WatchdogTimestampMonotonic");
        time.parse().expect("a time")
    };
    signal("SIGSTOP");
    let stopped = answered();
    for _ in 0..SESSIONS {
        lab.assert_session(GATEWAY);
    }
    wait::until("answers to the watchdog", || {
        // Three times as long as it may be silent, in microseconds.
        let now = answered();
        (now > stopped + 6_000_000).then_some(()).ok_or(now)
    });
    assert_eq!(service::invocation(container, UNIT), before);
    signal("SIGCONT");
    lab.assert_session(GATEWAY);
    assert_eq!(service::invocation(container, UNIT), before);
    service::drop_in(container, UNIT, "");
    container.run(["systemctl", "restart", UNIT]).ok();
}

pub(super) fn moved_log_file_is_opened_again(lab: &mut Lab) {
    assert_rotated(lab, User::Root);
}

/// The directory changes hands.
pub(super) fn unprivileged_services_moved_log_is_opened_again(lab: &mut Lab) {
    assert_rotated(lab, User::Dynamic);
}

fn assert_rotated(lab: &Lab, user: User) {
    const BEGIN: &str = "Gateway started successfully";
    let mut words = service::words(lab, user);
    words.extend(["--log-file".to_owned(), LOG.to_owned()]);
    lab.container.run(words).ok();
    let container = &lab.container;
    let process = container.property(UNIT, "MainPID");
    wait_for(container, BEGIN);
    let rotate = ["logrotate", "-f", "/etc/logrotate.d/infisical"];
    container.run(rotate).ok();
    let old = format!("{LOG}.1");
    assert!(container.read(&old).contains(BEGIN));
    wait::until("a new file", || {
        let there = container.run(["test", "-e", LOG]);
        (there.status == Some(0)).then_some(()).ok_or("none yet")
    });
    let before = container.read(&old);
    container.run(["systemctl", "reload", UNIT]).ok();
    wait_for(
        container,
        match user {
            User::Root => "configuration reloaded",
            // It does not know whether the file was changed.
            User::Dynamic => "handed over at the start",
        },
    );
    assert_eq!(container.read(&old), before, "the old file is left alone");
    assert_eq!(container.property(UNIT, "MainPID"), process);
    lab.assert_session(GATEWAY);
    let secret = service::secret(container);
    lab.assert_hidden(&secret);
    assert!(!container.read(&old).contains(&secret));
    // Lines of a service may name whom it serves.
    let mode = container.run(["stat", "--format=%a", LOG]).ok();
    assert!(matches!(mode.trim(), "600" | "640"), "{mode}");
}

#[track_caller]
fn wait_for(container: &Container, part: &str) {
    wait::until(&format!("{part:?} in the file"), || {
        let log = container.sh(&format!("cat {LOG}")).stdout;
        log.contains(part).then_some(()).ok_or(log)
    });
}

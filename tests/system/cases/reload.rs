//! `systemctl reload`, while someone is using the tunnel.

use crate::lab::Lab;
use crate::service::{self, CONFIGURATION, GATEWAY, UNIT, User};
use crate::wait;

pub(super) fn reload_cuts_no_session_and_reports(lab: &mut Lab) {
    service::install(lab, User::Root);
    let container = &lab.container;
    let mut session = lab.session(GATEWAY);
    session.exchange(b"before");
    let before = service::invocation(container, UNIT);
    assert!(!container.journal(UNIT).contains("DEBUG"));
    service::set(container, CONFIGURATION, "INFISICAL_LOG_LEVEL", "debug");
    container.run(["systemctl", "reload", UNIT]).ok();
    service::wait_for_line(container, UNIT, "configuration reloaded");
    session.exchange(b"after");
    lab.assert_session(GATEWAY);
    // Each connection is logged at that level.
    let debug = [
        "journalctl",
        "-b",
        "-q",
        "-o",
        "cat",
        "-u",
        UNIT,
        "-p",
        "7..7",
    ];
    wait::until("debug lines", || {
        let lines = container.run(debug).ok();
        (lines.lines().count() > 1).then_some(()).ok_or(lines)
    });
    assert_eq!(service::invocation(container, UNIT), before);
    assert_eq!(container.property(UNIT, "NRestarts"), "0");
    assert_eq!(session.finish(), b"");
}

pub(super) fn wrong_configuration_is_not_loaded(lab: &mut Lab) {
    let container = &lab.container;
    let mut session = lab.session(GATEWAY);
    session.exchange(b"before");
    service::set(container, CONFIGURATION, "INFISICAL_LOG_LEVEL", "loud");
    container.run(["systemctl", "reload", UNIT]).ok();
    let status = service::wait_for_status(container, UNIT, "configuration not reloaded");
    assert!(status.contains("INFISICAL_LOG_LEVEL"), "{status}");
    assert!(status.contains("connected to relay-one"), "{status}");
    service::wait_for_line(
        container,
        UNIT,
        "configuration not reloaded; the old one is still in use",
    );
    assert_eq!(container.property(UNIT, "ActiveState"), "active");
    session.exchange(b"after");
    lab.assert_session(GATEWAY);
    service::set(container, CONFIGURATION, "INFISICAL_LOG_LEVEL", "info");
    container.run(["systemctl", "reload", UNIT]).ok();
    wait::until("a status without complaint", || {
        let status = container.property(UNIT, "StatusText");
        let good = !status.contains("not reloaded");
        good.then_some(()).ok_or(status)
    });
    assert_eq!(session.finish(), b"");
}

pub(super) fn reload_moves_the_tunnel_to_another_relay(lab: &mut Lab) {
    lab.start_relay_two();
    let container = &lab.container;
    let mut session = lab.session(GATEWAY);
    session.exchange(b"by the first relay");
    let before = service::invocation(container, UNIT);
    service::set(
        container,
        CONFIGURATION,
        "INFISICAL_RELAY_NAME",
        "relay-two",
    );
    container.run(["systemctl", "reload", UNIT]).ok();
    service::wait_for_status(container, UNIT, "connected to relay-two");
    session.exchange(b"still by the first relay");
    lab.assert_session(GATEWAY);
    // Nothing new comes by the first one.
    let relays = ["sh", "-c", "cat /run/infisical-gateway/online"];
    assert_eq!(container.run(relays).ok(), "relay-two\n");
    assert_eq!(session.finish(), b"");
    assert_eq!(service::invocation(container, UNIT), before);
}

pub(super) fn a_relay_that_restarts_is_found_again(lab: &mut Lab) {
    let container = &lab.container;
    let restart = ["systemctl", "restart", "test-relay-two"];
    container.run(restart).ok();
    lab.assert_session(GATEWAY);
    service::wait_for_status(container, UNIT, "connected to relay-two");
    let journal = container.journal(UNIT);
    assert!(journal.contains("the tunnel is up again"), "{journal}");
}

pub(super) fn unprivileged_reload_fails_after_a_change(lab: &mut Lab) {
    service::install(lab, User::Dynamic);
    let container = &lab.container;
    let mut session = lab.session(GATEWAY);
    session.exchange(b"before");
    let before = service::invocation(container, UNIT);
    // Nothing was changed: the reload is a wish to try again.
    container.run(["systemctl", "reload", UNIT]).ok();
    service::wait_for_line(container, UNIT, "handed over at the start");
    service::set(container, CONFIGURATION, "INFISICAL_LOG_LEVEL", "debug");
    let refused = container.run(["systemctl", "reload", UNIT]);
    assert_eq!(refused.status, Some(1), "{refused:?}");
    let restart = format!("systemctl restart '{UNIT}'");
    service::wait_for_line(container, UNIT, &restart);
    let fix = "sudo systemctl restart infisical-gateway";
    service::assert_diagnosis(container, "credentials", fix);
    // It goes on as it was.
    assert_eq!(service::invocation(container, UNIT), before);
    assert_eq!(container.property(UNIT, "ActiveState"), "active");
    session.exchange(b"after");
    assert_eq!(session.finish(), b"");
    container.run(["systemctl", "restart", UNIT]).ok();
    lab.assert_session(GATEWAY);
    container.run(["systemctl", "reload", UNIT]).ok();
}

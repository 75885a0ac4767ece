//! More than one gateway on one machine.

use crate::lab::{Lab, PROGRAM};
use crate::service::{self, GATEWAY, UNIT, User};

use super::sandbox;

/// The other gateway, and its unit.
const OTHER: &str = "second";
const OTHER_UNIT: &str = "second.service";
const OTHER_CONFIGURATION: &str = "/etc/infisical/gateways/second.conf";

/// Installs the other one, not as root.
fn install(lab: &Lab) -> String {
    let token = service::token_file(lab, OTHER);
    let words = [PROGRAM, "gateway", "systemd", "install", OTHER];
    let words = words.map(str::to_owned).into_iter();
    let words = words.chain(service::enrollment(lab, &token));
    lab.container.run(words.chain(["--user".to_owned()])).ok()
}

pub(super) fn a_named_gateway_serves_beside_the_first(lab: &mut Lab) {
    service::install(lab, User::Root);
    let before = service::invocation(&lab.container, UNIT);
    let account = install(lab);
    assert!(account.contains("systemctl status second\n"), "{account}");
    assert!(account.contains("journalctl -u second\n"), "{account}");
    let container = &lab.container;
    for unit in [UNIT, OTHER_UNIT] {
        assert_eq!(container.property(unit, "ActiveState"), "active");
        service::wait_for_status(container, unit, "connected to relay-one");
    }
    let mode = ["stat", "--format=%U %a", OTHER_CONFIGURATION];
    assert_eq!(container.run(mode).ok(), "root 600\n");
    for file in ["infisical-gateway", "infisical-gateway@second"] {
        let online = format!("/run/{file}/online");
        assert_eq!(container.read(&online), "relay-one\n");
    }
    lab.assert_session(GATEWAY);
    lab.assert_session(OTHER);
    let wait = [PROGRAM, "gateway", "wait-online", OTHER, "--timeout=60"];
    container.run(wait).ok();
    assert_eq!(service::invocation(container, UNIT), before);
    lab.assert_hidden(&service::secret_in(container, OTHER_CONFIGURATION));
}

pub(super) fn the_other_is_as_well_protected(lab: &mut Lab) {
    sandbox::assert_exposure(lab, OTHER_UNIT, 11);
    sandbox::assert_no_warnings(lab, OTHER_UNIT);
    let container = &lab.container;
    let user = |unit| {
        let process = container.property(unit, "MainPID");
        container
            .run(["stat", "--format=%u", &format!("/proc/{process}")])
            .ok()
    };
    assert_eq!(user(UNIT), "0\n");
    assert_ne!(user(OTHER_UNIT), "0\n");
}

pub(super) fn stopping_one_leaves_the_other(lab: &mut Lab) {
    let container = &lab.container;
    let mut session = lab.session(OTHER);
    session.exchange(b"before");
    container.run(["systemctl", "stop", UNIT]).ok();
    session.exchange(b"after");
    lab.assert_session(OTHER);
    lab.try_session(GATEWAY).expect_err("it is stopped");
    assert_eq!(session.finish(), b"");
    container.run(["systemctl", "start", UNIT]).ok();
    container.run(["systemctl", "stop", OTHER_UNIT]).ok();
    lab.assert_session(GATEWAY);
    container.run(["systemctl", "start", OTHER_UNIT]).ok();
}

pub(super) fn both_are_back_after_a_reboot(lab: &mut Lab) {
    lab.container.reboot();
    lab.assert_session(GATEWAY);
    lab.assert_session(OTHER);
}

pub(super) fn uninstalling_one_leaves_the_other(lab: &mut Lab) {
    let container = &lab.container;
    let before = service::invocation(container, OTHER_UNIT);
    let words = [PROGRAM, "gateway", "systemd", "uninstall"];
    container.run(words).ok();
    assert_eq!(container.property(UNIT, "LoadState"), "not-found");
    lab.assert_session(OTHER);
    assert_eq!(service::invocation(container, OTHER_UNIT), before);
    service::install(lab, User::Root);
    let words = [PROGRAM, "gateway", "systemd", "uninstall", OTHER];
    lab.container.run(words).ok();
    lab.assert_session(GATEWAY);
}

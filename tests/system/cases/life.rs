//! The life of the service: it starts, serves, survives its own death and that of the machine.

use crate::lab::{DOMAIN, Lab, PROGRAM};
use crate::service::{self, GATEWAY, UNIT, User};
use crate::wait;

pub(super) fn the_service_starts_and_says_how_it_is(lab: &mut Lab) {
    service::install(lab, User::Root);
    let container = &lab.container;
    let version = container.run(["systemctl", "--version"]).ok();
    let expected = format!("systemd {} ", container.release().systemd);
    assert!(version.starts_with(&expected), "{version}");
    assert_eq!(container.property(UNIT, "ActiveState"), "active");
    wait::until("a status", || {
        let status = container.property(UNIT, "StatusText");
        let told = status.contains("connected");
        told.then_some(()).ok_or(status)
    });
    let journal = container.journal(UNIT);
    assert!(
        journal.contains("Gateway started successfully"),
        "{journal}"
    );
}

pub(super) fn a_session_reaches_its_target(lab: &mut Lab) {
    lab.assert_session(GATEWAY);
    let mut session = lab.session(GATEWAY);
    session.exchange(b"one");
    session.exchange(b"two");
    assert_eq!(session.finish(), b"");
}

pub(super) fn targets_are_resolved_again_when_the_network_is_back(lab: &mut Lab) {
    lab.unplug();
    wait::until("the network's end", || match lab.try_session(GATEWAY) {
        Ok(()) => Err("names still resolve"),
        Err(_) => Ok(()),
    });
    lab.plug_in();
    lab.assert_session(GATEWAY);
}

pub(super) fn its_secret_is_nowhere_to_be_seen(lab: &mut Lab) {
    lab.assert_hidden(&service::secret(&lab.container));
}

pub(super) fn a_killed_gateway_comes_back(lab: &mut Lab) {
    let container = &lab.container;
    let before = container.property(UNIT, "MainPID");
    let kill = ["systemctl", "kill", "--signal=SIGKILL", UNIT];
    container.run(kill).ok();
    wait::until("another process", || {
        let state = container.property(UNIT, "ActiveState");
        let now = container.property(UNIT, "MainPID");
        let again = state == "active" && now != before && now != "0";
        again.then_some(()).ok_or_else(|| format!("{state} {now}"))
    });
    assert_eq!(container.property(UNIT, "NRestarts"), "1");
    lab.assert_session(GATEWAY);
}

pub(super) fn it_is_back_after_a_reboot(lab: &mut Lab) {
    lab.container.reboot();
    assert_eq!(lab.container.property(UNIT, "ActiveState"), "active");
    lab.assert_session(GATEWAY);
}

pub(super) fn it_is_back_after_the_power_was_off(lab: &mut Lab) {
    lab.container.poweroff();
    lab.container.power_on();
    assert_eq!(lab.container.property(UNIT, "ActiveState"), "active");
    lab.assert_session(GATEWAY);
}

pub(super) fn a_second_gateway_enrolls_beside_the_first(lab: &mut Lab) {
    let token = lab.enrollment_token("second");
    lab.container.write("/root/second.token", &token, 0o600);
    let run = [
        "systemd-run",
        "--unit=test-second",
        "--service-type=notify",
        "--setenv=HOME=/root",
        PROGRAM,
        "gateway",
        "start",
        "second",
        "--enroll-method=token",
        "--token-file=/root/second.token",
        "--domain",
        DOMAIN,
    ];
    lab.container.run(run).ok();
    lab.assert_session("second");
    lab.assert_session(GATEWAY);
}

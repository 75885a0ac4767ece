//! A gateway hands over to a new version of its program under a real service manager, in the layout
//! of packages.

use crate::lab::{Lab, PROGRAM};
use crate::service::{self, CONFIGURATION, GATEWAY, UNIT, User};
use crate::wait;

/// Where packages keep the program, and the name by which it is called.
const FILE: &str = "/usr/lib/infisical-gateway/infisical-gateway";
const COMMAND: &str = "/usr/bin/infisical-gateway";

/// Puts another file of the program in the place of the one that runs, as a package manager does.
fn replace(lab: &Lab) {
    let container = &lab.container;
    container.run(["cp", PROGRAM, &format!("{FILE}.new")]).ok();
    container.run(["mv", &format!("{FILE}.new"), FILE]).ok();
}

fn install(lab: &Lab, user: User) {
    let mut words = service::words(lab, user);
    COMMAND.clone_into(&mut words[0]);
    lab.container.run(words).ok();
    service::wait_for_status(&lab.container, UNIT, "connected to relay-one");
}

/// Upgrades the program and hands over; fails if a session is cut or the unit is restarted.
fn hand_over(lab: &Lab) {
    let container = &lab.container;
    let mut session = lab.session(GATEWAY);
    session.exchange(b"before");
    let pid = container.property(UNIT, "MainPID");
    let before = service::invocation(container, UNIT);
    replace(lab);
    let told = container.run([COMMAND, "gateway", "upgrade"]).ok();
    assert!(told.contains("was handed over from process"), "{told}");
    assert_ne!(container.property(UNIT, "MainPID"), pid);
    assert_eq!(service::invocation(container, UNIT), before);
    assert_eq!(container.property(UNIT, "NRestarts"), "0");
    assert_eq!(container.property(UNIT, "ActiveState"), "active");
    service::wait_for_status(container, UNIT, "connected to relay-one");
    session.exchange(b"after");
    lab.assert_session(GATEWAY);
    assert_eq!(session.finish(), b"");
    wait::until("the end of the process before", || {
        let runs = container.run(["test", "-d", &format!("/proc/{pid}")]);
        (runs.status != Some(0)).then_some(()).ok_or("it runs")
    });
    assert_eq!(container.property(UNIT, "ActiveState"), "active");
    lab.assert_session(GATEWAY);
    let journal = container.journal(UNIT);
    assert!(!journal.contains("not our child"), "{journal}");
    assert!(!journal.contains("reception only permitted"), "{journal}");
}

/// Processes of the gateway's service.
fn processes(lab: &Lab) -> String {
    let group = "/sys/fs/cgroup/system.slice/infisical-gateway.service/cgroup.procs";
    lab.container.sh(&format!("cat {group} 2>/dev/null")).stdout
}

pub(super) fn upgraded_program_takes_over_without_a_restart(lab: &mut Lab) {
    let container = &lab.container;
    container
        .run(["mkdir", "-p", "/usr/lib/infisical-gateway"])
        .ok();
    replace(lab);
    container.run(["ln", "-s", FILE, COMMAND]).ok();
    install(lab, User::Root);
    assert!(container.property(UNIT, "ExecStart").contains(COMMAND));
    hand_over(lab);
    hand_over(lab);
}

pub(super) fn successor_that_fails_changes_nothing(lab: &mut Lab) {
    let container = &lab.container;
    let mut session = lab.session(GATEWAY);
    session.exchange(b"before");
    let pid = container.property(UNIT, "MainPID");
    let good = container.read(CONFIGURATION);
    container.write(CONFIGURATION, &format!("{good}no setting\n"), 0o600);
    replace(lab);
    let told = container.run([COMMAND, "gateway", "upgrade"]);
    assert_eq!(told.status, Some(69), "{told:?}");
    assert!(told.stderr.contains("serves on as before"), "{told:?}");
    assert_eq!(container.property(UNIT, "MainPID"), pid);
    service::wait_for_status(container, UNIT, "the new version did not come up");
    container.write(CONFIGURATION, &good, 0o600);
    session.exchange(b"after");
    assert_eq!(session.finish(), b"");
    assert_eq!(processes(lab).trim(), pid);
    hand_over(lab);
}

pub(super) fn stop_leaves_no_process_behind(lab: &mut Lab) {
    let container = &lab.container;
    for verb in ["restart", "stop"] {
        // It keeps the process before alive meanwhile.
        let mut session = lab.session(GATEWAY);
        session.exchange(b"before");
        let before = processes(lab);
        container.run([COMMAND, "gateway", "upgrade"]).ok();
        assert_eq!(processes(lab).lines().count(), 2);
        container.run(["systemctl", verb, UNIT]).ok();
        let after = processes(lab);
        assert!(before.lines().all(|pid| !after.contains(pid)), "{after}");
        drop(session);
    }
    assert_eq!(processes(lab), "");
    assert_eq!(container.property(UNIT, "Result"), "success");
    let told = container.run([COMMAND, "gateway", "upgrade"]).ok();
    assert!(told.contains("does not run"), "{told}");
    container.run(["systemctl", "start", UNIT]).ok();
}

pub(super) fn crashed_successor_is_restarted(lab: &mut Lab) {
    let container = &lab.container;
    let mut session = lab.session(GATEWAY);
    session.exchange(b"before");
    container.run([COMMAND, "gateway", "upgrade"]).ok();
    let crash = [
        "systemctl",
        "kill",
        "--kill-who=main",
        "--signal=KILL",
        UNIT,
    ];
    container.run(crash).ok();
    wait::until("a restart", || {
        let restarts = container.property(UNIT, "NRestarts");
        (restarts == "1").then_some(()).ok_or(restarts)
    });
    drop(session);
    lab.assert_session(GATEWAY);
}

pub(super) fn unprivileged_service_hands_over(lab: &mut Lab) {
    let uninstall = [COMMAND, "gateway", "systemd", "uninstall"];
    lab.container.run(uninstall).ok();
    install(lab, User::Dynamic);
    hand_over(lab);
}

pub(super) fn program_elsewhere_is_restarted_visibly(lab: &mut Lab) {
    let container = &lab.container;
    let uninstall = [COMMAND, "gateway", "systemd", "uninstall"];
    container.run(uninstall).ok();
    service::install(lab, User::Root);
    service::wait_for_status(container, UNIT, "connected to relay-one");
    let new = format!("{PROGRAM}.new");
    container.run(["cp", PROGRAM, &new]).ok();
    container.run(["mv", &new, PROGRAM]).ok();
    let before = service::invocation(container, UNIT);
    let told = container.run([PROGRAM, "gateway", "upgrade", "--no-restart"]);
    assert_eq!(told.status, Some(1), "{told:?}");
    assert!(told.stdout.contains("must be restarted"), "{told:?}");
    assert_eq!(service::invocation(container, UNIT), before);
    let told = container.run([PROGRAM, "gateway", "upgrade"]).ok();
    assert!(told.contains("cannot be executed from here"), "{told}");
    assert!(told.contains("was restarted"), "{told}");
    assert_ne!(service::invocation(container, UNIT), before);
    lab.assert_session(GATEWAY);
}

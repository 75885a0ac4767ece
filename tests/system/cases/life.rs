//! The life of the service: it starts, serves, survives its own death and that of the machine.

use std::time::Instant;

use serde_json::Value;

use crate::lab::{Lab, PROGRAM};
use crate::service::{self, GATEWAY, UNIT, User};
use crate::wait;

pub(super) fn installed_service_reports_its_status(lab: &mut Lab) {
    let version = lab.container.run(["systemctl", "--version"]).ok();
    let expected = format!("systemd {} ", lab.container.release().systemd);
    assert!(version.starts_with(&expected), "{version}");
    let account = service::install(lab, User::Root);
    for part in [
        "infisical-gateway.service is active",
        "systemctl status infisical-gateway",
        "journalctl -u infisical-gateway",
    ] {
        assert!(account.contains(part), "{account}");
    }
    let container = &lab.container;
    assert_eq!(container.property(UNIT, "ActiveState"), "active");
    let enabled = container.run(["systemctl", "is-enabled", UNIT]).ok();
    assert_eq!(enabled, "enabled\n");
    service::wait_for_status(container, UNIT, "connected to relay-one, 0 sessions");
    service::wait_for_status(container, UNIT, "certificate renews in ");
    let status = container.run(["systemctl", "status", "--no-pager", UNIT]);
    let status = status.ok();
    assert!(status.contains("connected to relay-one"), "{status}");
    let shown = container.run([PROGRAM, "gateway", "status"]).ok();
    assert!(shown.contains("relay: relay-one"), "{shown}");
    container.run([PROGRAM, "gateway", "healthcheck"]).ok();
    let socket = "/run/infisical-gateway/status.sock";
    let owner = ["stat", "--format=%U %a", socket];
    assert_eq!(container.run(owner).ok(), "root 600\n");
    let stranger = ["setpriv", "--reuid=65534", "--clear-groups", PROGRAM];
    let refused = container.run([&stranger[..], &["gateway", "status"]].concat());
    let advice = refused.exits(2);
    assert!(advice.contains("sudo infisical gateway status"), "{advice}");
    let owner = ["stat", "--format=%U %a", service::CONFIGURATION];
    assert_eq!(container.run(owner).ok(), "root 600\n");
    let owner = ["stat", "--format=%U %a", "/etc/infisical"];
    assert_eq!(container.run(owner).ok(), "root 700\n");
}

/// What it took is printed: a healthy installation is examined within 3 s.
pub(super) fn doctor_finds_nothing_wrong(lab: &mut Lab) {
    /// The platform of the lab is asked by plain HTTP, and memory is accounted for on some machines
    /// only.
    const OPTIONAL: &[&str] = &["platform-tls", "memory"];
    let container = &lab.container;
    service::wait_for_line(container, UNIT, "Gateway is reachable by Infisical");
    let begin = Instant::now();
    let found = container.run([PROGRAM, "gateway", "doctor", "--json"]);
    let took = begin.elapsed();
    let found = found.ok();
    println!("doctor took {:.2} s", took.as_secs_f64());
    let json: Value = serde_json::from_str(&found).expect("JSON");
    let checks = json["checks"].as_array().expect("checks");
    assert!(checks.len() > 15, "{json:#}");
    for check in checks {
        let id = check["id"].as_str().expect("an id");
        let is_good = check["status"] == "ok";
        let is_optional = OPTIONAL.contains(&id) && check["status"] == "skipped";
        assert!(is_good || is_optional, "{check:#}");
        // No check ran into its deadline.
        assert!(!check.to_string().contains("no answer"), "{check:#}");
    }
    assert_eq!((&json["cause"], &json["fix"]), (&Value::Null, &Value::Null));
    let text = container.run([PROGRAM, "gateway", "doctor"]).ok();
    let (lines, verdict) = text.split_once("\n\n").expect("an empty line");
    assert_eq!(verdict, "Nothing is wrong.\n", "{text}");
    assert_eq!(lines.lines().count(), checks.len(), "{text}");
    let is_green = |line: &str| line.starts_with("ok ") || line.starts_with("not checked ");
    assert!(lines.lines().all(is_green), "{text}");
    println!("{text}");
}

pub(super) fn doctor_names_the_units_fault(lab: &mut Lab) {
    let container = &lab.container;
    for (spoil, cure, fix) in [
        (
            "disable",
            "enable",
            "sudo systemctl enable infisical-gateway",
        ),
        ("stop", "start", "sudo systemctl start infisical-gateway"),
    ] {
        container.run(["systemctl", spoil, UNIT]).ok();
        service::assert_diagnosis(container, "unit", fix);
        container.run(["systemctl", cure, UNIT]).ok();
    }
    service::wait_for_status(container, UNIT, "connected to relay-one");
}

/// And writes its bundle, with the journal and without the token.
pub(super) fn doctor_names_a_weaker_sandbox(lab: &mut Lab) {
    let container = &lab.container;
    service::drop_in(container, UNIT, "NoNewPrivileges=no");
    let fix = "Remove NoNewPrivileges= from /etc/systemd/system/infisical-gateway.service.d/override.conf";
    service::assert_diagnosis(container, "hardened", fix);
    service::drop_in(container, UNIT, "");
    container
        .run([PROGRAM, "gateway", "doctor", "--bundle", "/root/bundle.tar"])
        .ok();
    let all = container.run(["tar", "-xOf", "/root/bundle.tar"]).ok();
    assert!(all.contains("Gateway is reachable by Infisical"), "{all}");
    assert!(all.contains("NoNewPrivileges=yes"), "{all}");
    assert!(!all.contains(&service::secret(container)), "{all}");
}

pub(super) fn a_session_reaches_its_target(lab: &mut Lab) {
    lab.assert_session(GATEWAY);
    let mut session = lab.session(GATEWAY);
    session.exchange(b"one");
    service::wait_for_status(&lab.container, UNIT, "1 session,");
    session.exchange(b"two");
    assert_eq!(session.finish(), b"");
}

pub(super) fn targets_resolve_again_after_a_network_outage(lab: &mut Lab) {
    lab.unplug();
    wait::until("the network's end", || match lab.try_session(GATEWAY) {
        Ok(()) => Err("names still resolve"),
        Err(_) => Ok(()),
    });
    lab.plug_in();
    lab.assert_session(GATEWAY);
}

pub(super) fn its_secrets_are_nowhere_to_be_seen(lab: &mut Lab) {
    let container = &lab.container;
    lab.assert_hidden(&service::secret(container));
    let spent = container.read(&service::token_file(lab, GATEWAY));
    lab.assert_hidden(spent.trim());
}

pub(super) fn stop_waits_for_running_transfers(lab: &mut Lab) {
    let container = &lab.container;
    let mut session = lab.session(GATEWAY);
    session.transfer(1);
    container
        .run(["systemctl", "stop", "--no-block", UNIT])
        .ok();
    service::wait_for_status(container, UNIT, "stopping, waiting for 1 session");
    assert_eq!(container.property(UNIT, "ActiveState"), "deactivating");
    session.transfer(8);
    assert_eq!(session.finish(), b"");
    service::wait_for_state(container, UNIT, "inactive");
    assert_eq!(container.property(UNIT, "ExecMainStatus"), "0");
    assert_eq!(container.property(UNIT, "Result"), "success");
    container.run(["systemctl", "start", UNIT]).ok();
    lab.assert_session(GATEWAY);
}

pub(super) fn a_killed_gateway_comes_back(lab: &mut Lab) {
    /// More often than units usually may in a short time.
    const TIMES: usize = 6;
    let container = &lab.container;
    let watchdog = container.property(UNIT, "WatchdogUSec");
    assert_eq!(watchdog, "30s", "as installed");
    // As installed it waits longer before each attempt, up to a minute.
    let at_once = "RestartSec=100ms\nRestartMaxDelaySec=infinity\nWatchdogSec=2";
    service::drop_in(container, UNIT, at_once);
    container.run(["systemctl", "restart", UNIT]).ok();
    for _ in 0..TIMES {
        let before = service::invocation(container, UNIT);
        let kill = ["systemctl", "kill", "--signal=SIGKILL", UNIT];
        container.run(kill).ok();
        service::wait_for_another(container, UNIT, &before);
    }
    assert_eq!(container.property(UNIT, "NRestarts"), TIMES.to_string());
    lab.assert_session(GATEWAY);
}

pub(super) fn watchdog_restarts_a_hung_gateway(lab: &mut Lab) {
    let container = &lab.container;
    let before = service::invocation(container, UNIT);
    let stop = ["systemctl", "kill", "--signal=SIGSTOP", UNIT];
    container.run(stop).ok();
    service::wait_for_another(container, UNIT, &before);
    let why = ["journalctl", "-b", "-q", "-o", "cat", "-u", UNIT];
    let why = container.run(why).ok();
    assert!(why.contains("Watchdog timeout"), "{why}");
    lab.assert_session(GATEWAY);
    // It is not the watchdog that ends it now and then: it answers in time while it works.
    let again = service::invocation(container, UNIT);
    let mut session = lab.session(GATEWAY);
    let seen = container.property(UNIT, "WatchdogTimestampMonotonic");
    wait::until("answers to the watchdog", || {
        session.exchange(b"meanwhile");
        let now = container.property(UNIT, "WatchdogTimestampMonotonic");
        let seen: u64 = seen.parse().expect("a time");
        let now: u64 = now.parse().expect("a time");
        // Three times as long as it may be silent, in microseconds.
        let long = now > seen + 6_000_000;
        long.then_some(()).ok_or_else(|| now.to_string())
    });
    assert_eq!(service::invocation(container, UNIT), again);
}

pub(super) fn it_is_back_after_a_reboot(lab: &mut Lab) {
    lab.container.reboot();
    assert_eq!(lab.container.property(UNIT, "ActiveState"), "active");
    lab.assert_session(GATEWAY);
}

pub(super) fn service_is_back_after_a_power_failure(lab: &mut Lab) {
    lab.container.poweroff();
    lab.container.power_on();
    assert_eq!(lab.container.property(UNIT, "ActiveState"), "active");
    lab.assert_session(GATEWAY);
}

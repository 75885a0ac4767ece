//! The embedded platform as an installed service.

use std::net::Ipv4Addr;

use infisical_runtime::events::{self, Event};

use super::sandbox;
use crate::lab::{Lab, PROGRAM};
use crate::support::x509::{Ca, Leaf};
use crate::{service, wait};

const UNIT: &str = "infisical-platform.service";
const INSTALL: [&str; 4] = [PROGRAM, "platform", "systemd", "install"];
const STATE: &str = "/var/lib/infisical-platform";
const BY_HAND: &str = "/var/lib/infisical/platform";

/// What the administrator sees of it, without saying where the token is.
#[track_caller]
fn assert_serves(lab: &Lab) {
    let list = [PROGRAM, "platform", "relay", "list"];
    let relays = lab.container.run(list).ok();
    assert!(relays.contains("relay-one"), "{relays}");
}

pub(super) fn manually_started_platforms_state_is_moved(lab: &mut Lab) {
    let container = &lab.container;
    container
        .run([
            "systemctl",
            "disable",
            "--now",
            "test-relay",
            "test-platform",
        ])
        .ok();
    let refused = container.run(INSTALL);
    assert_eq!(refused.status, Some(78), "{refused:?}");
    assert!(
        refused.stderr.contains(&format!("mv {BY_HAND} {STATE}")),
        "{refused:?}"
    );
    assert_eq!(container.property(UNIT, "LoadState"), "not-found");
    container.run(["mv", BY_HAND, STATE]).ok();
}

pub(super) fn installed_platform_serves_as_its_own_user(lab: &mut Lab) {
    let container = &lab.container;
    container.run(INSTALL).ok();
    assert_eq!(container.property(UNIT, "ActiveState"), "active");
    assert_eq!(container.property(UNIT, "UnitFileState"), "enabled");
    assert_serves(lab);
    let process = container.property(UNIT, "MainPID");
    let status = container.read(&format!("/proc/{process}/status"));
    assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    assert!(!status.contains("Uid:\t0"), "{status}");
    let owner = container.run(["stat", "--format=%a", &format!("{STATE}/admin-token")]);
    assert_eq!(owner.ok().trim(), "600");
    let token = container.read(&format!("{STATE}/admin-token"));
    lab.assert_hidden(token.trim());
}

pub(super) fn sandbox_score_as_user_is_best(lab: &mut Lab) {
    sandbox::assert_exposure(lab, UNIT, 11);
    sandbox::assert_no_warnings(lab, UNIT);
}

pub(super) fn watchdog_restarts_a_hung_platform(lab: &mut Lab) {
    let container = &lab.container;
    assert_eq!(
        container.property(UNIT, "WatchdogUSec"),
        "30s",
        "as installed"
    );
    service::drop_in(container, UNIT, "RestartSec=100ms\nWatchdogSec=2");
    container.run(["systemctl", "restart", UNIT]).ok();
    let before = service::invocation(container, UNIT);
    let stop = ["systemctl", "kill", "--signal=SIGSTOP", UNIT];
    container.run(stop).ok();
    service::wait_for_another(container, UNIT, &before);
    assert_serves(lab);
}

pub(super) fn repeated_command_changes_only_differences(lab: &mut Lab) {
    let container = &lab.container;
    let before = service::invocation(container, UNIT);
    container.run(INSTALL).ok();
    assert_eq!(service::invocation(container, UNIT), before);
    let named = [&INSTALL[..], &["--organization", "50% of $us"]].concat();
    container.run(named).ok();
    assert_ne!(service::invocation(container, UNIT), before);
    assert_serves(lab);
    let process = container.property(UNIT, "MainPID");
    let words = container.read(&format!("/proc/{process}/cmdline"));
    assert!(words.contains("--organization=50% of $us"), "{words}");
}

/// A client of ACME replaces files that root alone may read, by links that lead elsewhere.
pub(super) fn reload_takes_a_renewed_certificate(lab: &mut Lab) {
    let container = &lab.container;
    // Where the unit has an empty directory.
    let folder = "/var/lib/test-acme";
    let put = |number: u32, certificate: &str, key: &str| {
        container.write(&format!("{folder}/cert{number}.pem"), certificate, 0o600);
        container.write(&format!("{folder}/key{number}.pem"), key, 0o600);
        let link = format!(
            "cd {folder} && ln -sf cert{number}.pem cert.pem && ln -sf key{number}.pem key.pem"
        );
        container.sh(&link).ok();
    };
    let ca = Ca::root("test");
    let pair = || ca.sign(&Leaf::relay_server(Ipv4Addr::LOCALHOST));
    container.write(&format!("{folder}/ca.pem"), &ca.pem(), 0o644);
    let first = pair();
    put(1, &first.certificate, &first.key);
    let [certificate, key] = ["cert", "key"].map(|name| format!("{folder}/{name}.pem"));
    let options = ["--tls-cert", &certificate, "--tls-key", &key];
    container.run([&INSTALL[..], &options].concat()).ok();
    let serves = || {
        let ca_file = format!("INFISICAL_CA_FILE={folder}/ca.pem");
        let list = ["env", &ca_file, PROGRAM, "platform", "relay", "list"];
        let domain = ["--domain", "https://127.0.0.1:8080"];
        let relays = container.run([&list[..], &domain].concat()).ok();
        assert!(relays.contains("relay-one"), "{relays}");
    };
    serves();
    sandbox::assert_exposure(lab, UNIT, 11);
    let before = service::invocation(container, UNIT);
    let count = |event: Event| service::entries(container, UNIT, event.id).len();

    let second = pair();
    put(2, &second.certificate, &second.key);
    container.run(["systemctl", "reload", UNIT]).ok();
    wait::until("the new certificate", || {
        match count(events::TLS_REPLACED) {
            0 => Err("no entry"),
            _ => Ok(()),
        }
    });
    serves();

    // A pair that does not fit: the reload fails and says so, and nothing changes.
    put(3, &pair().certificate, &second.key);
    let refused = container.run(["systemctl", "reload", UNIT]);
    assert_ne!(refused.status, Some(0), "{refused:?}");
    let journal = container.journal(UNIT);
    let told = "cannot be used together";
    assert!(journal.contains(told), "{journal}");
    serves();
    assert_eq!(count(events::TLS_REPLACED), 1);
    assert_eq!(service::invocation(container, UNIT), before);
    let file = "/run/infisical-platform/tls.pem";
    let mode = container.run(["stat", "--format=%a", file]).ok();
    assert_eq!(mode.trim(), "400");
    lab.assert_hidden(second.key.lines().nth(1).expect("a key"));
    container.run(INSTALL).ok();
    assert_serves(lab);
}

pub(super) fn it_is_back_after_a_reboot(lab: &mut Lab) {
    lab.container.reboot();
    service::wait_for_state(&lab.container, UNIT, "active");
    assert_serves(lab);
}

pub(super) fn purged_it_leaves_nothing(lab: &mut Lab) {
    let container = &lab.container;
    let uninstall = [PROGRAM, "platform", "systemd", "uninstall"];
    container.run(uninstall).ok();
    assert_eq!(container.property(UNIT, "ActiveState"), "inactive");
    container
        .run(["test", "-e", &format!("{STATE}/platform.db")])
        .ok();
    container.run([&uninstall[..], &["--purge"]].concat()).ok();
    let left =
        container.sh("ls -d /var/lib/infisical-platform /var/lib/private/infisical-platform");
    assert_ne!(left.status, Some(0), "{left:?}");
}

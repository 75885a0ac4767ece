//! What goes wrong at real sites: a wrong token, no platform, no network.

use crate::image::Release;
use crate::lab::{Lab, PROGRAM};
use crate::peer;
use crate::service::{self, CONFIGURATION, GATEWAY, UNIT, User};

/// By a name that only the DNS server knows, so that nothing works without the network.
const DOMAIN: &str = "http://platform.example.org:8080";

/// The event of an error that ends the program, and that of a tunnel that is not there.
const FAILED: &str = "1765bb0f0c99441788830fa5953c6a75";
const NOT_CONNECTED: &str = "24029908bfaa43f8b7ab3cfab59a594d";

pub(super) fn boot(release: Release) -> Lab {
    let mut lab = Lab::boot(release);
    assert!(DOMAIN.contains(peer::ZONE));
    lab.domain = DOMAIN;
    lab
}

pub(super) fn a_wrong_enrollment_token_installs_nothing(lab: &mut Lab) {
    let container = &lab.container;
    container.write("/root/wrong.token", "an-invented-token", 0o600);
    let mut words = service::words(lab, User::Root);
    let file = words.iter().position(|word| word.ends_with(".token"));
    words[file.expect("a token")] = "/root/wrong.token".to_owned();
    let refused = container.run(&words);
    assert_eq!(refused.status, Some(77), "{refused:?}");
    // What the platform said, and how to ask it about that.
    assert!(refused.stderr.contains("token is not valid"), "{refused:?}");
    assert!(refused.stderr.contains("(request req-"), "{refused:?}");
    assert!(!refused.stderr.contains("an-invented-token"), "{refused:?}");
    for path in [
        CONFIGURATION,
        "/etc/systemd/system/infisical-gateway.service",
    ] {
        container.run(["test", "!", "-e", path]).ok();
    }
}

pub(super) fn refused_token_fails_with_platforms_message(lab: &mut Lab) {
    service::install(lab, User::Root);
    lab.assert_session(GATEWAY);
    let container = &lab.container;
    let good = service::secret(container);
    let key = service::SECRET.trim_end_matches('=');
    service::set(container, CONFIGURATION, key, "a-token-that-no-one-issued");
    let started = container.run(["systemctl", "restart", UNIT]);
    assert_ne!(started.status, Some(0), "{started:?}");
    service::wait_for_state(container, UNIT, "failed");
    assert_eq!(container.property(UNIT, "ExecMainStatus"), "77");
    assert_eq!(container.property(UNIT, "NRestarts"), "0");
    let status = container.run(["systemctl", "status", "--no-pager", UNIT]);
    assert_eq!(status.status, Some(3), "{status:?}");
    let why = "refused with 401 Unauthorized: the access token is invalid, expired or revoked (request req-";
    // In the status line, and in the last line of the journal.
    assert_eq!(status.stdout.matches(why).count(), 2, "{status:?}");
    let ended = service::entries(container, UNIT, FAILED);
    assert_eq!(ended.len(), 1, "{ended:?}");
    assert_eq!(ended[0]["PRIORITY"], "3", "{ended:?}");
    service::assert_diagnosis(container, "token", "Create a new token on the platform");
    lab.assert_hidden("a-token-that-no-one-issued");
    service::set(container, CONFIGURATION, key, &good);
    container.run(["systemctl", "start", UNIT]).ok();
    lab.assert_session(GATEWAY);
}

pub(super) fn wrong_configuration_fails_without_a_restart(lab: &mut Lab) {
    let container = &lab.container;
    service::set(container, CONFIGURATION, "INFISICAL_LOG_LEVEL", "loud");
    let started = container.run(["systemctl", "restart", UNIT]);
    assert_ne!(started.status, Some(0), "{started:?}");
    service::wait_for_state(container, UNIT, "failed");
    assert_eq!(container.property(UNIT, "ExecMainStatus"), "78");
    assert_eq!(container.property(UNIT, "NRestarts"), "0");
    let status = container.run(["systemctl", "status", "--no-pager", UNIT]);
    assert!(status.stdout.contains("INFISICAL_LOG_LEVEL"), "{status:?}");
    service::assert_diagnosis(container, "configuration", "");
    service::set(container, CONFIGURATION, "INFISICAL_LOG_LEVEL", "info");
    container.run(["systemctl", "start", UNIT]).ok();
    lab.assert_session(GATEWAY);
}

pub(super) fn boot_does_not_wait_for_the_network(lab: &mut Lab) {
    let disable = ["systemctl", "disable", "test-network"];
    lab.container.run(disable).ok();
    lab.container.reboot();
    assert_not_connected(lab);
    service::assert_diagnosis(&lab.container, "platform-dns", "DNS");
    lab.plug_in();
    service::wait_for_status(&lab.container, UNIT, "connected to relay-one");
    lab.assert_session(GATEWAY);
    let enable = ["systemctl", "enable", "test-network"];
    lab.container.run(enable).ok();
}

pub(super) fn boot_does_not_wait_for_the_platform(lab: &mut Lab) {
    let platform = ["test-platform", "test-relay"];
    let disable = ["systemctl", "disable"].into_iter().chain(platform);
    lab.container.run(disable).ok();
    lab.container.reboot();
    assert_not_connected(lab);
    service::assert_diagnosis(&lab.container, "platform-tcp", "Start the platform");
    let enable = ["systemctl", "enable", "--now"].into_iter().chain(platform);
    lab.container.run(enable).ok();
    service::wait_for_status(&lab.container, UNIT, "connected to relay-one");
    lab.assert_session(GATEWAY);
}

pub(super) fn user_triggered_check_cuts_nothing(lab: &mut Lab) {
    let container = &lab.container;
    let process = container.property(UNIT, "MainPID");
    let asked = container.run([PROGRAM, "gateway", "reconnect"]);
    assert!(
        asked.stdout.contains("looks at its tunnel now"),
        "{asked:?}"
    );
    asked.ok();
    let heard = "asked to look at the tunnel at once";
    service::wait_for_line(container, UNIT, heard);
    lab.assert_session(GATEWAY);
    let container = &lab.container;
    assert_eq!(container.property(UNIT, "MainPID"), process);
    let other = container.run([PROGRAM, "gateway", "reconnect", "unknown"]);
    assert_eq!(other.status, Some(69), "{other:?}");
    assert!(other.stderr.contains("does not run"), "{other:?}");
}

pub(super) fn working_gateway_outlives_a_refusing_platform(lab: &mut Lab) {
    lab.platform(&["gateway", "remove", GATEWAY]);
    let container = &lab.container;
    container.run(["systemctl", "restart", UNIT]).ok();
    let status = service::wait_for_status(container, UNIT, "not connected, ");
    assert!(status.contains("the gateway was deleted"), "{status}");
    service::assert_diagnosis(container, "token", "Create it again on the platform");
    assert_eq!(container.property(UNIT, "ActiveState"), "active");
    assert_eq!(container.property(UNIT, "NRestarts"), "0");
}

/// The boot has ended, with the gateway up and without a tunnel.
fn assert_not_connected(lab: &Lab) {
    let container = &lab.container;
    assert_eq!(container.property(UNIT, "ActiveState"), "active");
    let status = container.property(UNIT, "StatusText");
    assert!(status.starts_with("not connected, "), "{status}");
    container
        .run(["test", "!", "-e", "/run/infisical-gateway/online"])
        .ok();
    assert_eq!(container.property(UNIT, "NRestarts"), "0");
    let told = service::entries(container, UNIT, NOT_CONNECTED);
    assert!(!told.is_empty());
    let warned = told.iter().all(|entry| entry["PRIORITY"] == "4");
    assert!(warned, "{told:?}");
}

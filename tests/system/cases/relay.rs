//! The relay as an installed service, with the gateway as its guest.

use crate::lab::{Lab, PROGRAM};
use crate::service::{self, GATEWAY, UNIT, User};

use super::sandbox;

/// The relay, its address, and its unit.
const RELAY: &str = "relay-two";
const HOST: &str = "127.0.0.2";
const RELAY_UNIT: &str = "infisical-relay.service";
const CONFIGURATION: &str = "/etc/infisical/relay.conf";
/// What its sandbox leaves open, since a relay must listen.
const OPEN: &[&str] = &[
    "connect to an abstract socket",
    "listen at a path",
    "listen for TCP without a port",
];
/// The first systemd, as Debian builds it, that can say on which ports.
const CHOOSES_PORTS: u32 = 257;

/// The words that install a relay, the only one or one of several.
fn words(lab: &Lab, host: &str, name: &[&str]) -> Vec<String> {
    let relay = name.last().expect("a name");
    let path = format!("/root/{relay}.token");
    if lab.container.run(["test", "-e", &path]).status != Some(0) {
        let create = [
            "enrollment-token",
            "create",
            "--relay",
            relay,
            "--host",
            host,
        ];
        let token = lab.platform(&create);
        lab.container.write(&path, token.trim(), 0o600);
    }
    let (ssh, tls) = (format!("{host}:2222"), format!("{host}:8443"));
    let words = [PROGRAM, "relay", "systemd", "install", "--host", host];
    let listen = ["--ssh-listen", &ssh, "--tls-listen", &tls];
    let words = words.iter().chain(name).chain(&listen);
    let words = words.map(|word| (*word).to_owned());
    words.chain(service::enrollment(lab, &path)).collect()
}

pub(super) fn an_installed_relay_serves_gateways_and_clients(lab: &mut Lab) {
    let words = words(lab, HOST, &["--name", RELAY]);
    let account = lab.container.run(words).ok();
    assert!(
        account.contains("infisical-relay.service is active"),
        "{account}"
    );
    let container = &lab.container;
    service::wait_for_line(container, RELAY_UNIT, "Relay server started successfully");
    let disable = ["systemctl", "disable", "--now", "test-relay"];
    container.run(disable).ok();
    service::install(lab, User::Dynamic);
    service::wait_for_status(container, UNIT, "connected to relay-two");
    lab.assert_session(GATEWAY);
    service::wait_for_line(container, RELAY_UNIT, "Relay is reachable by Infisical");
    let token = container.read(&format!("/root/{RELAY}.token"));
    lab.assert_hidden(token.trim());
}

pub(super) fn relay_reload_cuts_no_session(lab: &mut Lab) {
    let container = &lab.container;
    let mut session = lab.session(GATEWAY);
    session.exchange(b"before");
    let before = service::invocation(container, RELAY_UNIT);
    service::set(container, CONFIGURATION, "INFISICAL_LOG_LEVEL", "debug");
    container.run(["systemctl", "reload", RELAY_UNIT]).ok();
    service::wait_for_line(container, RELAY_UNIT, "configuration reloaded");
    session.exchange(b"after");
    assert_eq!(session.finish(), b"");
    assert_eq!(service::invocation(container, RELAY_UNIT), before);
}

pub(super) fn its_gateways_come_back_after_a_restart(lab: &mut Lab) {
    let container = &lab.container;
    let before = service::invocation(container, UNIT);
    container.run(["systemctl", "restart", RELAY_UNIT]).ok();
    lab.assert_session(GATEWAY);
    let kill = ["systemctl", "kill", "--signal=SIGKILL", RELAY_UNIT];
    let relay = service::invocation(container, RELAY_UNIT);
    service::drop_in(container, RELAY_UNIT, "RestartSec=100ms");
    container.run(kill).ok();
    service::wait_for_another(container, RELAY_UNIT, &relay);
    lab.assert_session(GATEWAY);
    assert_eq!(service::invocation(container, UNIT), before);
}

pub(super) fn it_stops_after_the_transfers_that_run(lab: &mut Lab) {
    let container = &lab.container;
    let mut session = lab.session(GATEWAY);
    session.transfer(1);
    let stop = ["systemctl", "stop", "--no-block", RELAY_UNIT];
    container.run(stop).ok();
    service::wait_for_state(container, RELAY_UNIT, "deactivating");
    session.transfer(4);
    assert_eq!(session.finish(), b"");
    service::wait_for_state(container, RELAY_UNIT, "inactive");
    assert_eq!(container.property(RELAY_UNIT, "ExecMainStatus"), "0");
    container.run(["systemctl", "start", RELAY_UNIT]).ok();
    lab.assert_session(GATEWAY);
}

pub(super) fn another_serves_beside_it(lab: &mut Lab) {
    const OTHER: &str = "relay-three";
    const OTHER_UNIT: &str = "relay-three.service";
    let mut words = words(lab, "127.0.0.3", &[OTHER]);
    words.push("--user".to_owned());
    lab.container.run(words).ok();
    let container = &lab.container;
    service::wait_for_line(container, OTHER_UNIT, "Relay is reachable by Infisical");
    sandbox::assert_exposure(lab, OTHER_UNIT, 16);
    sandbox::assert_no_warnings(lab, OTHER_UNIT);
    let uninstall = [PROGRAM, "relay", "systemd", "uninstall", OTHER, "--purge"];
    container.run(uninstall).ok();
    assert_eq!(container.property(OTHER_UNIT, "ActiveState"), "inactive");
    assert_eq!(container.property(RELAY_UNIT, "ActiveState"), "active");
}

pub(super) fn deployed_relay_keeps_settings_and_foreign_lines(lab: &mut Lab) {
    const OTHER: &str = "relay-five";
    let container = &lab.container;
    let secret = container.read("/var/lib/infisical/platform/relay-auth-secret");
    let secret = secret.trim();
    let unit = "[Service]\nType=notify\nNotifyAccess=all\n\
                EnvironmentFile=/etc/infisical/relays/relay-five.env.conf\n\
                ExecStart=infisical relay start\n[Install]\nWantedBy=multi-user.target\n";
    let foreign = ["HTTPS_PROXY=http://127.0.0.1:1", "TZ=UTC"];
    let file = format!(
        "INFISICAL_RELAY_NAME={OTHER}\nINFISICAL_RELAY_HOST=127.0.0.5\n\
         INFISICAL_RELAY_TYPE=instance\nINFISICAL_RELAY_AUTH_SECRET={secret}\n\
         INFISICAL_API_URL={}\nINFISICAL_RELAY_SSH_LISTEN=127.0.0.5:2222\n\
         INFISICAL_RELAY_TLS_LISTEN=127.0.0.5:8443\n{}\n",
        lab.domain,
        foreign.join("\n")
    );
    let folder = "/etc/infisical/relays";
    container.write(&format!("{folder}/{OTHER}.env.conf"), &file, 0o600);
    let path = format!("/etc/systemd/system/{OTHER}.service");
    container.write(&path, unit, 0o644);
    container.run(["systemctl", "daemon-reload"]).ok();
    container.run(["systemctl", "enable", "--now", OTHER]).ok();
    let install = [PROGRAM, "relay", "systemd", "install", OTHER];
    let preview = container.run(install.into_iter().chain(["--dry-run"])).ok();
    let account = container.run(install).ok();
    assert!(
        account.contains(&format!("~ {path} (replaced;")),
        "{account}"
    );
    for line in ["+ HTTPS_PROXY=<secret>", "+ TZ=UTC"] {
        assert!(account.contains(line), "no {line} in {account}");
    }
    service::assert_previewed(container, &preview, &format!("{folder}/{OTHER}.conf"));
    assert!(!account.contains(secret), "{account}");
    let kept = container.read(&format!("{folder}/{OTHER}.conf"));
    for line in foreign.iter().chain(&["INFISICAL_RELAY_HOST=127.0.0.5"]) {
        assert!(kept.lines().any(|kept| kept == *line), "no {line}");
    }
    service::wait_for_line(container, OTHER, "Relay is reachable by Infisical");
    let again = container.run(install).ok();
    assert!(again.contains("nothing has changed"), "{again}");
    let uninstall = [PROGRAM, "relay", "systemd", "uninstall", OTHER, "--purge"];
    container.run(uninstall).ok();
    container.run(["systemctl", "status", OTHER]).exits(4);
}

pub(super) fn low_port_gives_only_that_right(lab: &mut Lab) {
    const OTHER: &str = "relay-four";
    const OTHER_UNIT: &str = "relay-four.service";
    let mut words = words(lab, "127.0.0.4", &[OTHER]);
    words.extend(["--tls-listen=127.0.0.4:443".to_owned()]);
    let tls = words
        .iter()
        .position(|word| word == "--tls-listen")
        .expect("it");
    words.drain(tls..tls + 2);
    lab.container.run(words).ok();
    let container = &lab.container;
    service::wait_for_line(container, OTHER_UNIT, "Relay server started successfully");
    let process = container.property(OTHER_UNIT, "MainPID");
    let status = container.read(&format!("/proc/{process}/status"));
    // CAP_NET_BIND_SERVICE is number 10.
    assert!(status.contains("CapEff:\t0000000000000400"), "{status}");
    let open = container.run(["ss", "-Hltn", "src", "127.0.0.4"]).ok();
    assert!(open.contains("127.0.0.4:443"), "{open}");
    sandbox::assert_no_warnings(lab, OTHER_UNIT);
    let uninstall = [PROGRAM, "relay", "systemd", "uninstall", OTHER, "--purge"];
    container.run(uninstall).ok();
}

pub(super) fn sandbox_score_of_relay_is_best(lab: &mut Lab) {
    sandbox::assert_exposure(lab, RELAY_UNIT, 16);
    sandbox::assert_no_warnings(lab, RELAY_UNIT);
}

pub(super) fn relay_sandbox_allows_only_what_is_needed(lab: &mut Lab) {
    sandbox::prepare(&lab.container);
    let mut open = OPEN.to_vec();
    if lab.container.release().systemd < CHOOSES_PORTS {
        open.push("listen for TCP");
    }
    sandbox::assert_sandbox(lab, RELAY_UNIT, CONFIGURATION, &open);
}

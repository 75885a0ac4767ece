//! What the installer does about things that are not as it would have made them: changes that were
//! held back, files of others, units of the deployed program, interruptions, a second installer;
//! and what the sandbox sees of a machine that changes while the service runs.

use crate::container::Container;
use crate::lab::{DOMAIN, Lab};
use crate::service::{self, UNIT, User};
use crate::wait;

const SECRET: &str = "a-secret-of-the-old-unit";

/// Runs the installer, and gives its exit code and everything that it said.
fn install(container: &Container, rest: &str) -> (Option<i32>, String) {
    let command = format!("infisical gateway systemd install {rest} 2>&1");
    let output = container.sh(&command);
    (output.status, output.stdout)
}

/// What the service's sandbox has at `path`.
fn inside(container: &Container, path: &str) -> String {
    let pid = container.property(UNIT, "MainPID");
    container.read(&format!("/proc/{pid}/root{path}"))
}

pub(super) fn held_back_change_applies_at_next_run(lab: &mut Lab) {
    service::install(lab, User::Root);
    let container = &lab.container;
    let first = container.property(UNIT, "MainPID");
    let (code, said) = install(container, "--log-level debug --no-start");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(container.property(UNIT, "MainPID"), first);
    let (code, said) = install(container, "");
    assert_eq!(code, Some(0), "{said}");
    let second = container.property(UNIT, "MainPID");
    assert_ne!(second, first, "{said}");
    let (_, said) = install(container, "");
    assert!(said.contains("nothing has changed"), "{said}");
    assert_eq!(container.property(UNIT, "MainPID"), second);
    assert!(said.contains("--user"), "{said}");
}

pub(super) fn restarted_resolver_and_journal_are_used(lab: &mut Lab) {
    let container = &lab.container;
    let folder = "/run/NetworkManager";
    container
        .sh(&format!("mkdir -p -m 0755 {folder}/system-connections"))
        .ok();
    container.write(&format!("{folder}/system-connections/a"), SECRET, 0o600);
    container.run(["systemctl", "restart", UNIT]).ok();
    for text in ["one", "two"] {
        container.write(&format!("{folder}/new"), text, 0o644);
        container
            .sh(&format!("mv {folder}/new {folder}/resolv.conf"))
            .ok();
        assert_eq!(inside(container, &format!("{folder}/resolv.conf")), text);
    }
    let pid = container.property(UNIT, "MainPID");
    let hidden = format!("ls -A /proc/{pid}/root{folder}/system-connections");
    assert_eq!(container.sh(&hidden).ok(), "");
    let restart = "systemctl restart systemd-journald.socket systemd-journald.service";
    container.sh(restart).ok();
    let socket = "/run/systemd/journal/socket";
    let inodes = format!("stat -c %i {socket} /proc/{pid}/root{socket}");
    let inodes = container.sh(&inodes).ok();
    let inodes: Vec<_> = inodes.lines().collect();
    assert_eq!(inodes[0], inodes[1]);
}

pub(super) fn secrets_and_programs_are_out_of_reach(lab: &mut Lab) {
    let container = &lab.container;
    let folders = [
        "/etc/letsencrypt",
        "/etc/credstore",
        "/etc/netplan",
        "/data",
    ];
    for folder in folders {
        container.write(&format!("{folder}/secret"), SECRET, 0o600);
    }
    container.write("/usr/lib/klibc/bin/sh", "", 0o755);
    container.run(["systemctl", "restart", UNIT]).ok();
    let pid = container.property(UNIT, "MainPID");
    for folder in folders {
        let list = format!("ls -A /proc/{pid}/root{folder}");
        assert_eq!(container.sh(&list).ok(), "", "{folder}");
    }
    let mounts = container.read(&format!("/proc/{pid}/mountinfo"));
    let mut mounts = mounts.lines();
    let programs = mounts.find(|line| line.contains(" /usr/lib/klibc "));
    let options = programs.and_then(|line| line.split(' ').nth(5));
    let options: Vec<_> = options.unwrap_or_default().split(',').collect();
    for option in ["ro", "noexec"] {
        assert!(options.contains(&option), "{options:?}");
    }
}

pub(super) fn files_of_other_users_are_taken_back(lab: &mut Lab) {
    let container = &lab.container;
    let files = "/etc/infisical /etc/infisical/gateway.conf";
    container.sh(&format!("chown 65534 {files}")).ok();
    let (code, said) = install(container, "");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(said.matches("65534").count(), 2, "{said}");
    let owners = container.sh(&format!("stat -c %u {files}")).ok();
    assert_eq!(owners, "0\n0\n");
}

pub(super) fn directory_writable_by_others_is_named(lab: &mut Lab) {
    let container = &lab.container;
    container.sh("chmod 2775 /usr/local/bin").ok();
    let (code, said) = install(container, "");
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("chmod go-w /usr/local/bin,"), "{said}");
    container.sh("chmod 0755 /usr/local/bin").ok();
}

pub(super) fn deployed_units_settings_are_kept_and_hidden(lab: &mut Lab) {
    let container = &lab.container;
    let token = lab.platform(&["identity", "create", "edge"]);
    let token = token.trim();
    let unit = format!(
        "[Service]\nEnvironment=INFISICAL_API_URL={DOMAIN} OTHER={SECRET}\n\
         EnvironmentFile=/etc/infisical/gateways/edge.conf\nExecStart=/usr/local/bin/infisical gateway start\n\
         [Install]\nWantedBy=multi-user.target\n"
    );
    let file = format!("INFISICAL_GATEWAY_NAME=edge\nINFISICAL_TOKEN={token}\n");
    container.write("/etc/infisical/gateways/edge.conf", &file, 0o600);
    container.write("/etc/systemd/system/edge.service", &unit, 0o644);
    let drop_in = "[Service]\nEnvironment=INFISICAL_LOG_LEVEL=debug\n";
    container.write("/etc/systemd/system/edge.service.d/a.conf", drop_in, 0o644);
    container
        .sh("systemctl daemon-reload && systemctl enable --now edge")
        .ok();
    let (code, said) = install(container, "edge");
    assert_eq!(code, Some(78), "{said}");
    assert!(
        // The drop-in stays in force.
        said.contains(": INFISICAL_API_URL;"),
        "{said}"
    );
    assert!(!said.contains(SECRET), "{said}");
    assert_eq!(container.property("edge", "ActiveState"), "active");
    let words = format!("edge --domain {DOMAIN}");
    let old = container.property("edge", "MainPID");
    let (code, said) = install(container, &format!("{words} --no-start"));
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("OTHER") && !said.contains(SECRET) && !said.contains(token),
        "{said}"
    );
    assert_eq!(container.property("edge", "MainPID"), old);
    container.run(["systemctl", "is-enabled", "edge"]).ok();
    let (code, said) = install(container, &words);
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains(SECRET) && !said.contains(token), "{said}");
    assert_eq!(container.property("edge", "ActiveState"), "active");
    assert_ne!(container.property("edge", "MainPID"), old);
    assert_eq!(container.property("edge", "WatchdogUSec"), "30s");
    lab.assert_session("edge");
}

pub(super) fn template_stays_for_a_manual_instance(lab: &mut Lab) {
    let container = &lab.container;
    let template = "/etc/systemd/system/infisical-gateway@.service";
    container.write(template, &service::template(), 0o644);
    service::configure(lab, "manual");
    let container = &lab.container;
    let uninstall = "infisical gateway systemd uninstall edge --purge";
    let said = container.sh(uninstall).ok();
    assert!(
        said.contains("stays, for infisical-gateway@manual.service"),
        "{said}"
    );
    container
        .sh("systemctl daemon-reload && systemctl start infisical-gateway@manual")
        .ok();
    let last = "infisical gateway systemd uninstall manual --purge";
    container.sh(last).ok();
    container.run(["test", "!", "-e", template]).ok();
    let state = container.property("infisical-gateway@manual", "ActiveState");
    assert_eq!(state, "inactive");
}

pub(super) fn two_installers_exchange_one_token_once(lab: &mut Lab) {
    let container = &lab.container;
    container.write("/root/token", &lab.enrollment_token("twice"), 0o600);
    let one = format!(
        "infisical gateway systemd install twice --enroll-method token --token-file /root/token --domain {DOMAIN}"
    );
    let both = format!(
        "{one} >/root/1 2>&1 & first=$!; {one} >/root/2 2>&1; echo $?; wait $first; echo $?"
    );
    let codes = container.sh(&both).ok();
    let said = container.sh("cat /root/1 /root/2").ok();
    assert_eq!(codes, "0\n0\n", "{said}");
    lab.assert_session("twice");
    let purge = "infisical gateway systemd uninstall twice --purge";
    container.sh(purge).ok();
}

pub(super) fn interrupted_installation_reports_its_progress(lab: &mut Lab) {
    let container = &lab.container;
    container.write("/root/token", &lab.enrollment_token("patient"), 0o600);
    container.sh("systemctl stop test-platform").ok();
    let begin = format!(
        "infisical gateway systemd install patient --enroll-method token --token-file /root/token --domain {DOMAIN} \
         >/root/said 2>&1 & echo $! >/root/pid; wait $!; echo $? >/root/code"
    );
    std::thread::scope(|scope| {
        scope.spawn(|| container.sh(&begin));
        wait::until("an attempt that failed", || {
            let said = container.sh("cat /root/said").stdout;
            let failed = said.contains("trying again");
            failed.then_some(()).ok_or(said)
        });
        container.sh("kill -INT $(cat /root/pid)").ok();
    });
    let said = container.read("/root/said");
    assert_eq!(container.read("/root/code"), "69\n", "{said}");
    assert!(
        said.contains("interrupted: the enrollment token was not exchanged"),
        "{said}"
    );
    let configuration = "/etc/infisical/gateways/patient.conf";
    container.run(["test", "!", "-e", configuration]).ok();
    container
        .sh("systemctl start test-platform test-relay")
        .ok();
}

pub(super) fn what_is_purged_leaves_no_secret(lab: &mut Lab) {
    let container = &lab.container;
    let folder = "/etc/infisical/relays";
    for name in ["eu.conf", "eu.env.conf", ".eu.conf.0123456789abcdef"] {
        container.write(&format!("{folder}/{name}"), SECRET, 0o600);
    }
    let purge = "infisical relay systemd uninstall eu --purge";
    container.sh(purge).ok();
    container.run(["test", "!", "-e", folder]).ok();
}

//! Machines that have a unit already: of the deployed program, of its first version, of a package.

use crate::lab::{Lab, PROGRAM};
use crate::service::{self, CONFIGURATION, GATEWAY, UNIT, UNITS, User};

/// As the first version wrote it.
const FIRST: &str = "\
[Unit]
Description=Infisical Gateway Service
After=network.target
[Service]
Type=notify
EnvironmentFile=/etc/infisical/gateway.conf
ExecStart=infisical gateway
Restart=on-failure
[Install]
WantedBy=multi-user.target
";
/// As the deployed program writes it.
const DEPLOYED: &str = "\
[Unit]
Description=Infisical Gateway Service
After=network.target
[Service]
Type=notify
NotifyAccess=all
EnvironmentFile=/etc/infisical/gateway.conf
ExecStart=infisical gateway start
Restart=on-failure
InaccessibleDirectories=/home
PrivateTmp=yes
LimitCORE=infinity
LimitNOFILE=1000000
LimitNPROC=60000
LimitRTPRIO=infinity
LimitRTTIME=7000000
[Install]
WantedBy=multi-user.target
";

pub(super) fn unit_of_version_1_is_not_touched(lab: &mut Lab) {
    let container = &lab.container;
    let path = format!("{UNITS}/{UNIT}");
    container.write(&path, FIRST, 0o644);
    container.run(["systemctl", "daemon-reload"]).ok();
    container.run(["systemctl", "enable", UNIT]).ok();
    let refused = container.run(service::words(lab, User::Root));
    assert_eq!(refused.status, Some(78), "{refused:?}");
    let old = container.run([PROGRAM, "gateway", "install"]);
    assert_eq!(old.status, Some(64), "{old:?}");
    for said in [&refused.stderr, &old.stderr] {
        for part in ["gateway systemd uninstall", "an id of its own", &path] {
            assert!(said.contains(part), "no {part} in {said}");
        }
    }
    assert_eq!(container.read(&path), FIRST);
    container.run(["test", "!", "-e", CONFIGURATION]).ok();
    let uninstall = [PROGRAM, "gateway", "systemd", "uninstall"];
    container.run(uninstall).ok();
    assert_eq!(container.property(UNIT, "LoadState"), "not-found");
}

pub(super) fn deployed_unit_is_replaced_with_its_identity(lab: &mut Lab) {
    service::install(lab, User::Root);
    let container = &lab.container;
    let identity = container.read(CONFIGURATION);
    let uninstall = [PROGRAM, "gateway", "systemd", "uninstall"];
    container.run(uninstall).ok();
    let path = format!("{UNITS}/{UNIT}");
    container.write(&path, DEPLOYED, 0o644);
    container.run(["systemctl", "daemon-reload"]).ok();
    container.run(["systemctl", "enable", "--now", UNIT]).ok();
    lab.assert_session(GATEWAY);
    // Without a token: all that it needs is there.
    let install = [PROGRAM, "gateway", "systemd", "install"];
    let account = container.run(install).ok();
    let replaced = format!("~ {path} (replaced;");
    assert!(account.contains(&replaced), "{account}");
    assert_eq!(container.read(CONFIGURATION), identity);
    assert_eq!(container.property(UNIT, "WatchdogUSec"), "30s");
    lab.assert_session(GATEWAY);
}

pub(super) fn packages_unit_is_used_as_it_is(lab: &mut Lab) {
    let container = &lab.container;
    let unit = container.read(&format!("{UNITS}/{UNIT}"));
    let uninstall = [PROGRAM, "gateway", "systemd", "uninstall"];
    container.run(uninstall).ok();
    let packaged = format!("/usr/lib/systemd/system/{UNIT}");
    container.write(&packaged, &unit, 0o644);
    let account = service::install(lab, User::Dynamic);
    assert!(
        account.contains(&format!("{packaged} is a package's")),
        "{account}"
    );
    let container = &lab.container;
    // Before 253 it has another name for the same directory.
    let used = container.property(UNIT, "FragmentPath");
    assert!(packaged.ends_with(&used), "{used}");
    let dropins = container.property(UNIT, "DropInPaths");
    assert!(dropins.ends_with("/dynamic-user.conf"), "{dropins}");
    lab.assert_session(GATEWAY);
    container.run(uninstall).ok();
    assert_eq!(container.read(&packaged), unit);
    assert_eq!(container.property(UNIT, "ActiveState"), "inactive");
    assert_eq!(container.property(UNIT, "UnitFileState"), "disabled");
}

pub(super) fn named_deployed_unit_is_taken_over(lab: &mut Lab) {
    let token = service::token_file(lab, "edge");
    let words = |verb: &str| [PROGRAM, "gateway", "systemd", verb, "edge"].map(str::to_owned);
    let install = words("install").into_iter();
    let install = install.chain(service::enrollment(lab, &token));
    let container = &lab.container;
    container.run(install).ok();
    container.run(words("uninstall")).ok();
    // With a log file, it pipes through a shell and has a rule for logrotate.
    let log = "/var/log/edge.log";
    let rule = "/etc/logrotate.d/edge";
    let piped = format!("/bin/bash -c 'infisical gateway start 2>&1 | tee {log}'");
    let deployed = DEPLOYED
        .replace("gateway.conf", "gateways/edge.conf")
        .replace("infisical gateway start", &piped);
    let rotated = format!("{log} {{\n    daily\n    rotate 7\n    create 0644 root root\n}}\n");
    container.write(rule, &rotated, 0o644);
    container.write(&format!("{UNITS}/edge.service"), &deployed, 0o644);
    container.run(["systemctl", "daemon-reload"]).ok();
    container.run(["systemctl", "enable", "--now", "edge"]).ok();
    lab.assert_session("edge");
    // Lines that people add to the file, which was an EnvironmentFile.
    const FOREIGN: &str = "HTTPS_PROXY=http://127.0.0.1:1\nNO_PROXY=127.0.0.1\nTZ=UTC\n\
                           AWS_REGION=eu-central-1\nGODEBUG=netdns=go\n";
    let configuration = "/etc/infisical/gateways/edge.conf";
    let text = container.read(configuration);
    container.write(configuration, &format!("{text}{FOREIGN}"), 0o600);
    let preview = words("install").into_iter().chain(["--dry-run".to_owned()]);
    let preview = container.run(preview).ok();
    let account = container.run(words("install")).ok();
    let kept = container.read(configuration);
    assert!(kept.contains(FOREIGN), "{kept}");
    service::assert_previewed(container, &preview, configuration);
    for said in [&preview, &account] {
        assert!(
            said.contains(&format!("logs to {log}, which the new unit")),
            "{said}"
        );
    }
    let replaced = format!("~ {UNITS}/edge.service (replaced;");
    assert!(account.contains(&replaced), "{account}");
    for part in [format!("{rule} is for {log}"), format!("- {rule}\n")] {
        assert!(account.contains(&part), "no {part} in {account}");
    }
    container.run(["test", "!", "-e", rule]).ok();
    container.run(["test", "-s", log]).ok();
    assert_eq!(container.property("edge", "ActiveState"), "active");
    assert_eq!(container.property("edge", "UnitFileState"), "enabled");
    assert_eq!(container.property("edge", "WatchdogUSec"), "30s");
    lab.assert_session("edge");
}

pub(super) fn foreign_and_masked_units_are_left_alone(lab: &mut Lab) {
    const FOREIGN: &str = "[Service]\nExecStart=/bin/true\n";
    let container = &lab.container;
    let path = format!("{UNITS}/{UNIT}");
    container.write(&path, FOREIGN, 0o644);
    let refused = container.run(service::words(lab, User::Root));
    assert_eq!(refused.status, Some(78), "{refused:?}");
    assert!(refused.stderr.contains(&path), "{refused:?}");
    assert_eq!(container.read(&path), FOREIGN);
    container.run(["rm", &path]).ok();
    container.run(["systemctl", "mask", UNIT]).ok();
    let refused = container.run(service::words(lab, User::Root));
    assert_eq!(refused.status, Some(78), "{refused:?}");
    assert!(refused.stderr.contains("systemctl unmask"), "{refused:?}");
    container.run(["systemctl", "unmask", UNIT]).ok();
}

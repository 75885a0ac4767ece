//! How the gateway becomes a service. Every case gets it from here, so that all of them move together.

use crate::container::Container;
use crate::lab::{DOMAIN, HARNESS, Lab};

/// The gateway's unit.
pub(crate) const UNIT: &str = "infisical-gateway.service";
/// The unit in which the probe runs, a copy of the gateway's.
const PROBE_UNIT: &str = "infisical-probe.service";
/// What the probe writes to.
const REPORT: &str = "/var/lib/infisical-probe.report";
/// The gateway's name.
pub(crate) const GATEWAY: &str = "office";
/// Its configuration.
const CONFIGURATION: &str = "/etc/infisical/gateway.conf";

/// As whom the service runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    Root,
    Dynamic,
}

/// Makes the gateway a service, and starts it now and at every boot.
pub(crate) fn install(lab: &Lab, user: User) {
    let container = &lab.container;
    // A name belongs to the identity that took it.
    if container.run(["test", "-e", CONFIGURATION]).status != Some(0) {
        let token = lab.access_token(GATEWAY);
        let configuration = format!(
            "INFISICAL_GATEWAY_NAME={GATEWAY}\nINFISICAL_API_URL={DOMAIN}\nINFISICAL_TOKEN={token}\n"
        );
        container.write(CONFIGURATION, &configuration, 0o600);
    }
    let mut command = vec!["infisical", "gateway", "systemd", "install"];
    command.extend((user == User::Dynamic).then_some("--user"));
    container.run(command).ok();
}

/// The secret in the gateway's configuration.
pub(crate) fn secret(container: &Container) -> String {
    let configuration = container.read(CONFIGURATION);
    let mut lines = configuration.lines();
    let token = lines.find_map(|line| line.strip_prefix("INFISICAL_TOKEN="));
    token.expect("a token").to_owned()
}

/// Where the service finds its configuration, with systemd's specifiers.
pub(crate) fn configuration(user: User) -> &'static str {
    match user {
        User::Root => CONFIGURATION,
        User::Dynamic => "%d/gateway.conf",
    }
}

/// Runs the probe as the main process of a copy of the installed unit, everything but the command as installed, and
/// gives its report. The gateway is stopped meanwhile, for both have the same directories.
pub(crate) fn probe(container: &Container, user: User) -> String {
    container.run(["systemctl", "stop", UNIT]).ok();
    let copy = format!("/etc/systemd/system/{PROBE_UNIT}");
    let fragment = container.property(UNIT, "FragmentPath");
    container.run(["cp", &fragment, &copy]).ok();
    let mut dropins: Vec<String> = Vec::new();
    for path in container.property(UNIT, "DropInPaths").split_whitespace() {
        dropins.push(container.read(path));
    }
    let report = probe_with(container, &dropins.concat(), configuration(user));
    container.run(["systemctl", "start", UNIT]).ok();
    report
}

/// Runs the probe as a service without any sandbox: what it cannot do there proves nothing about ours.
pub(crate) fn probe_outside(container: &Container) -> String {
    let unit = "[Service]\nType=notify\nRuntimeDirectory=infisical-probe\nStateDirectory=infisical-probe\n";
    container.write(&format!("/etc/systemd/system/{PROBE_UNIT}"), unit, 0o644);
    probe_with(container, "", configuration(User::Root))
}

fn probe_with(container: &Container, dropins: &str, configuration: &str) -> String {
    let folder = format!("/etc/systemd/system/{PROBE_UNIT}.d");
    let ours = format!(
        "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStartPre=\nExecStart=\nExecStartPost=\nExecStop=\nExecStopPost=\n\
         ExecStart={HARNESS} probe {configuration}\nBindReadOnlyPaths={HARNESS}\nRestart=no\nWatchdogSec=0\n\
         StandardOutput=truncate:{REPORT}\nStandardError=journal\n"
    );
    container.run(["rm", "-rf", &folder]).ok();
    container.write(&format!("{folder}/10-installed.conf"), dropins, 0o644);
    container.write(&format!("{folder}/20-probe.conf"), &ours, 0o644);
    container.run(["systemctl", "daemon-reload"]).ok();
    container.run(["systemctl", "start", PROBE_UNIT]).ok();
    crate::wait::until("the end of the probe", || {
        match container.property(PROBE_UNIT, "ActiveState").as_str() {
            "inactive" => Ok(()),
            "failed" => panic!("the probe failed:\n{}", container.read(REPORT)),
            other => Err(other.to_owned()),
        }
    });
    container.read(REPORT)
}

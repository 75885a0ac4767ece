//! The probe as a service: in the sandbox of an installed unit, and without any.

use crate::container::Container;
use crate::lab::HARNESS;
use crate::service::{UNITS, User};
use crate::wait;

/// The unit in which the probe runs.
const PROBE_UNIT: &str = "infisical-probe.service";
/// What the probe writes to.
const REPORT: &str = "/var/lib/infisical-probe.report";

/// Runs the probe as the main process of a copy of the installed `unit`, everything but the command
/// as installed, and gives its report. The service itself is stopped meanwhile, for both have the
/// same directories.
pub(crate) fn probe(container: &Container, unit: &str, configuration: &str) -> String {
    container.run(["systemctl", "stop", unit]).ok();
    let copy = format!("{UNITS}/{PROBE_UNIT}");
    let fragment = container.property(unit, "FragmentPath");
    container.run(["cp", &fragment, &copy]).ok();
    let mut dropins: Vec<String> = Vec::new();
    for path in container.property(unit, "DropInPaths").split_whitespace() {
        dropins.push(container.read(path));
    }
    let report = run(container, &dropins.concat(), configuration);
    container.run(["systemctl", "start", unit]).ok();
    report
}

/// Runs the probe as a service without any sandbox: what it cannot do there proves nothing about
/// ours.
pub(crate) fn probe_outside(container: &Container, configuration: &str) -> String {
    let unit = "[Service]\nType=notify\nRuntimeDirectory=infisical-probe\nStateDirectory=infisical-probe\n";
    container.write(&format!("{UNITS}/{PROBE_UNIT}"), unit, 0o644);
    run(container, "", configuration)
}

/// Where a service finds its configuration, with systemd's specifiers.
pub(crate) fn configuration(file: &'static str, user: User) -> String {
    let (_, name) = file.rsplit_once('/').expect("a path");
    match user {
        User::Root => file.to_owned(),
        User::Dynamic => format!("%d/{name}"),
    }
}

/// The probe's lines in the journal.
pub(crate) fn journal(container: &Container) -> String {
    container.journal(PROBE_UNIT)
}

fn run(container: &Container, dropins: &str, configuration: &str) -> String {
    let folder = format!("{UNITS}/{PROBE_UNIT}.d");
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
    wait::until("the end of the probe", || {
        match container.property(PROBE_UNIT, "ActiveState").as_str() {
            "inactive" => Ok(()),
            "failed" => panic!("the probe failed:\n{}", container.read(REPORT)),
            other => Err(other.to_owned()),
        }
    });
    container.read(REPORT)
}

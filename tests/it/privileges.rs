//! What the running daemons are allowed, as the kernel tells it of each of their threads.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use crate::support::admin::Platform;
use crate::support::lab::Lab;
use crate::support::loopback;
use crate::support::process::{Process, infisical};

/// CAP_NET_BIND_SERVICE in a set of capabilities (capability.h).
const LOW_PORTS: u64 = 1 << 10;

/// The sets of capabilities by which a thread can do something, now or later.
const SETS: [&str; 4] = ["CapInh", "CapPrm", "CapEff", "CapAmb"];

/// The value of `field` in `status` (proc_pid_status(5)).
fn field<'a>(status: &'a str, field: &str) -> &'a str {
    let mut lines = status.lines().filter_map(|line| line.split_once(':'));
    let line = lines.find(|(name, _)| *name == field);
    line.unwrap_or_else(|| panic!("no {field} in {status}"))
        .1
        .trim()
}

/// What the kernel says of every thread.
fn threads(process: &Process) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", process.pid())).expect("threads");
    let paths = tasks
        .map_while(Result::ok)
        .map(|task| task.path().join("status"));
    // A thread may end meanwhile.
    let statuses: Vec<String> = paths
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect();
    assert!(statuses.len() > 1, "{statuses:?}");
    statuses
}

fn assert_confined(process: &Process, capabilities: u64) {
    for status in threads(process) {
        for set in SETS {
            let found = u64::from_str_radix(field(&status, set), 16).expect("a set");
            let expected = match set {
                "CapPrm" | "CapEff" => capabilities,
                _ => 0,
            };
            assert_eq!(found, expected, "{set} of {status}");
        }
        assert_eq!(field(&status, "NoNewPrivs"), "1");
    }
    let path = format!("/proc/{}/limits", process.pid());
    let limits = fs::read_to_string(path).expect("limits");
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let core: Vec<&str> = core.expect("the limit").split_whitespace().collect();
    assert_eq!(core[4..6], ["0", "0"]);
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_thread_drops_every_capability() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let gateway = lab.gateway(&relay).await;
    let name = if is_root() {
        "root".to_owned()
    } else {
        format!("uid {}", nix::unistd::geteuid())
    };
    for daemon in [&relay, &gateway] {
        assert_confined(daemon, 0);
        let line = format!("running as {name} without capabilities");
        assert!(
            daemon.output().lines().any(|said| said.ends_with(&line)),
            "{line}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn relay_keeps_low_port_right_if_needed() {
    if !is_root() {
        eprintln!("SKIPPED: an ordinary user has no right to low ports");
        return;
    }
    let lab = Lab::new().await;
    let host = lab.host;
    let usual = lab.relay_command();
    let mut command = infisical(lab.dir());
    command.args(["relay", "start", "--name", &usual.name, "--host"]);
    command.args([&host.to_string(), "--domain", &usual.domain]);
    command.args(["--ssh-listen", &format!("{host}:2222")]);
    command.args(["--tls-listen", &format!("{host}:443")]);
    command.arg("--config").arg(&usual.config);
    let relay = Process::spawn("relay", command);
    relay
        .wait_for_line("Relay server started successfully")
        .await;
    assert_confined(&relay, LOW_PORTS);
    relay
        .wait_for_line("without capabilities but CAP_NET_BIND_SERVICE")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_commands_stay_as_they_were_started() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = infisical(dir.path());
    command.env("TMPDIR", dir.path()).arg("dev");
    let dev = Process::spawn("dev", command);
    dev.wait_for_line("Ctrl-C stops everything").await;
    let ours = fs::read_to_string("/proc/self/status").expect("our status");
    for status in threads(&dev) {
        for set in SETS {
            assert_eq!(field(&status, set), field(&ours, set));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn platform_gives_up_every_capability() {
    let directory = tempfile::tempdir().expect("a directory");
    let platform = Platform::start(directory.path(), loopback::address(), 0, &[]).await;
    assert_confined(&platform.process, 0);
    // What is not dumpable belongs to root in /proc, and is read by no one else.
    let owner = fs::metadata(format!("/proc/{}/mem", platform.process.pid()));
    assert_eq!(owner.expect("there").uid(), 0, "dumpable");
}

//! `infisical dev`: everything on one machine, and nothing left of it afterwards.

use std::io::ErrorKind;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::eventually;
use crate::support::process::{Process, infisical};

/// Said when all runs and commands to try were shown.
const RUNNING: &str = "Ctrl-C stops everything";

fn start(home: &Path, arguments: &[&str]) -> Process {
    let mut command = infisical(home);
    command.env("TMPDIR", home).arg("dev").args(arguments);
    Process::spawn("dev", command)
}

/// Process ids of the children, in the order of their start, as `dev` shows them.
fn children(dev: &Process) -> Vec<Pid> {
    let output = dev.output();
    let pids = output.split("pid ").skip(1).map(|rest| {
        let digits = rest.chars().take_while(char::is_ascii_digit);
        let pid = digits.collect::<String>().parse().expect("a pid");
        Pid::from_raw(pid)
    });
    let pids: Vec<Pid> = pids.collect();
    assert_eq!(pids.len(), 3, "{output}");
    pids
}

/// Waits until none of `pids` runs; one that no one has waited for yet has no command line any
/// more.
async fn all_end(pids: &[Pid]) {
    for pid in pids {
        let path = format!("/proc/{pid}/cmdline");
        eventually("the end of a child", || async {
            match std::fs::read(&path) {
                Ok(line) if !line.is_empty() => Err("it still runs"),
                Ok(_) | Err(_) => Ok(()),
            }
        })
        .await;
    }
}

fn left_behind(home: &Path) -> usize {
    std::fs::read_dir(home).expect("listed").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_checks_run_side_by_side() {
    let homes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let both = homes
        .each_ref()
        .map(|home| start(home.path(), &["--check"]));
    for (home, check) in homes.iter().zip(&both) {
        assert_eq!(check.exit_code().await, 0);
        let output = check.output();
        assert!(output.contains("Hello from a private service"), "{output}");
        let sum = |of: &str| {
            let line = output.lines().find(|line| line.contains(of));
            let word = line.and_then(|line| line.split_whitespace().last());
            word.expect("a checksum").to_owned()
        };
        assert_eq!(sum("sent ").len(), 64, "{output}");
        assert_eq!(sum("sent "), sum("received "));
        assert!(!output.contains('\u{1b}'), "colours in a pipe");
        assert_eq!(left_behind(home.path()), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_ends_children_and_removes_directory() {
    let home = tempfile::tempdir().unwrap();
    let dev = start(home.path(), &[]);
    dev.wait_for_line(RUNNING).await;
    let children = children(&dev);
    dev.signal(Signal::SIGTERM);
    assert_eq!(dev.exit_code().await, 0);
    all_end(&children).await;
    assert_eq!(left_behind(home.path()), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn children_do_not_outlive_a_killed_parent() {
    let home = tempfile::tempdir().unwrap();
    let dev = start(home.path(), &[]);
    dev.wait_for_line(RUNNING).await;
    let children = children(&dev);
    dev.kill().await;
    all_end(&children).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_child_is_named_and_stops_everything() {
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("state");
    let dev = start(home.path(), &["--dir", state.to_str().expect("UTF-8")]);
    dev.wait_for_line(RUNNING).await;
    let children = children(&dev);
    let secrets = ["platform/admin-token", "gateway.token"].map(|name| {
        let text = std::fs::read_to_string(state.join(name)).expect("a secret");
        text.trim().to_owned()
    });
    for pid in &children {
        for file in ["cmdline", "environ"] {
            let bytes = match std::fs::read(format!("/proc/{pid}/{file}")) {
                // An undumpable process shows its environment to root alone.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => Vec::new(),
                read => read.expect("readable"),
            };
            let text = String::from_utf8_lossy(&bytes);
            assert!(secrets.iter().all(|secret| !text.contains(secret)));
        }
    }
    kill(children[1], Signal::SIGKILL).expect("the relay runs");
    assert_eq!(dev.exit_code().await, 69);
    let output = dev.output();
    assert!(output.contains("the relay ended by itself"), "{output}");
    assert!(output.contains("Relay server started"), "{output}");
    all_end(&children).await;
    assert!(state.join("relay.log").exists(), "a named directory stays");
}

//! A system that gives too few threads: an error and an exit code, never a panic or a process that
//! does nothing.

use std::path::Path;
use std::process::Command;

use crate::support::process::{Process, infisical, with_processes};
use crate::support::{soon, write_private};

/// What the process must be able to create is more than this many threads, on any machine.
const TOO_FEW: std::ops::RangeInclusive<usize> = 1..=5;
/// With the largest number of workers.
const ENOUGH: usize = 64;

fn gateway(dir: &Path) -> Command {
    let config = dir.join("gateway.conf");
    write_private(&config, "INFISICAL_TOKEN=token-0123456789\n");
    let mut command = infisical(dir);
    command.args(["gateway", "start", "edge", "--domain", "http://127.0.0.1:1"]);
    command.args(["--target-relay-name", "relay", "--config"]);
    command.arg(config);
    command
}

fn relay(dir: &Path) -> Command {
    let config = dir.join("relay.conf");
    write_private(&config, "INFISICAL_TOKEN=token-0123456789\n");
    let mut command = infisical(dir);
    command.args(["relay", "start", "--name", "edge", "--host", "127.0.0.1"]);
    command.args(["--domain", "http://127.0.0.1:1", "--config"]);
    command.arg(config);
    command
}

async fn fails(name: &str, command: &Command, limit: usize) {
    let Some(command) = with_processes(command, limit) else {
        return;
    };
    let process = Process::spawn(name, command);
    let code = soon("an exit", process.exit_code()).await;
    let output = process.output();
    assert_eq!(code, 69, "{name} with {limit}: {output}");
    assert!(
        output.contains("ulimit -u"),
        "{name} with {limit}: {output}"
    );
    assert!(!output.contains("panic"), "{name} with {limit}: {output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_threads_give_advice() {
    let dir = tempfile::tempdir().expect("a directory");
    for limit in TOO_FEW {
        fails("gateway", &gateway(dir.path()), limit).await;
    }
    for limit in [1, 3] {
        fails("relay", &relay(dir.path()), limit).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn enough_threads_let_a_gateway_run() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some(command) = with_processes(&gateway(dir.path()), ENOUGH) else {
        return;
    };
    let process = Process::spawn("gateway", command);
    process.wait_for_line("not connected").await;
    assert!(process.is_running());
}

//! Values that cannot be right are refused where they enter: the message names the source and never
//! the value.

mod addresses;
mod files;
mod settings;
mod tokens;

use std::path::Path;
use std::process::Command;

use crate::support::process::{Process, infisical};

/// Part of every bad value; it must not appear in any output.
const MARK: &str = "hunter2";

/// Runs `command` to its end, with `input` on standard input: its exit code and its output.
async fn run(command: Command, input: &[u8]) -> (i32, String) {
    use std::io::Write as _;
    let mut process = Process::spawn("infisical", command);
    // The program may end before it reads.
    let _ = process.take_stdin().write_all(input);
    (process.exit_code().await, process.output())
}

/// `gateway check` of a gateway with a name.
fn check(home: &Path) -> Command {
    let mut command = infisical(home);
    command.args(["gateway", "check", "edge-1"]);
    command
}

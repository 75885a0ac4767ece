//! Cheap abuse: one source, on a fifth of a core, does what costs the relay most, while an honest
//! session and honest newcomers are served. And the opposite: many honest peers of one source, none
//! of whom is refused. Run by `make test-abuse`; needs root for a CPU quota and a network of its
//! own, and says so where it has none. `cargo test --locked --test abuse -- PART` runs the
//! scenarios with PART in their name.
//!
//! - `scenarios` has the tables, and runs them: for each scenario a relay and a gateway of its own,
//!   the attacker as a process of this very program, and what is asserted.
//! - `honest` is the session and the newcomers beside an attack; `crowd` is the honest peers of one
//!   source.
//! - `attacker` is what the attacker does; `raw_ssh` writes its handshakes without any
//!   cryptography, and `forged` its certificates.
//! - `organization` is a scenario of its own: the share of one organization.
//! - `cpu_group` is a control group with a CPU quota, `network` the network namespace of all
//!   processes here.
//!
//! Asserted are the relay's CPU time, its memory, and that no honest session fails. Latencies are
//! printed only: they depend on what else runs on the machine.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a scenario fails by panicking, and this is a program that prints its results"
)]
#![allow(missing_docs, reason = "a test has no readers but those of its source")]

mod attacker;
mod cpu_group;
mod crowd;
mod forged;
mod honest;
mod network;
mod organization;
mod raw_ssh;
mod scenarios;

use std::process::ExitCode;

use infisical_test_support as support;

use support::choice::Choice;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    raise_descriptors();
    let is_attacker = matches!(words.as_slice(), ["attack", ..]);
    // Before there are threads: a namespace is that of a thread and of what it starts.
    if !is_attacker
        && nix::unistd::geteuid().is_root()
        && let Err(error) = network::enter()
    {
        println!("SKIPPED: nothing is attacked, there is no network namespace: {error}");
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match words.as_slice() {
        ["attack", kind, from, to, file] => {
            runtime.block_on(attacker::run(
                kind,
                from.parse().expect("an address"),
                to.parse().expect("an address"),
                std::path::Path::new(file),
            ));
            ExitCode::SUCCESS
        }
        parts => runtime.block_on(scenarios::run(&Choice::of(parts))),
    }
}

/// As many as there may be: the attacker and the crowds hold thousands of connections.
fn raise_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("limits");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("the hard limit");
}

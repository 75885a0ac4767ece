//! Every fault that we promise to survive, on networks of our own making: what is broken, and how
//! long it takes until a session works again once it is cured. Run by `make test-faults`; needs
//! root, and says so where it is not.
//!
//! From the outside in:
//!
//! - `runner` takes the table of `cases`, runs several of them at once, and prints the table of
//!   docs/reliability.md. `cargo test --locked --test faults -- PART` runs the cases that have PART
//!   in their name.
//! - `cases` is the table: what is broken, the bound, and a function that breaks it, cures it and
//!   measures. It takes a [`lab::Lab`] of its own and panics when what must happen does not. To add
//!   one, write it and list it in `cases::TABLE`.
//! - `lab` has this build's platform, relay and gateway as processes, each on a machine of its own.
//! - `net` is these machines: network namespaces around a router, which silently drops what it is
//!   configured to drop.
//! - `probe` is the client: a session is tried repeatedly, and the first that works is the
//!   recovery.
//! - `peer` is what this very binary does as a child in one of the namespaces: an echo, a DNS
//!   server, and the proxy that stands between gateway and relay. `steer` tells the proxy what to
//!   do.
//!
//! - `talk` is a client and a target that compare every byte, `light_gateway` a gateway within this
//!   process, `small_disk` and `memory_group` are what runs short, and `figures` what a process
//!   holds.
//! - `doctor` runs `infisical gateway doctor` under a fault, and keeps the tables of
//!   docs/troubleshooting.md.
//! - `soak` is no case: `make soak` restarts, loads and breaks one gateway for minutes, and sees
//!   whether anything grows.
//!
//! What is measured is never waited for by the clock: the clock only bounds it. Faults that consist
//! in time passing (a partition of 90 s) are the exception, and `wait` has the only sleep.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    reason = "a case fails by panicking, and this is a program that prints its results"
)]
#![allow(missing_docs, reason = "a test has no readers but those of its source")]

mod cases;
mod doctor;
mod figures;
mod lab;
mod launch;
mod light_gateway;
mod memory_group;
mod net;
mod peer;
mod probe;
mod runner;
mod small_disk;
mod soak;
mod steer;
mod talk;
mod wait;

use std::process::ExitCode;

use infisical_test_support as support;

use support::choice::Choice;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["peer", role @ ..] => peer::run(role),
        ["soak"] => soak::run(),
        ["talk"] => talk::serve(),
        ["write-forever", path] => cases::writes::write_forever(path),
        parts => runner::run(&Choice::of(parts)),
    }
}

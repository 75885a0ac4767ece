//! The program as a service of a real systemd, which is booted in a container for it: Debian's
//! trixie (systemd 257) and bookworm (252), beside each other. Run by `make test-system`; needs
//! root, and says so where it is not.
//!
//! From the outside in:
//!
//! - `runner` takes the list of scenarios, runs it once for each release, and reports. `cargo test
//!   --locked --test system -- PART` runs the cases that have PART in their name, and those of the
//!   same scenario before them.
//! - `cases` holds the scenarios: one container each, and cases in an order in which a later one
//!   may rely on an earlier one. A case is a function that takes the scenario's [`lab::Lab`] and
//!   panics when it fails; the rest of its scenario is then skipped. Its name is a sentence about
//!   behaviour. To add one, write it and list it in `cases::SCENARIOS`.
//!   Those of `cases::PACKAGES` install what `make dist` has built, and run by `make test-packages`:
//!   the same words after `packages`.
//! - `lab` is a container with everything that a gateway needs: the program in /usr/local/bin, the
//!   embedded platform, a relay, and `peer`; it makes tokens and sessions.
//! - `service` is how the gateway becomes a service in it, by the program's own installer.
//! - `container` boots a root file system, runs commands in it, reboots it. `image` makes the root
//!   file systems, once.
//! - `sandbox` runs `probe` as a service: what this very binary does inside the service's sandbox.
//!   It tries what must be refused and what must work. `peer` is what it does as the other side: an
//!   echo, and a DNS server; `request` what it does as a client of HTTP.
//!
//! Nothing here waits for time to pass: [`wait::until`] waits for a condition that stays true once
//! it is true.

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
mod container;
mod image;
mod lab;
mod peer;
mod probe;
mod request;
mod runner;
mod sandbox;
mod service;
mod wait;

use std::process::ExitCode;

use infisical_test_support as support;

use support::choice::Choice;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["probe", configuration] => probe::run(configuration),
        ["peer"] => peer::run(),
        ["request", place, page] => request::run(place, page),
        ["packages", parts @ ..] => runner::run(cases::PACKAGES, &Choice::of(parts)),
        parts => runner::run(cases::SCENARIOS, &Choice::of(parts)),
    }
}

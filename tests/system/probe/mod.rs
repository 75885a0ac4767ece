//! What this binary does as the main process of the service: it tries, by system calls, what the
//! sandbox must refuse and what it must not, and says for each on a line of its own:
//!
//! - `refused WHAT (ERRNO)` or `ALLOWED WHAT` for what an intruder would do,
//! - `works WHAT` or `BROKEN WHAT (ERROR)` for what the program needs.
//!
//! Each attempt on the first list is made in a child process, so that one that succeeds, or that a
//! signal ends, does not change the next. Attempts are chosen so that succeeding does no harm to
//! the container.

#![allow(
    clippy::cast_sign_loss,
    reason = "the kernel takes words, and the constants that become them are not negative"
)]

mod refused;
mod sys;
mod works;

use std::io;
use std::process::ExitCode;

/// File with the sockets of this machine, one a line.
pub(crate) const SOCKETS: &str = "/etc/infisical-probe-sockets";
/// File with the number of a process that is no business of ours.
pub(crate) const VICTIM: &str = "/etc/infisical-probe-victim";
/// Configuration of every service that may be on a machine, and holds its secrets.
pub(crate) const CONFIGURATIONS: &[&str] = &[
    "/etc/infisical/gateway.conf",
    "/etc/infisical/gateways/other.conf",
    "/etc/infisical/relay.conf",
    "/etc/infisical/relays/other.conf",
];
/// What the journal must have received by its native protocol.
pub(crate) const JOURNAL_LINE: &str = "a native entry of the probe";

/// How one attempt on the first list ended.
pub(super) type Attempt = io::Result<()>;

/// Tries everything. `configuration` is the file that the service must be able to read.
pub(crate) fn run(configuration: &str) -> ExitCode {
    for (what, attempt) in refused::all(configuration) {
        println!("{}", verdict(&what, sys::in_child(attempt)));
    }
    for (what, attempt) in works::all(configuration) {
        match attempt() {
            Ok(()) => println!("works {what}"),
            Err(error) => println!("BROKEN {what} ({error})"),
        }
    }
    ExitCode::SUCCESS
}

/// One line for an attempt that must be refused. Whatever the kernel found wrong in it beyond
/// permission shows that it was considered at all.
fn verdict(what: &str, ended: sys::Ended) -> String {
    use nix::errno::Errno;
    match ended {
        sys::Ended::Done => format!("ALLOWED {what}"),
        sys::Ended::Signal(number) => format!("refused {what} (signal {number})"),
        sys::Ended::Failed(errno) => match errno {
            Errno::EPERM
            | Errno::EACCES
            | Errno::EROFS
            | Errno::ENOENT
            | Errno::ENOTDIR
            | Errno::ENXIO
            | Errno::ESRCH
            | Errno::ENOSYS
            | Errno::EAFNOSUPPORT
            | Errno::EPROTONOSUPPORT
            | Errno::ESOCKTNOSUPPORT
            | Errno::ECONNREFUSED => format!("refused {what} ({errno:?})"),
            other => format!("ALLOWED {what} ({other:?})"),
        },
    }
}

/// A refusal that no system call made.
pub(super) fn refusal() -> io::Error {
    io::Error::from(nix::errno::Errno::EPERM)
}

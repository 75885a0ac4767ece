//! The network of all processes of this suite: loopback alone, with an IPv6 network of 48 bits of
//! which every address is this machine's.

use std::io;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};

/// All of a /48: a hostile site.
const SETUP: [&[&str]; 2] = [
    &["link", "set", "lo", "up"],
    &[
        "-6",
        "route",
        "add",
        "local",
        "fd00:bad:1::/48",
        "dev",
        "lo",
    ],
];

/// Without it only addresses of interfaces can be bound.
const NONLOCAL_BIND: &str = "/proc/sys/net/ipv6/ip_nonlocal_bind";

/// Moves this thread, and what it starts, into a network of its own.
///
/// # Errors
/// It is not permitted, or has no IPv6.
pub(crate) fn enter() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    for arguments in SETUP {
        let status = Command::new("ip").args(arguments).status()?;
        if !status.success() {
            return Err(io::Error::other(format!("ip {arguments:?}: {status}")));
        }
    }
    std::fs::write(NONLOCAL_BIND, "1")
}

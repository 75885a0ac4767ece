//! What a role gives up before it works: capabilities, new privileges, core dumps, and being looked
//! into.
//!
//! A gateway is root for the sake of files that only root may read, and of nothing else that root
//! may do. Whatever its unit left it is given up here as well, and then read back, for it is the
//! result that counts: a filter of system calls may refuse a step that had nothing to do.
//! Capabilities belong to threads, so this comes before any other thread.

use std::collections::BTreeSet;
use std::{fmt, io};

use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Uid, geteuid};

use crate::error::chain;
use crate::{event, events};

/// What a role needs of root's powers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// None of them.
    Nothing,
    /// Listening on ports below 1024, if this process may.
    LowPorts,
}

/// The sets by which a process could do something, or pass it on. The bounding set is none of them:
/// with `no_new_privs` nothing can be gained up to it.
const SETS: [CapSet; 4] = [
    CapSet::Effective,
    CapSet::Permitted,
    CapSet::Inheritable,
    CapSet::Ambient,
];

/// Gives up all but `keep`, and logs what is there in the end. Never fails: a process with too much
/// still works, and the log says so.
pub fn give_up(keep: Keep) {
    harden();
    let kept = kept(keep);
    if let Err(error) = empty(&kept) {
        // Nothing to worry about if there was nothing to give up.
        tracing::debug!(%error, "not every set of capabilities could be changed");
    }
    let name = Name(geteuid());
    match left() {
        Ok(left) if left.is_empty() => tracing::info!("running as {name} without capabilities"),
        Ok(left) if left == kept => {
            tracing::info!("running as {name} without capabilities but {}", list(&left));
        }
        Ok(left) => event!(
            events::CAPABILITIES_NOT_DROPPED,
            user = %name,
            capabilities = list(&left)
        ),
        Err(error) => {
            tracing::warn!(error = %chain(&error), "running as {name} with unknown capabilities");
        }
    }
}

/// Secrets are in the memory of this process: it leaves no copies and lets no other process of its
/// user look.
fn harden() {
    let told = |step: &'static str, result: Result<(), Errno>| {
        if let Err(error) = result {
            let error = io::Error::from(error);
            tracing::warn!(error = %chain(&error), step, "this process is less protected than it should be");
        }
    };
    told("no new privileges", prctl::set_no_new_privs());
    told("no core dumps", no_core_dumps());
    told("not dumpable", prctl::set_dumpable(false));
}

fn no_core_dumps() -> Result<(), Errno> {
    let result = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    // The units refuse the call, by which root could set other processes' limits, and have set this
    // one themselves.
    let limits = || std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    match result {
        Err(Errno::EPERM) if core_limit_is_zero(&limits()) => Ok(()),
        result => result,
    }
}

fn core_limit_is_zero(limits: &str) -> bool {
    let mut lines = limits.lines();
    let values = lines.find_map(|line| line.strip_prefix("Max core file size"));
    values.is_some_and(|values| values.split_whitespace().take(2).eq(["0", "0"]))
}

fn kept(keep: Keep) -> CapsHashSet {
    let port = Capability::CAP_NET_BIND_SERVICE;
    match keep {
        Keep::LowPorts if matches!(caps::has_cap(None, CapSet::Permitted, port), Ok(true)) => {
            CapsHashSet::from([port])
        }
        Keep::LowPorts | Keep::Nothing => CapsHashSet::new(),
    }
}

fn empty(kept: &CapsHashSet) -> Result<(), caps::errors::CapsError> {
    // The bounding set while CAP_SETPCAP is still there; without it the set stays, and means
    // nothing.
    let bounding = match caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        true => caps::clear(None, CapSet::Bounding),
        false => Ok(()),
    };
    let ambient = caps::clear(None, CapSet::Ambient);
    let inheritable = caps::clear(None, CapSet::Inheritable);
    // What is effective must be permitted at any time.
    let effective = caps::set(None, CapSet::Effective, kept);
    let permitted = caps::set(None, CapSet::Permitted, kept);
    bounding
        .and(ambient)
        .and(inheritable)
        .and(effective)
        .and(permitted)
}

fn left() -> Result<CapsHashSet, caps::errors::CapsError> {
    let mut left = CapsHashSet::new();
    for set in SETS {
        left.extend(caps::read(None, set)?);
    }
    Ok(left)
}

fn list(capabilities: &CapsHashSet) -> String {
    let names: BTreeSet<String> = capabilities.iter().map(ToString::to_string).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

/// A user, by name if it is root.
struct Name(Uid);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_root() {
            f.write_str("root")
        } else {
            write!(f, "uid {}", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use caps::{CapSet, Capability, CapsHashSet};

    use super::{Keep, core_limit_is_zero, empty, kept, left, list};

    /// In a thread of its own, since what is given up does not come back.
    fn in_a_thread(work: impl FnOnce() + Send + 'static) {
        std::thread::spawn(work).join().expect("no panic");
    }

    #[test]
    fn privileges_are_dropped_once_and_for_all() {
        in_a_thread(|| {
            for _ in 0..2 {
                empty(&CapsHashSet::new()).expect("given up");
                assert_eq!(left().expect("readable"), CapsHashSet::new());
            }
        });
    }

    #[test]
    fn limit_already_set_is_accepted() {
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax core file size        0       0       bytes\n";
        assert!(core_limit_is_zero(limits));
        assert!(!core_limit_is_zero(
            &limits.replace("0       bytes", "unlimited bytes")
        ));
        assert!(!core_limit_is_zero(""));
    }

    #[test]
    fn only_its_holder_keeps_low_ports() {
        in_a_thread(|| {
            let port = Capability::CAP_NET_BIND_SERVICE;
            let had = caps::has_cap(None, CapSet::Permitted, port).expect("readable");
            let kept_now = kept(Keep::LowPorts);
            assert_eq!(kept_now.contains(&port), had);
            empty(&kept_now).expect("given up");
            assert_eq!(left().expect("readable"), kept_now);
            empty(&kept(Keep::Nothing)).expect("given up");
            assert_eq!(kept(Keep::LowPorts), CapsHashSet::new());
        });
    }

    #[test]
    fn what_is_left_is_named_in_order() {
        let left = CapsHashSet::from([Capability::CAP_SYS_ADMIN, Capability::CAP_CHOWN]);
        assert_eq!(list(&left), "CAP_CHOWN, CAP_SYS_ADMIN");
    }
}

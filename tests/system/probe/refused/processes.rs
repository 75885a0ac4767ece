//! Privileges of its own, and power over others: capabilities, users, namespaces, tracing, signals,
//! execution.

use std::fs;
use std::io;

use nix::libc;

use super::{Named, TEMPORARY, add, directory, execute, execute_in};
use crate::probe::{VICTIM, refusal, sys};

/// Every kind of namespace (CLONE_NEWTIME is not in the library).
const NAMESPACES: &[(&str, i32)] = &[
    ("cgroup", libc::CLONE_NEWCGROUP),
    ("ipc", libc::CLONE_NEWIPC),
    ("mount", libc::CLONE_NEWNS),
    ("network", libc::CLONE_NEWNET),
    ("pid", libc::CLONE_NEWPID),
    ("time", 0x80),
    ("user", libc::CLONE_NEWUSER),
    ("uts", libc::CLONE_NEWUTS),
];

pub(super) fn privileges(all: &mut Vec<Named>) {
    add(all, "hold a capability", || {
        let none = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]
            .iter()
            .all(|set| capabilities(set).is_ok_and(|bits| bits == 0));
        if none { Err(refusal()) } else { Ok(()) }
    });
    add(all, "gain a capability", || sys::capset(21));
    add(all, "become root with capabilities", || {
        sys::plain(libc::SYS_setresuid, &[0, 0, 0])?;
        if capabilities("CapEff")? == 0 {
            Err(refusal())
        } else {
            Ok(())
        }
    });
    add(all, "become another user", || {
        sys::plain(libc::SYS_setresuid, &[12345, 12345, 12345]).map(drop)
    });
    add(all, "gain privileges by executing", || {
        let status = fs::read_to_string("/proc/self/status")?;
        let held = status.lines().any(|line| line == "NoNewPrivs:\t1");
        if held { Err(refusal()) } else { Ok(()) }
    });
    add(all, "have its memory dumped to disk", || {
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 1, 1)
            .map_err(io::Error::from)
    });
    add(all, "be scheduled in real time", || {
        let mut priority = 1_i32.to_ne_bytes();
        let number = libc::SYS_sched_setscheduler;
        let policy = libc::SCHED_RR as usize;
        sys::with_bytes(number, &[0, policy], &mut priority, &[]).map(drop)
    });
    add(all, "raise its priority", || {
        sys::plain(libc::SYS_setpriority, &[0, 0, (-5_isize).cast_unsigned()]).map(drop)
    });
    for (what, flag) in NAMESPACES {
        add(all, format!("unshare the {what} namespace"), move || {
            sys::plain(libc::SYS_unshare, &[*flag as usize]).map(drop)
        });
        add(
            all,
            format!("clone into a new {what} namespace"),
            move || sys::clone_into(*flag),
        );
    }
    add(all, "change its root", || {
        sys::with_texts(libc::SYS_chroot, &["/"], &[]).map(drop)
    });
    add(all, "mount", || {
        // Permission is asked for before the file system, which is none.
        sys::with_texts(libc::SYS_mount, &["none", "/mnt", "none"], &[]).map(drop)
    });
    add(all, "open a file system", || {
        sys::with_texts(libc::SYS_fsopen, &["tmpfs"], &[]).map(drop)
    });
    add(all, "unmount", || {
        // Permission is asked for before the mount, which is none.
        sys::with_texts(libc::SYS_umount2, &["/etc"], &[]).map(drop)
    });
}

pub(super) fn processes(all: &mut Vec<Named>) {
    const PTRACE_SEIZE: usize = 0x4206;
    add(all, "see the processes of others", || {
        fs::read_dir(format!("/proc/{}", victim()?))?;
        Ok(())
    });
    add(all, "trace another process", || {
        sys::plain(libc::SYS_ptrace, &[PTRACE_SEIZE, victim()?]).map(drop)
    });
    add(all, "read another's memory", || sys::read_memory(victim()?));
    add(all, "signal another process", || {
        // Signal 0 asks for permission only.
        sys::plain(libc::SYS_kill, &[victim()?, 0]).map(drop)
    });
    add(all, "change another's limits", || {
        let mut old = [0; 16];
        let core = libc::RLIMIT_CORE as usize;
        sys::with_bytes(libc::SYS_prlimit64, &[victim()?, core, 0], &mut old, &[]).map(drop)
    });
    add(all, "execute /bin/true", || execute("/bin/true", &[]));
    add(all, "execute by the loader", || {
        execute("/lib64/ld-linux-x86-64.so.2", &["/bin/true"])
    });
    for folder in TEMPORARY {
        add(all, format!("execute a file in {folder}"), move || {
            execute_in(folder, "/bin/true", &[])
        });
    }
    for variable in ["RUNTIME_DIRECTORY", "STATE_DIRECTORY"] {
        add(
            all,
            format!("execute a file in its {variable}"),
            move || execute_in(directory(variable), "/bin/true", &[]),
        );
    }
    add(all, "execute memory", || {
        sys::execute_memory(&fs::read("/bin/true")?)
    });
    add(all, "map writable code", sys::map_writable_code);
    add(all, "make code of data", sys::make_code);
}

/// One set of capabilities of this process.
fn capabilities(set: &str) -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(set));
    let bits = line.and_then(|rest| rest.strip_prefix(":\t"));
    let bits = bits.and_then(|bits| u64::from_str_radix(bits, 16).ok());
    bits.ok_or_else(|| io::Error::other("no such set"))
}

fn victim() -> io::Result<usize> {
    let number = fs::read_to_string(VICTIM)?;
    number.trim().parse().map_err(io::Error::other)
}

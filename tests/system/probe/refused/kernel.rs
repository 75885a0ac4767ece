//! What belongs to the kernel: its modules, keys, clock, names and rarely used corners.

use std::fs;

use nix::libc;

use super::{Named, add};
use crate::probe::sys;

pub(super) fn kernel(all: &mut Vec<Named>) {
    /// -3, which means the session's keyring.
    const SESSION: usize = usize::MAX - 2;
    const NUMBERS: &[(&str, libc::c_long, &[usize])] = &[
        ("use keyrings", libc::SYS_keyctl, &[0, SESSION, 1]),
        ("open a performance counter", libc::SYS_perf_event_open, &[]),
        ("use BPF", libc::SYS_bpf, &[]),
        ("load a module", libc::SYS_init_module, &[]),
        ("load a module by descriptor", libc::SYS_finit_module, &[]),
        ("unload a module", libc::SYS_delete_module, &[]),
        // Without the magic numbers it does nothing.
        ("reboot", libc::SYS_reboot, &[]),
        ("replace the kernel", libc::SYS_kexec_load, &[]),
        (
            "change the personality",
            libc::SYS_personality,
            &[libc::ADDR_NO_RANDOMIZE as usize],
        ),
        ("read the kernel's log", libc::SYS_syslog, &[10]),
        ("use io_uring", libc::SYS_io_uring_setup, &[]),
        ("handle page faults", libc::SYS_userfaultfd, &[1]),
        ("lock memory", libc::SYS_mlockall, &[1]),
        ("account processes", libc::SYS_acct, &[]),
        ("get ports", libc::SYS_iopl, &[3]),
        ("hang up the terminal", libc::SYS_vhangup, &[]),
    ];
    for (what, number, arguments) in NUMBERS {
        let (number, arguments) = (*number, *arguments);
        add(all, *what, move || sys::plain(number, arguments).map(drop));
    }
    add(all, "add a key", || {
        let process = (-2_isize).cast_unsigned();
        let texts = ["user", "infisical-probe", "x"];
        sys::with_texts(libc::SYS_add_key, &texts, &[1, process]).map(drop)
    });
    add(all, "set the hostname", || {
        let name = fs::read_to_string("/etc/hostname").unwrap_or_default();
        let name = name.trim();
        sys::with_texts(libc::SYS_sethostname, &[name], &[name.len()]).map(drop)
    });
    add(all, "set the domain name", || {
        sys::with_texts(libc::SYS_setdomainname, &["probe"], &[5]).map(drop)
    });
    add(all, "set the clock", || {
        // A time that cannot be: permission is asked for first.
        let mut time = [0xff; 16];
        sys::with_bytes(libc::SYS_settimeofday, &[], &mut time, &[]).map(drop)
    });
    add(all, "swap", || {
        sys::with_texts(libc::SYS_swapon, &["/etc/passwd"], &[]).map(drop)
    });
    add(all, "open by handle", || {
        let mut handle = [0; 136];
        let here = libc::AT_FDCWD as isize;
        sys::with_bytes(
            libc::SYS_open_by_handle_at,
            &[here.cast_unsigned()],
            &mut handle,
            &[],
        )
        .map(drop)
    });
}

//! What an intruder would try. An attempt that is refused by something else than the sandbox proves nothing, so the cases
//! also run all of this outside of it.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _};
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::libc;

use super::{Attempt, SOCKETS, VICTIM, refusal, sys};
use crate::peer;

type Named = (String, Box<dyn FnOnce() -> Attempt>);

/// Sockets that the service may use.
const OURS: &[&str] = &[
    "/run/systemd/notify",
    "/run/systemd/journal/",
    "/run/systemd/resolve/",
];

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

/// Where everybody may write.
const TEMPORARY: &[&str] = &["/dev/shm", "/tmp", "/var/tmp"];

/// Sockets other than those of a client: what they are, family, type, protocol.
const SOCKET_KINDS: &[(&str, i32, i32, i32)] = &[
    ("raw", libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP),
    (
        "raw IPv6",
        libc::AF_INET6,
        libc::SOCK_RAW,
        libc::IPPROTO_ICMPV6,
    ),
    ("packet", libc::AF_PACKET, libc::SOCK_RAW, 0),
    (
        "netlink",
        libc::AF_NETLINK,
        libc::SOCK_RAW,
        libc::NETLINK_ROUTE,
    ),
    ("kernel crypto", libc::AF_ALG, libc::SOCK_SEQPACKET, 0),
    ("vsock", libc::AF_VSOCK, libc::SOCK_STREAM, 0),
];

/// Everything.
pub(super) fn all() -> Vec<Named> {
    let mut all = Vec::new();
    files(&mut all);
    privileges(&mut all);
    processes(&mut all);
    kernel(&mut all);
    network(&mut all);
    sockets(&mut all);
    mounts(&mut all);
    all
}

fn add(all: &mut Vec<Named>, what: impl Into<String>, attempt: impl FnOnce() -> Attempt + 'static) {
    all.push((what.into(), Box::new(attempt)));
}

fn files(all: &mut Vec<Named>) {
    for folder in [
        "/etc",
        "/etc/systemd/system",
        "/opt",
        "/run",
        "/run/systemd/system",
        "/run/systemd/transient",
        "/usr",
        "/usr/lib",
        "/usr/lib/systemd/system",
        "/var/lib",
        "/var/spool",
    ] {
        add(all, format!("write {folder}"), move || {
            write_in(Path::new(folder))
        });
    }
    for path in ["/etc/shadow", "/home/someone/secret", "/root/secret"] {
        add(all, format!("read {path}"), move || {
            File::open(path)?.read_exact(&mut [0])
        });
    }
    for folder in ["/home", "/root", "/var/log"] {
        add(all, format!("list {folder}"), move || {
            // An empty one in its place is as good as none.
            fs::read_dir(folder)?
                .next()
                .map_or_else(|| Err(refusal()), |entry| entry.map(drop))
        });
    }
    for device in ["/dev/kmsg", "/dev/mem", "/dev/vda", "/dev/sda"] {
        add(all, format!("open {device}"), move || open_to_write(device));
    }
    add(all, "write its own program", || {
        change(Path::new("/usr/local/bin/infisical"))
    });
    add(all, "write a sysctl", || {
        open_to_write("/proc/sys/net/ipv4/ip_forward")
    });
    add(all, "write a control group", || {
        let groups = fs::read_to_string("/proc/self/cgroup")?;
        let own = groups.lines().find_map(|line| line.strip_prefix("0::"));
        let own = own.unwrap_or_default().trim_start_matches('/');
        open_to_write(Path::new("/sys/fs/cgroup").join(own).join("cgroup.procs"))
    });
    add(all, "make a set-uid program", || {
        let path = state().join("set-uid");
        File::create(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o4755))
    });
    add(all, "give a file away", || {
        let path = state().join("given");
        File::create(&path)?;
        std::os::unix::fs::chown(&path, Some(12345), None)
    });
    add(all, "make a device", || {
        let path = state().join("device");
        let text = path.to_string_lossy();
        // Major 1, minor 3: what /dev/null is.
        let mode = (libc::S_IFCHR | 0o600) as usize;
        sys::with_texts(libc::SYS_mknod, &[&text], &[mode, 0x103]).map(drop)
    });
}

/// Every mount, for a service gets dozens of them, each with flags of its own.
fn mounts(all: &mut Vec<Named>) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("the mounts");
    let places: BTreeSet<&str> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .collect();
    // With a user of its own they are links.
    let own = [state(), directory("RUNTIME_DIRECTORY")]
        .map(|path| path.canonicalize().expect("a directory"));
    for place in places.into_iter().map(PathBuf::from) {
        // Pressure on its own memory may be watched, and devices are for all.
        let is_ours = own.contains(&place) || TEMPORARY.iter().any(|path| place == Path::new(path));
        let is_harmless = place.ends_with("memory.pressure") || place.starts_with("/dev");
        if !is_ours && !is_harmless {
            let place = place.clone();
            add(
                all,
                format!("write at the mount {}", place.display()),
                move || {
                    if place.is_dir() {
                        write_in(&place)
                    } else {
                        change(&place)
                    }
                },
            );
        }
        if place.is_dir() {
            add(
                all,
                format!("execute at the mount {}", place.display()),
                move || execute_in(place),
            );
        }
    }
}

fn privileges(all: &mut Vec<Named>) {
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

fn processes(all: &mut Vec<Named>) {
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
            execute_in(folder)
        });
    }
    for variable in ["RUNTIME_DIRECTORY", "STATE_DIRECTORY"] {
        add(
            all,
            format!("execute a file in its {variable}"),
            move || execute_in(directory(variable)),
        );
    }
    add(all, "execute memory", || {
        sys::execute_memory(&fs::read("/bin/true")?)
    });
    add(all, "map writable code", sys::map_writable_code);
    add(all, "make code of data", sys::make_code);
}

fn kernel(all: &mut Vec<Named>) {
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

fn network(all: &mut Vec<Named>) {
    for (what, family, kind, protocol) in SOCKET_KINDS {
        add(all, format!("make a {what} socket"), move || {
            let numbers = [*family as usize, *kind as usize, *protocol as usize];
            sys::plain(libc::SYS_socket, &numbers).map(drop)
        });
    }
    add(all, "listen for TCP", || {
        TcpListener::bind("127.0.0.1:0").map(drop)
    });
    add(all, "listen for TCP without a port", || {
        let numbers = [libc::AF_INET as usize, libc::SOCK_STREAM as usize, 0];
        let socket = sys::plain(libc::SYS_socket, &numbers)?;
        sys::plain(libc::SYS_listen, &[socket, 1]).map(drop)
    });
    add(all, "listen at a path", || {
        UnixListener::bind(directory("RUNTIME_DIRECTORY").join("socket")).map(drop)
    });
}

fn sockets(all: &mut Vec<Named>) {
    let list = fs::read_to_string(SOCKETS).expect("the list of sockets");
    for path in list.lines().map(str::to_owned) {
        if OURS.iter().any(|ours| path.starts_with(ours)) {
            continue;
        }
        add(all, format!("connect to {path}"), move || connect(&path));
    }
    add(all, "connect to an abstract socket", || {
        let address = SocketAddr::from_abstract_name(peer::ABSTRACT)?;
        UnixStream::connect_addr(&address).map(drop)
    });
}

/// As whatever the socket is.
fn connect(path: &str) -> Attempt {
    const WRONG_TYPE: i32 = libc::EPROTOTYPE;
    match UnixStream::connect(path) {
        Err(error) if error.raw_os_error() == Some(WRONG_TYPE) => {
            UnixDatagram::unbound()?.connect(path)
        }
        outcome => outcome.map(drop),
    }
}

fn execute(program: &str, arguments: &[&str]) -> Attempt {
    let output = Command::new(program).args(arguments).output()?;
    // The loader starts, and says itself that it may not map the program.
    if output.status.success() {
        Ok(())
    } else {
        Err(refusal())
    }
}

fn write_in(folder: &Path) -> Attempt {
    let path = folder.join("infisical-probe-wrote-this");
    File::create(&path)?;
    fs::remove_file(&path)
}

/// What is running cannot be opened for writing anywhere; its mode can be written where it can.
fn change(path: &Path) -> Attempt {
    fs::set_permissions(path, fs::metadata(path)?.permissions())
}

/// A program that was not there before.
fn execute_in(folder: impl AsRef<Path>) -> Attempt {
    let program = folder.as_ref().join("infisical-probe-program");
    let mode = Permissions::from_mode(0o700);
    let copied = fs::copy("/bin/true", &program).and_then(|_| fs::set_permissions(&program, mode));
    let outcome = copied
        .map_err(|_| refusal())
        .and_then(|()| execute(&program.to_string_lossy(), &[]));
    let _ = fs::remove_file(&program);
    outcome
}

fn open_to_write(path: impl AsRef<Path>) -> Attempt {
    OpenOptions::new().write(true).open(path).map(drop)
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

fn state() -> PathBuf {
    directory("STATE_DIRECTORY")
}

/// A directory that systemd made for the service.
pub(super) fn directory(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable);
    PathBuf::from(path.unwrap_or_else(|| panic!("no {variable}")))
}

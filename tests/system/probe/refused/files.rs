//! Files of others, the system's own, devices, and what is mounted where.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::libc;

use super::{Named, TEMPORARY, add, directory, execute_in, open_to_write, state};
use crate::probe::{Attempt, CONFIGURATIONS, refusal, sys};

pub(super) fn files(all: &mut Vec<Named>, configuration: &str) {
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
    let others = CONFIGURATIONS.iter().filter(|path| **path != configuration);
    let secrets = ["/etc/shadow", "/home/someone/secret", "/root/secret"];
    for path in others.copied().chain(secrets) {
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
pub(super) fn mounts(all: &mut Vec<Named>) {
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
                move || execute_in(place, "/bin/true", &[]),
            );
        }
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

//! The file system on which the configuration is: an enrollment keeps its token there.

use std::path::Path;

use nix::sys::statvfs::{FsFlags, Statvfs, statvfs};

use super::layer::{Check, DISK, Fault, blocked};

/// With less than this, no file can be written whole.
const LEAST: u64 = 64 * 1024;

/// Looks at the file system of `file`; `keeps_token` tells that the next start writes there.
pub(super) fn examine(file: &Path, keeps_token: bool) -> Check {
    // A name alone has no directory.
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let Some(directory) = file.ancestors().skip(1).find(|path| path.is_dir()) else {
        return Check::skipped(&DISK, "the directory of the configuration is not there");
    };
    match statvfs(directory) {
        Ok(system) => judge(
            directory,
            free(&system),
            is_read_only(&system) && keeps_token,
        ),
        Err(error) => Check::skipped(&DISK, format!("{}: {error}", directory.display())),
    }
}

/// It is not known which file system it is, because of `configuration`.
pub(super) fn unknown(configuration: &Check) -> Check {
    blocked(&DISK, &[configuration]).unwrap_or_else(|| Check::skipped(&DISK, "not known"))
}

fn free(system: &Statvfs) -> u64 {
    system
        .blocks_available()
        .saturating_mul(system.fragment_size())
}

fn is_read_only(system: &Statvfs) -> bool {
    system.flags().contains(FsFlags::ST_RDONLY)
}

fn judge(directory: &Path, free: u64, is_closed: bool) -> Check {
    let directory = directory.display();
    if is_closed {
        let cause = format!("{directory} is read-only, so an enrollment cannot keep its token.");
        let fix = "Make it writable, or choose another file with --config.";
        return Check::failed(&DISK, Fault::new("read-only file system", cause, fix));
    }
    let detail = format!("{} MiB free in {directory}", free >> 20);
    if free < LEAST {
        let cause = format!("The file system of {directory} is full.");
        let fix = format!("Make room on it; to see it: df -h {directory}");
        return Check::failed(&DISK, Fault::new(detail, cause, fix));
    }
    Check::good(&DISK, detail)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{LEAST, examine, judge};

    #[test]
    fn file_without_a_directory_is_here() {
        let json = examine(Path::new("gateway.conf"), false).json();
        assert_ne!(json["status"], "skipped", "{json}");
    }

    #[test]
    fn full_or_closed_disks_fail() {
        for (free, is_closed, status) in [
            (LEAST, false, "ok"),
            (LEAST - 1, false, "failed"),
            (LEAST, true, "failed"),
        ] {
            let json = judge(Path::new("/etc"), free, is_closed).json();
            assert_eq!(json["status"], status, "{json}");
        }
    }
}

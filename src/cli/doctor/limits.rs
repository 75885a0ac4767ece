//! What the running process has used of its limits: descriptors and memory.

use std::fs;
use std::path::PathBuf;

use super::layer::{Check, DESCRIPTORS, Fault, Layer, MEMORY};

/// Percent of a limit above which it is about to be the reason of the next failure.
const FULL: u64 = 90;

/// Reads them of the process `pid`.
pub(super) fn examine(pid: u32) -> Vec<Check> {
    vec![
        judge(&DESCRIPTORS, descriptors(pid), "LimitNOFILE="),
        judge(&MEMORY, memory(pid), "MemoryMax="),
    ]
}

/// What is used, and what may be; `None` if there is no limit.
type Use = (u64, Option<u64>);

fn judge(layer: &'static Layer, used: Option<Use>, setting: &str) -> Check {
    match used {
        None => Check::skipped(
            layer,
            "this user may not read it, or the system does not tell",
        ),
        Some((used, None)) => Check::good(layer, format!("{used} in use, without a limit")),
        Some((used, Some(limit))) => {
            let detail = format!("{used} of {limit} in use");
            let is_full = used.saturating_mul(100) >= limit.saturating_mul(FULL);
            if !is_full {
                return Check::good(layer, detail);
            }
            let cause = "The process is about to reach its limit.";
            let fix = format!("Raise {setting} in a drop-in of the unit, then restart it.");
            Check::failed(layer, Fault::new(detail, cause, fix))
        }
    }
}

fn descriptors(pid: u32) -> Option<Use> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    Some((u64::try_from(open).ok()?, soft_limit(&limits)))
}

/// The soft limit of open files in `/proc/PID/limits`.
fn soft_limit(limits: &str) -> Option<u64> {
    let mut lines = limits.lines();
    let line = lines.find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Of the control group of `pid`, in the unified hierarchy.
fn memory(pid: u32) -> Option<Use> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let directory = PathBuf::from(format!("/sys/fs/cgroup{group}"));
    let read = |file: &str| fs::read_to_string(directory.join(file)).ok();
    let used = read("memory.current")?.trim().parse().ok()?;
    let limit = read("memory.max")?.trim().parse().ok();
    Some((used, limit))
}

#[cfg(test)]
mod tests {
    use super::{DESCRIPTORS, judge, soft_limit};

    #[test]
    fn nearly_used_limits_fail() {
        for (used, status) in [
            (None, "skipped"),
            (Some((100, None)), "ok"),
            (Some((89, Some(100))), "ok"),
            (Some((90, Some(100))), "failed"),
        ] {
            let json = judge(&DESCRIPTORS, used, "X=").json();
            assert_eq!(json["status"], status, "{json}");
        }
    }

    #[test]
    fn soft_limit_is_read() {
        let limits = "Limit      Soft Limit  Hard Limit  Units\n\
                      Max open files            1024                 524288               files\n";
        assert_eq!(soft_limit(limits), Some(1024));
        assert_eq!(
            soft_limit("Max open files  unlimited  unlimited  files"),
            None
        );
    }
}

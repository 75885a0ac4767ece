//! What a process holds, as the kernel counts it.

use nix::unistd::Pid;

/// At one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    /// Resident, in bytes.
    pub(crate) memory: u64,
    pub(crate) threads: usize,
}

impl Figures {
    /// Of a running process.
    pub(crate) fn of(pid: Pid) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
        let status = status.expect("a running process");
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let word = line.and_then(|line| line.split_whitespace().next());
            let number = word.and_then(|word| word.parse::<u64>().ok());
            number.unwrap_or_else(|| panic!("no {name} of {pid}"))
        };
        Self {
            memory: number("VmRSS:") << 10,
            threads: usize::try_from(number("Threads:")).expect("few"),
        }
    }
}

/// How many descriptors a running process has open.
pub(crate) fn descriptors(pid: Pid) -> usize {
    let folder = std::fs::read_dir(format!("/proc/{pid}/fd"));
    folder.expect("a running process").count()
}

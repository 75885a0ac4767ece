//! `MemoryHigh=` and `MemoryMax=` of the units, which follow from the limits of the roles.

use infisical::install::memory;
use infisical_config::settings::RelayLimits;

use crate::constants::constant;
use crate::source::Source;

/// What each role can be made to hold, in MiB, the kernel's buffers not counted.
pub(crate) fn bound(sources: &[Source], role: &str) -> Option<u64> {
    /// The program itself.
    const PROGRAM: u64 = 64;
    let value = |path, name| constant(sources, path, name);
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    match role {
        "relay" => u64::try_from(RelayLimits::default().memory_mib()).ok(),
        "gateway" => {
            // TLS 2, and a buffer for each direction.
            const SESSION: u64 = 128 * 1024;
            let window = "crates/ssh/src/connection/window.rs";
            let session = value(window, "BASE")? + SESSION;
            let sessions =
                value("crates/gateway/src/connection/policy.rs", "MAX_SESSIONS")? * session;
            let queue = value(
                "crates/ssh/src/connection/channels/send.rs",
                "SESSION_QUEUE",
            )?;
            // A new tunnel and the one before it.
            let tunnels = 2 * (value(window, "BUDGET")? + queue);
            Some(PROGRAM + mib(sessions) + mib(tunnels))
        }
        "platform" => {
            // TLS and buffers, beside a request's head and body.
            const CONNECTION: u64 = 128 * 1024;
            let head = value("crates/platform/src/server.rs", "MAX_HEAD")?;
            let body = value("crates/platform/src/routes/mod.rs", "MAX_BODY")?;
            let connections = value("crates/platform/src/server.rs", "MAX_CONNECTIONS")?;
            Some(PROGRAM + mib(connections * (CONNECTION + head + body)))
        }
        _ => None,
    }
}

/// Where `unit` allows another amount of memory than what `bound` MiB ask for.
pub(crate) fn unit_disagreements(unit: &str, text: &str, bound: u64) -> Vec<String> {
    let bound = usize::try_from(bound).unwrap_or(usize::MAX);
    let missing = memory::limits(bound).into_iter();
    let missing = missing.filter(|line| !text.lines().any(|found| found == line));
    missing
        .map(|line| format!("{unit} does not have {line}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::unit_disagreements;

    #[test]
    fn limits_follow_from_the_bound() {
        let unit = "[Service]\nMemoryHigh=1024M\nMemoryMax=1536M\n";
        assert!(unit_disagreements("a unit", unit, 600).is_empty());
        assert_eq!(unit_disagreements("a unit", unit, 800).len(), 2);
        assert_eq!(unit_disagreements("a unit", "", 600).len(), 2);
    }
}

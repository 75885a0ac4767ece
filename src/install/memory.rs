//! The memory that a unit allows its program. Pure.

/// The drop-in for a relay whose limits are not the usual ones.
pub(crate) const MEMORY_DROP_IN: &str = "memory.conf";
/// What a unit says is a multiple of this, in MiB.
const STEP: usize = 512;

/// The lines of a unit for a program that can be made to hold `bound` MiB. It is slowed down beyond
/// half as much again, for the kernel's buffers of its sockets count too, and ended beyond twice as
/// much.
#[must_use]
pub fn limits(bound: usize) -> [String; 2] {
    let up = |mib: usize| mib.div_ceil(STEP).saturating_mul(STEP);
    let high = up(bound.saturating_add(bound / 2));
    let most = up(bound.saturating_mul(2)).max(high.saturating_add(STEP));
    [format!("MemoryHigh={high}M"), format!("MemoryMax={most}M")]
}

#[cfg(test)]
mod tests {
    use super::limits;
    use crate::install::place::{Place, Role};
    use crate::install::unit_templates::{MARK, memory_for};

    #[test]
    fn units_allow_more_than_the_maximum() {
        assert_eq!(limits(4032), ["MemoryHigh=6144M", "MemoryMax=8192M"]);
        assert_eq!(limits(320), ["MemoryHigh=512M", "MemoryMax=1024M"]);
        assert_eq!(limits(100), ["MemoryHigh=512M", "MemoryMax=1024M"]);
        let place = Place::try_new(Role::Relay, Some("eu")).expect("a place");
        let text = memory_for(&place, 10_000);
        assert!(text.starts_with(MARK), "{text}");
        let end = "\n[Service]\nMemoryHigh=15360M\nMemoryMax=20480M\n";
        assert!(text.ends_with(end), "{text}");
    }
}

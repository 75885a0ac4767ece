//! Sleep and new times of day, seen by comparing three clocks. Pure but for [`Reading::take`].
//!
//! One clock stands still while the machine sleeps (CLOCK_MONOTONIC), one goes on (CLOCK_BOOTTIME),
//! and one can be set (CLOCK_REALTIME).

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::SystemEvent;

/// A shorter sleep is none: timers are late by as much on a busy machine.
const SLEEP: Duration = Duration::from_secs(2);
/// A smaller step is what time services do all the time, and matters to no one here.
const STEP: Duration = Duration::from_secs(5);
/// The clocks are read one after the other; when that took longer, again.
const READ_WITHIN: Duration = Duration::from_millis(100);
const READ_TIMES: usize = 3;

/// What the clocks show at one moment, each counted from where it likes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    /// Awake since the start.
    pub(super) awake: Duration,
    /// Since the start.
    pub(super) boot: Duration,
    /// The time of day.
    pub(super) day: Duration,
}

impl Reading {
    /// Now; `None` if the kernel does not say, or this process is stopped between the clocks
    /// repeatedly.
    pub(super) fn take() -> Option<Self> {
        let read = |clock| clock_gettime(clock).ok().map(Duration::from);
        for _ in 0..READ_TIMES {
            let reading = Self {
                boot: read(ClockId::CLOCK_BOOTTIME)?,
                awake: read(ClockId::CLOCK_MONOTONIC)?,
                day: read(ClockId::CLOCK_REALTIME)?,
            };
            let end = read(ClockId::CLOCK_BOOTTIME)?;
            if end.saturating_sub(reading.boot) < READ_WITHIN {
                return Some(reading);
            }
        }
        None
    }
}

/// The last reading.
#[derive(Debug)]
pub(super) struct Clocks {
    last: Option<Reading>,
}

impl Clocks {
    pub(super) fn new(now: Option<Reading>) -> Self {
        Self { last: now }
    }

    /// What happened since the last reading.
    pub(super) fn compare(&mut self, now: Option<Reading>) -> Vec<SystemEvent> {
        let Some(now) = now else {
            return Vec::new();
        };
        let Some(last) = self.last.replace(now) else {
            return Vec::new();
        };
        let boot = now.boot.saturating_sub(last.boot);
        let slept = boot.saturating_sub(now.awake.saturating_sub(last.awake));
        // Where the time of day would be, had no one set it.
        let unset = last.day.saturating_add(boot);
        let (ahead, by) = (now.day > unset, now.day.abs_diff(unset));
        let resumed = (slept >= SLEEP).then_some(SystemEvent::Resumed(slept));
        let set = (by >= STEP).then_some(SystemEvent::ClockSet { ahead, by });
        resumed.into_iter().chain(set).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Clocks, READ_WITHIN, Reading, SystemEvent};
    use std::time::Duration;

    fn seconds(awake: u64, boot: u64, day: u64) -> Option<Reading> {
        let [awake, boot, day] = [awake, boot, day].map(Duration::from_secs);
        Some(Reading { awake, boot, day })
    }

    /// What is reported when clocks go on from (100, 1000, 5000) by so much.
    fn told(awake: u64, boot: u64, day: i64) -> Vec<SystemEvent> {
        let mut clocks = Clocks::new(seconds(100, 1000, 5000));
        let day = 5000_u64.checked_add_signed(day).expect("later than 1970");
        let told = clocks.compare(seconds(100 + awake, 1000 + boot, day));
        let again = clocks.compare(seconds(105 + awake, 1005 + boot, day + 5));
        assert_eq!(again, [], "it is reported once");
        told
    }

    #[test]
    fn normal_clock_progress_is_no_event() {
        assert_eq!(told(5, 5, 5), []);
        assert_eq!(told(60, 60, 60), [], "a late comparison");
        assert_eq!(told(5, 6, 10), [], "small differences");
    }

    #[test]
    fn sleep_is_reported_with_its_length() {
        let hour = Duration::from_secs(3600);
        assert_eq!(told(5, 3605, 3605), [SystemEvent::Resumed(hour)]);
        assert_eq!(told(5, 7, 7).len(), 1, "a short one");
    }

    #[test]
    fn new_time_is_reported_with_direction() {
        let by = Duration::from_secs(3600);
        let set = |ahead| [SystemEvent::ClockSet { ahead, by }];
        assert_eq!(told(5, 5, 3605), set(true));
        assert_eq!(told(5, 5, -3595), set(false));
    }

    #[test]
    fn sleep_and_wrong_clock_are_both_reported() {
        let told = told(5, 3605, 5);
        let hour = Duration::from_secs(3600);
        let set = SystemEvent::ClockSet {
            ahead: false,
            by: hour,
        };
        assert_eq!(told, [SystemEvent::Resumed(hour), set]);
    }

    #[test]
    fn missing_reading_is_skipped() {
        let mut clocks = Clocks::new(None);
        assert_eq!(clocks.compare(seconds(100, 1000, 5000)), []);
        assert_eq!(clocks.compare(None), []);
        assert_eq!(clocks.compare(seconds(110, 3610, 7610)).len(), 1);
    }

    #[test]
    fn clocks_of_this_machine_are_readable() {
        let reading = Reading::take().expect("Linux has all three");
        assert!(reading.boot + READ_WITHIN >= reading.awake);
        let now = std::time::SystemTime::now();
        let now = now.duration_since(std::time::UNIX_EPOCH).expect("later");
        assert!(now.abs_diff(reading.day) < Duration::from_secs(60));
    }
}

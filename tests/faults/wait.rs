//! The one way to wait: for a condition that stays true once it is true; and the one sleep.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Between two looks at a condition that nothing announces: well below all that is measured.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Tries `attempt` until it gives `Ok`, `limit` at most; the last error is in the report of a
/// failure.
#[track_caller]
pub(crate) fn until<T, E: Display>(
    what: &str,
    limit: Duration,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> T {
    let end = Instant::now() + limit;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(last) => assert!(
                Instant::now() < end,
                "{what}: not within {} s; at last: {last}",
                limit.as_secs()
            ),
        }
        pause(LOOK_AGAIN);
    }
}

/// Between two looks, or for as long as a fault lasts.
#[expect(
    clippy::disallowed_methods,
    reason = "nothing announces the condition, and some faults consist in time passing"
)]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

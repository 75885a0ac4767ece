//! The one way to wait: for a condition that stays true once it is true.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// How long any condition may take on a busy machine before the case fails.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at a condition that nothing announces.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Tries `attempt` until it gives `Ok`; the last error is in the report of a failure.
#[track_caller]
pub(crate) fn until<T, E: Display>(what: &str, mut attempt: impl FnMut() -> Result<T, E>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(last) => assert!(Instant::now() < end, "{what}: never; at last: {last}"),
        }
        pause(LOOK_AGAIN);
    }
}

/// Between two looks.
#[expect(
    clippy::disallowed_methods,
    reason = "nothing announces the condition, and what waits for it looks again"
)]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

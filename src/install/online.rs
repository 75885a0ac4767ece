//! Waiting for a file that a service keeps while it is online.

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often it is looked for: often enough for a person, rarely enough for a machine that boots.
const LOOK: Duration = Duration::from_millis(200);

/// Waits until `path` is there, `limit` at most; false if it is not.
pub(crate) async fn wait(path: &Path, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        if tokio::fs::try_exists(path).await.unwrap_or(false) {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::wait;

    #[tokio::test]
    async fn file_or_limit_ends_the_wait() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("online");
        assert!(!wait(&path, Duration::ZERO).await);
        let (there, ()) = tokio::join!(wait(&path, Duration::from_secs(60)), async {
            tokio::task::yield_now().await;
            std::fs::write(&path, "").expect("written");
        });
        assert!(there);
    }
}

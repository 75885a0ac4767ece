//! The service manager's watchdog (`WatchdogSec=`, sd_watchdog_enabled(3)): fed only by proof of
//! progress.
//!
//! A free-running timer would feed it from a process that does nothing any more. Here each
//! `WATCHDOG=1` follows an answer of the role's supervisor ([`health`](crate::health)): when the
//! runtime stalls, when the supervisor stops turning or when a lock that it needs is never
//! released, the answers end, so do the pings, and the manager ends the process and starts it
//! again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::notify;
use crate::health::LivenessProbe;
use crate::{event, events};

/// A process has one watchdog.
static PINGS: AtomicU64 = AtomicU64::new(0);

/// Feeds the watchdog for as long as `probe` is answered, if the service manager asked this process
/// for it; else ends at once.
pub async fn run(probe: LivenessProbe) {
    if let Some(limit) = notify::watchdog() {
        feed(limit, &probe, || {
            notify::alive();
            PINGS.fetch_add(1, Ordering::Relaxed);
        })
        .await;
    }
}

/// How often this process has fed it.
#[must_use]
pub fn pings() -> u64 {
    PINGS.load(Ordering::Relaxed)
}

/// Calls `alive` twice within each `limit`, each time after a beat; ends when there is no one left
/// to ask.
async fn feed(limit: Duration, probe: &LivenessProbe, alive: impl Fn()) {
    let mut ticks = tokio::time::interval(limit / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let beat = probe.is_alive();
        tokio::pin!(beat);
        let beats = match tokio::time::timeout(limit / 2, &mut beat).await {
            Ok(beats) => beats,
            Err(_) => {
                event!(events::WATCHDOG_STALLED, limit_ms = limit.as_millis());
                beat.await
            }
        };
        if !beats {
            return;
        }
        alive();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::feed;
    use crate::health::liveness;

    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn live_supervisor_pings_twice_per_limit() {
        let (mut responder, probe) = liveness();
        let pings = Cell::new(0);
        let begin = Instant::now();
        let feeding = feed(LIMIT, &probe, || pings.set(pings.get() + 1));
        let turning = responder.during(|| (), tokio::time::sleep(LIMIT * 10));
        tokio::select! {
            () = feeding => panic!("it goes on"),
            () = turning => {}
        }
        assert_eq!(begin.elapsed(), LIMIT * 10);
        assert!((20..=21).contains(&pings.get()), "{} pings", pings.get());
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn pings_stop_and_resume_with_the_supervisor() {
        let (mut responder, probe) = liveness();
        let pings = Cell::new(0);
        let feeding = feed(LIMIT, &probe, || pings.set(pings.get() + 1));
        let supervisor = async {
            responder.during(|| (), tokio::time::sleep(LIMIT)).await;
            // What was answered is still told.
            tokio::time::sleep(Duration::from_millis(1)).await;
            let before = pings.get();
            // Awaits something without giving its responder a turn.
            tokio::time::sleep(LIMIT * 100).await;
            assert_eq!(pings.get(), before, "pings from a supervisor that is stuck");
            responder.during(|| (), tokio::time::sleep(LIMIT)).await;
            assert!(pings.get() > before, "no pings although it turns again");
        };
        tokio::select! {
            () = feeding => panic!("it goes on"),
            () = supervisor => {}
        }
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn pings_end_with_the_supervisor() {
        let (responder, probe) = liveness();
        drop(responder);
        feed(LIMIT, &probe, || panic!("a ping for no one")).await;
    }
}

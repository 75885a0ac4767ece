//! Tells the service manager how the service is (sd_notify(3)); silent where there is none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::error::printable;

/// After this long the start of a service counts as done, whatever became of it: a platform or a
/// network that is away must not hold up the boot. It is far below the start limit of any unit.
pub const READY_AT_LATEST: Duration = Duration::from_secs(20);

/// This process is not the main one of its service, and only that may notify the manager.
static MUTED: AtomicBool = AtomicBool::new(false);

/// Sends no notifications from now on, or sends them again.
pub fn mute(muted: bool) {
    MUTED.store(muted, Ordering::Relaxed);
}

/// True if a service manager listens.
#[must_use]
pub fn has_manager() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some_and(|socket| !socket.is_empty())
}

/// Process `pid` is the service's main one from now on.
pub fn main_pid(pid: u32) {
    send(&[NotifyState::MainPid(pid)]);
}

/// The service can serve, or does so again after [`reloading`].
pub fn ready() {
    send(&[NotifyState::Ready]);
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    // A line break would begin another assignment (sd_notify(3)).
    send(&[NotifyState::Status(&printable(text))]);
}

/// The configuration is being read again; [`ready`] must follow. The time tells the manager which
/// of its requests this answers (`Type=notify-reload`, systemd.service(5)).
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => {
            tracing::debug!(%error, "no monotonic clock");
            send(&[NotifyState::Reloading]);
        }
    }
}

/// The service begins to stop.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// The present step, starting or stopping, may take `time` more from now on; never shortens the
/// manager's limit.
pub fn extend(time: Duration) {
    let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
    send(&[NotifyState::ExtendTimeoutUsec(micros)]);
}

/// The service makes progress; what the manager's watchdog waits for.
pub(crate) fn alive() {
    send(&[NotifyState::Watchdog]);
}

/// Within which time the manager wants to hear [`alive`] from this process; `None` if it does not.
#[must_use]
pub(crate) fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero())
}

fn send(state: &[NotifyState<'_>]) {
    if MUTED.load(Ordering::Relaxed) {
        return;
    }
    // Without NOTIFY_SOCKET this does nothing; a manager that does not listen is no reason to fail.
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "cannot notify the service manager");
    }
}

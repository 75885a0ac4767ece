//! Tells the service manager how the service is (sd_notify(3)); silent where there is none.

use sd_notify::NotifyState;

use crate::error::printable;

/// The service can serve.
pub fn ready() {
    send(NotifyState::Ready);
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    // A line break would begin another assignment (sd_notify(3)).
    send(NotifyState::Status(&printable(text)));
}

/// The service begins to stop.
pub fn stopping() {
    send(NotifyState::Stopping);
}

fn send(state: NotifyState<'_>) {
    // Without NOTIFY_SOCKET this does nothing; a manager that does not listen is no reason to fail.
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "cannot notify the service manager");
    }
}

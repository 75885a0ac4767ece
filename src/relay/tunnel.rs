//! A gateway's tunnel as the relay sees it: its session, and how many clients need it still.

use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::ssh::server::Session;

/// See the module.
#[derive(Debug)]
pub(crate) struct Tunnel {
    /// The gateway's session.
    pub(crate) session: Session,
    /// Has a token for each client on the way to the gateway or joined with it.
    clients: TaskTracker,
}

/// Held by a client for as long as it needs the tunnel.
pub(crate) type Need = TaskTrackerToken;

impl Tunnel {
    /// A tunnel that nobody needs yet.
    pub(crate) fn new(session: Session) -> Self {
        Self {
            session,
            clients: TaskTracker::new(),
        }
    }

    /// Keeps the tunnel from being taken for idle.
    pub(crate) fn need(&self) -> Need {
        self.clients.token()
    }

    /// Waits until no client needs the tunnel. Meant for a time in which no new ones come. Cancel-safe.
    pub(crate) async fn idle(&self) {
        self.clients.close();
        self.clients.wait().await;
    }
}

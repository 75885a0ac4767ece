//! A gateway's tunnel as the relay sees it: its session, the organization whose memory it uses, and
//! how many clients need it still.

use std::sync::{Arc, OnceLock};

use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::net::buffers::Account;
use crate::ssh::server::Session;

/// See the module.
#[derive(Debug)]
pub(crate) struct Tunnel {
    /// The gateway's session.
    pub(crate) session: Session,
    /// Of the organization of its clients, once one came.
    account: OnceLock<()>,
    /// Has a token for each client on the way to the gateway or joined with it.
    clients: TaskTracker,
}

/// Held by a client for as long as it needs the tunnel.
pub(crate) type Need = TaskTrackerToken;

impl Tunnel {
    /// A tunnel that no one needs yet.
    pub(crate) fn new(session: Session) -> Self {
        Self {
            session,
            account: OnceLock::new(),
            clients: TaskTracker::new(),
        }
    }

    /// Has what the tunnel holds counted for the organization of its first client. A gateway
    /// belongs to one organization, which its own certificate does not name.
    pub(crate) fn charge_to(&self, account: impl FnOnce() -> Arc<Account>) {
        self.account
            .get_or_init(|| self.session.charge_to(account()));
    }

    /// How many clients need the tunnel.
    pub(crate) fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Keeps the tunnel from being taken for idle.
    pub(crate) fn need(&self) -> Need {
        self.clients.token()
    }

    /// Waits until no client needs the tunnel. Meant for a time in which no new ones come.
    /// Cancel-safe.
    pub(crate) async fn idle(&self) {
        self.clients.close();
        self.clients.wait().await;
    }
}

//! The gateway's tunnels, each served by a task of its own: the one that is in use, and those that retired when the
//! configuration sent the gateway elsewhere and that still carry sessions.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::identity::Identity;
use super::session::{self, Shared};
use crate::scope::Scope;
use crate::ssh::client;

/// Tunnels at once, retired ones included; beyond it the gateway stays with the one it has.
const MOST: usize = 4;

/// A tunnel in use; one that is dropped retires.
pub(crate) struct Tunnel {
    /// With what it was made.
    pub(crate) identity: Arc<Identity>,
    /// Why it ended; the other end is its task.
    ended: oneshot::Receiver<session::Error>,
    /// Cancelled to retire it.
    retired: Scope,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Tunnels {
    scope: Scope,
    shared: Shared,
}

impl Tunnels {
    /// None yet. They drain when `scope` is cancelled.
    pub(crate) fn new(scope: &Scope, shared: Shared) -> Self {
        Self {
            scope: scope.child("tunnels"),
            shared,
        }
    }

    /// Begins to serve `session`, which was made with `identity`.
    pub(crate) fn serve(&self, session: client::Session, identity: Arc<Identity>) -> Tunnel {
        let (tell, ended) = oneshot::channel();
        let retired = self.scope.child("retired");
        let (scope, shared) = (self.scope.clone(), self.shared.clone());
        let (made_with, retiring) = (Arc::clone(&identity), retired.clone());
        self.scope.spawn("tunnel", async move {
            let error = session::serve(session, &made_with, &shared, &retiring, &scope).await;
            let Some(error) = error else {
                return;
            };
            // Nobody listens to a retired one.
            if let Err(error) = tell.send(error) {
                let error = crate::error::chain(&error).to_string();
                tracing::warn!(error, "a retired tunnel ended");
            }
        });
        Tunnel {
            identity,
            ended,
            retired,
        }
    }

    /// True if there may be one more beside those that are there.
    pub(crate) fn has_room(&self) -> bool {
        self.scope.tasks() < MOST
    }

    /// Asks all to drain and end.
    pub(crate) fn cancel(&self) {
        self.scope.cancel();
    }

    /// Waits for the end of all, `deadline` at most; true if all ended.
    pub(crate) async fn finish(&self, deadline: Duration) -> bool {
        self.scope.finish(deadline).await
    }
}

impl Tunnel {
    /// True while its end has not come.
    pub(crate) fn is_up(&mut self) -> bool {
        matches!(
            self.ended.try_recv(),
            Err(oneshot::error::TryRecvError::Empty)
        )
    }

    /// Waits for the end of the tunnel, and says why it came. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> session::Error {
        let ended = (&mut self.ended).await;
        ended.unwrap_or(session::Error::Panicked)
    }
}

impl Drop for Tunnel {
    /// Retires it: it carries what it carries, and ends when that has ended.
    fn drop(&mut self) {
        self.retired.cancel();
    }
}

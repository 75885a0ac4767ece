//! The gateway's tunnels, each served by a task of its own: the one that is in use, and those that
//! retired when the configuration sent the gateway elsewhere and that still carry sessions.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::path::Path;
use super::policy::MAX_TUNNELS;
use super::session::{self, Shared};
use super::state::Failure;
use crate::identity::Identity;
use crate::net::source::Ends;
use crate::scope::Scope;
use crate::ssh::client;

/// A tunnel in use; one that is dropped retires.
pub(crate) struct Tunnel {
    /// With what it was made.
    pub(crate) identity: Arc<Identity>,
    /// Served by its task.
    session: Arc<client::Session>,
    ends: Option<Ends>,
    /// Why it ended; the other end is its task.
    ended: oneshot::Receiver<session::Error>,
    /// True while it is retired; the other end is its task.
    retired: watch::Sender<bool>,
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

    /// Begins to serve `session`, which was made with `identity` over the connection between
    /// `ends`.
    pub(crate) fn serve(
        &self,
        (session, ends): (client::Session, Option<Ends>),
        identity: Arc<Identity>,
    ) -> Tunnel {
        let (tell, ended) = oneshot::channel();
        let (retired, retiring) = watch::channel(false);
        let (scope, shared) = (self.scope.clone(), self.shared.clone());
        let made_with = Arc::clone(&identity);
        let session = Arc::new(session);
        self.shared.audit.metrics().follow(&session);
        let served = Arc::clone(&session);
        self.scope.spawn("tunnel", async move {
            let served = session::serve(&served, &made_with, &shared, retiring, &scope).await;
            let Err((error, sessions)) = served else {
                // Not awaited, unless it was taken up again in this very moment.
                let _ = tell.send(session::Error::Retired);
                return;
            };
            // The end of a retired one is not awaited.
            if let Err(error) = tell.send(error) {
                let is_expected = error.failure() == Failure::TakenOver;
                let error = crate::error::chain(&error).to_string();
                if is_expected {
                    tracing::debug!(error, "a retired tunnel ended");
                } else {
                    tracing::warn!(error, "a retired tunnel ended");
                }
            }
            // The next tunnel does not wait for them.
            sessions.lose().await;
        });
        Tunnel {
            identity,
            session,
            ends,
            ended,
            retired,
        }
    }

    /// Ends `tunnel` and the sessions that it carries; the relay receives `why`.
    pub(crate) fn abandon(&self, tunnel: &Tunnel, why: &'static str) {
        let session = Arc::clone(&tunnel.session);
        self.scope.spawn("abandoned tunnel", async move {
            session.close(why).await;
        });
    }

    /// True if there may be one more beside those that are there.
    pub(crate) fn has_room(&self) -> bool {
        self.scope.tasks() < MAX_TUNNELS
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
    /// What there is to see of it from here; the handle outlives the tunnel.
    pub(crate) fn path(&self) -> Path {
        let relay = self.identity.relay_host.clone();
        Path::new(Arc::clone(&self.session), self.ends, relay)
    }

    /// True while its end has not come.
    pub(crate) fn is_up(&mut self) -> bool {
        matches!(
            self.ended.try_recv(),
            Err(oneshot::error::TryRecvError::Empty)
        )
    }

    /// Lets the tunnel carry what it carries, and end when that has ended; or, with false, takes it
    /// up again. True if that is a change.
    pub(crate) fn retire(&self, retired: bool) -> bool {
        self.retired
            .send_if_modified(|now| std::mem::replace(now, retired) != retired)
    }

    /// True while it is up and has not retired: it takes all that comes.
    pub(crate) fn is_in_use(&mut self) -> bool {
        !*self.retired.borrow() && self.is_up()
    }

    /// Waits for the end of the tunnel, and says why it came. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> session::Error {
        let ended = (&mut self.ended).await;
        ended.unwrap_or(session::Error::Panicked)
    }
}

impl Drop for Tunnel {
    /// Retires it for good.
    fn drop(&mut self) {
        self.retire(true);
    }
}

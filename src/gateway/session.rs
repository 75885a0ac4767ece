//! One SSH session to one relay: dialled, then each channel answered in a task of its own, until the
//! tunnel ends or the gateway stops.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use super::identity::Identity;
use super::service::{self, http::Cluster};
use crate::error::{Class, chain};
use crate::events;
use crate::names::SSH_PORT;
use crate::net::dial;
use crate::scope::Scope;
use crate::ssh::{self, ChannelStream, Keepalive, client};

/// Limit for the TCP connection to the relay.
const CONNECT: Duration = Duration::from_secs(15);
/// Sessions at once. Beyond it a channel is closed at once, so that one flood cannot take the memory or
/// the descriptors that the others need.
const MAX_SESSIONS: usize = 10_000;
/// How long sessions may go on after a stop was asked for.
pub(crate) const DRAIN: Duration = Duration::from_secs(10);

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The relay cannot be reached.
    #[error(transparent)]
    Dial(#[from] dial::Error),
    /// The tunnel could not be made, or ended.
    #[error("the tunnel to relay {host} failed")]
    Ssh {
        /// The relay's host.
        host: String,
        /// Why.
        #[source]
        source: ssh::Error,
    },
}

impl Error {
    pub(crate) fn class(&self) -> Class {
        match self {
            Self::Dial(_) => Class::Retry,
            Self::Ssh { source, .. } => source.class(),
        }
    }
}

/// Makes the tunnel.
///
/// # Errors
/// The relay cannot be reached, is not the right one, or refuses this gateway.
pub(crate) async fn connect(identity: &Identity) -> Result<client::Session, Error> {
    let stream = dial::connect(identity.relay_host.as_str(), SSH_PORT, CONNECT).await?;
    // Keepalives need the session's own turn; this covers a session that is blocked on writing.
    let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(Keepalive::TCP_USER_TIMEOUT));
    client::connect(stream, &identity.ssh)
        .await
        .map_err(|source| failed(identity, source))
}

/// Answers channels until the tunnel ends (then why) or `scope` is cancelled (then `None`, after the
/// sessions have drained and the relay was told goodbye).
pub(crate) async fn serve(
    mut session: client::Session,
    identity: &Identity,
    current: &watch::Receiver<Option<Arc<Identity>>>,
    cluster: &Arc<Cluster>,
    scope: &Scope,
) -> Option<Error> {
    // Not cancelled with `scope`: sessions may finish while the gateway drains. `draining` asks those
    // that could go on for ever to finish what they do.
    let sessions = Scope::new("sessions");
    let draining = sessions.child("draining");
    let places = Arc::new(Semaphore::new(MAX_SESSIONS));
    let ended = loop {
        let accepted = tokio::select! {
            accepted = session.accept() => accepted,
            () = scope.cancelled() => break None,
        };
        let Some(channel) = accepted else {
            break Some(failed(identity, session.take_end()));
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!(
                message_id = events::TOO_MANY_SESSIONS.id,
                limit = MAX_SESSIONS,
                "{}",
                events::TOO_MANY_SESSIONS
            );
            continue;
        };
        // Always the newest: a renewal applies to the next handshake.
        let Some(newest) = current.borrow().clone() else {
            continue;
        };
        let cluster = Arc::clone(cluster);
        let (within, draining) = (sessions.clone(), draining.clone());
        sessions.spawn("session", async move {
            let _place = place;
            let served = within
                .run(answer(channel, &newest, &cluster, &draining))
                .await;
            if served.is_none() {
                tracing::debug!("session cut");
            }
        });
    };
    if ended.is_none() {
        session.stop_accepting();
        draining.cancel();
        if !sessions.finish(DRAIN).await {
            tracing::warn!(
                sessions = sessions.tasks(),
                "sessions cut at the end of the grace"
            );
        }
    }
    sessions.cancel();
    sessions.finish(DRAIN).await;
    if ended.is_none() {
        session.close().await;
    }
    ended
}

async fn answer(channel: ChannelStream, identity: &Identity, cluster: &Cluster, draining: &Scope) {
    match service::serve(channel, identity, cluster, draining).await {
        Ok(()) => tracing::debug!("session ended"),
        Err(error) => tracing::info!(error = %chain(&error), "session failed"),
    }
}

fn failed(identity: &Identity, source: ssh::Error) -> Error {
    Error::Ssh {
        host: identity.relay_host.to_string(),
        source,
    }
}

//! One SSH session to one relay: dialled, then each channel answered in a task of its own, until
//! the tunnel ends, the gateway stops, or the tunnel has retired and carries nothing any more.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore, watch};

use super::handshake_race;
use super::policy::{
    CLOSE_WAIT, CONNECT, DRAIN, FIRST_ANSWER, HANDSHAKES, MAX_REFUSALS, MAX_SESSIONS, RETIRED_IDLE,
};
use super::state::Failure;
use crate::agent::status::Reporter;
use crate::audit::{Audit, End};
use crate::error::chain;
use crate::identity::Identity;
use crate::log_throttle::LogThrottle;
use crate::names::{RelayName, SSH_PORT};
use crate::net::source::Ends;
use crate::net::{dial, progress};
use crate::scope::Scope;
use crate::service::{self, http::Cluster};
use crate::ssh::{self, client};
use crate::targets::Targets;
use crate::{event, events};

/// Sent to the relay when the gateway stops or has moved on.
const GOING_AWAY: &str = "going away";

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum Error {
    #[error(transparent)]
    Dial(#[from] dial::Error),
    #[error("the tunnel to relay {host} failed")]
    Ssh {
        host: String,
        #[source]
        source: ssh::Error,
    },
    #[error(
        "relay {name} ({host}) does not accept this gateway's certificate; if the relay runs, its log says why: it must be \
         started with --name {name}, at the platform that this gateway uses"
    )]
    NotAccepted { name: RelayName, host: String },
    /// The relay closed the connection of a gateway that it had let in. Deployed relays do so while
    /// they hold an older connection of the same gateway (protocol.md §3).
    #[error(
        "relay {host} let this gateway in and closed the connection at once: it still holds an earlier connection of this gateway, \
         until it notices that that one is gone; or another program uses this gateway's identity"
    )]
    TurnedAway { host: String },
    /// The tunnel was made or held, but gave no sign of life when it was asked for one.
    #[error("the tunnel to relay {host} gives no sign of life")]
    Unanswered { host: String },
    #[error("the platform does not get through the tunnel to relay {host}; making another one")]
    Useless { host: String },
    #[error("there are no credentials yet")]
    NoCredentials,
    #[error("the tunnel had retired")]
    Retired,
    #[error("the tunnel's task panicked")]
    Panicked,
}

impl Error {
    /// What it means for what comes next.
    pub(crate) fn failure(&self) -> Failure {
        match self {
            Self::Dial(_)
            | Self::Unanswered { .. }
            | Self::NoCredentials
            | Self::Retired
            | Self::Panicked => Failure::Unreachable,
            Self::NotAccepted { .. } => Failure::Refused,
            Self::TurnedAway { .. } => Failure::TurnedAway,
            Self::Useless { .. } => Failure::Disconnected,
            Self::Ssh { source, .. } => match source {
                ssh::Error::Disconnected { reason, .. } => {
                    // So says a relay that another connection of this gateway has reached.
                    if *reason == ssh::DisconnectReason::TOO_MANY_CONNECTIONS {
                        Failure::TakenOver
                    } else {
                        Failure::Disconnected
                    }
                }
                ssh::Error::Certificate(_)
                | ssh::Error::RawHostKey
                | ssh::Error::AuthenticationRefused
                | ssh::Error::NotAuthenticated => Failure::Refused,
                ssh::Error::LocalKey(_) => Failure::Fatal,
                ssh::Error::HandshakeTimedOut(_)
                | ssh::Error::KeepaliveTimedOut
                | ssh::Error::NoCommonAlgorithm { .. }
                | ssh::Error::Protocol(_)
                | ssh::Error::TooManyKeyExchanges
                | ssh::Error::ChannelRefused(_)
                | ssh::Error::Closed
                | ssh::Error::Io(_) => Failure::Unreachable,
            },
        }
    }
}

/// Makes the tunnel. It is up once the relay has given a sign of life after it let the gateway in,
/// any answer to a keepalive being one: a relay that turns the gateway away does so in that moment.
///
/// # Errors
/// The relay cannot be reached, is not the right one, or refuses this gateway.
pub(crate) async fn connect(identity: &Identity) -> Result<(client::Session, Option<Ends>), Error> {
    let host = identity.relay_host.as_str();
    let dial = || async { Ok(dial::connect_speaking(host, SSH_PORT, CONNECT).await?) };
    let exchange_keys = |stream: TcpStream| async move {
        ssh::prepare(&stream);
        let ends = Ends::of(&stream);
        let (reader, writer) = stream.into_split();
        match client::key_exchange(reader, writer, &identity.ssh).await {
            Ok(exchanged) => Ok((exchanged, ends)),
            Err(source) => Err(failed(identity, source)),
        }
    };
    let raced = handshake_race::race(dial, exchange_keys, |(exchanged, ends)| async move {
        let session = authenticate(exchanged, identity).await?;
        Ok((session, ends))
    })
    .await;
    raced.map_err(|error| {
        let timed_out = || failed(identity, ssh::Error::HandshakeTimedOut(HANDSHAKES));
        error.unwrap_or_else(timed_out)
    })
}

/// Authenticates, and waits for the relay's sign of life.
async fn authenticate(
    exchanged: client::VerifiedServer,
    identity: &Identity,
) -> Result<client::Session, Error> {
    let session = exchanged.authenticate().await;
    let session = session.map_err(|source| failed(identity, source))?;
    if session.ping(FIRST_ANSWER).await {
        return Ok(session);
    }
    let host = identity.relay_host.to_string();
    if !session.is_ended() {
        return Err(Error::Unanswered { host });
    }
    Err(match session.take_end() {
        ssh::Error::Closed | ssh::Error::Io(_) => Error::TurnedAway { host },
        source => failed(identity, source),
    })
}

/// What all tunnels of a gateway share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    /// The newest credentials; the other end is the link and `renew`.
    pub(crate) current: watch::Receiver<Option<Arc<Identity>>>,
    pub(crate) cluster: Arc<Cluster>,
    /// What sessions may reach.
    pub(crate) targets: Targets,
    pub(crate) reporter: Reporter,
    /// Told of each session whose TLS 2 came about; the other end is the link.
    pub(crate) session_ok: Arc<Notify>,
    /// For lines about sessions that are refused at once.
    pub(crate) log_throttle: Arc<LogThrottle>,
    /// Where sessions are recorded.
    pub(crate) audit: Audit,
}

/// Answers channels until `scope` is cancelled (then `Ok`, after the sessions have drained and the
/// relay was told), or, while `retired` is true, until nothing is carried any more.
///
/// # Errors
/// Why the tunnel ended, and the sessions that it leaves behind.
pub(crate) async fn serve(
    session: &client::Session,
    identity: &Arc<Identity>,
    shared: &Shared,
    mut retired: watch::Receiver<bool>,
    scope: &Scope,
) -> Result<(), (Error, Sessions)> {
    // Not cancelled with `scope`: sessions may finish while the gateway drains. `draining` asks
    // those that have no end of their own to finish what they do.
    let sessions = Scope::new("sessions");
    let draining = sessions.child("draining");
    let places = Arc::new(Semaphore::new(MAX_SESSIONS));
    let refusals = Arc::new(Semaphore::new(MAX_REFUSALS));
    let ended = loop {
        let retiring = *retired.borrow_and_update();
        let accepted = tokio::select! {
            accepted = session.accept() => accepted,
            () = scope.cancelled() => break None,
            Ok(()) = retired.changed() => continue,
            () = tokio::time::sleep(RETIRED_IDLE), if retiring => {
                if sessions.tasks() == 0 {
                    break None;
                }
                continue;
            }
        };
        let Some(channel) = accepted else {
            break Some(failed(identity, session.take_end()));
        };
        let mut place = Arc::clone(&places).try_acquire_owned();
        let is_one_too_many = place.is_err();
        if is_one_too_many {
            let event = events::TOO_MANY_SESSIONS;
            if let Some(permission) = shared.log_throttle.should_log(event.text, "") {
                event!(
                    event,
                    limit = MAX_SESSIONS,
                    suppressed = permission.suppressed()
                );
            }
            place = Arc::clone(&refusals).try_acquire_owned();
        }
        let Ok(place) = place else {
            let record = shared.audit.begin(&identity.gateway_id);
            record.finish(Some(end_of(&service::Error::TooManySessions)));
            continue;
        };
        // Always the newest: a renewal applies to the next handshake. But a tunnel that another
        // gateway's took the place of goes on as who it is.
        let newest = shared.current.borrow().clone();
        let newest = newest.filter(|newest| newest.gateway_id == identity.gateway_id);
        let newest = newest.unwrap_or_else(|| Arc::clone(identity));
        let (cluster, targets) = (Arc::clone(&shared.cluster), shared.targets.clone());
        let open = (!is_one_too_many).then(|| shared.reporter.session());
        let session_ok = Arc::clone(&shared.session_ok);
        let record = shared.audit.begin(&newest.gateway_id);
        let (stop, draining) = (sessions.clone(), draining.clone());
        sessions.spawn("session", async move {
            let _counted = (place, open);
            let close_wait = channel.close_wait();
            let context = service::Context {
                identity: &newest,
                cluster: &cluster,
                targets: &targets,
                draining: &draining,
                stop: &stop,
                session_ok: &session_ok,
                session: record.session(),
                is_one_too_many,
            };
            // Boxed: each wrapper of a future has room for it twice.
            let served = Box::pin(service::serve(channel, context)).await;
            let failure = served.err().as_ref().map(end_of);
            let is_complete = failure.is_none();
            record.finish(failure);
            // A client whose session failed is to hear of it at once.
            if is_complete {
                stop.run(Box::pin(close_wait.wait(CLOSE_WAIT))).await;
            }
        });
    };
    let sessions = Sessions { sessions, draining };
    let Some(error) = ended else {
        session.stop_accepting();
        sessions.drain().await;
        session.close(GOING_AWAY).await;
        return Ok(());
    };
    Err((error, sessions))
}

/// The sessions of a tunnel that has ended.
pub(crate) struct Sessions {
    sessions: Scope,
    draining: Scope,
}

impl Sessions {
    /// Lets them finish what they do, within limits.
    async fn drain(&self) {
        self.draining.cancel();
        if !self.sessions.finish(DRAIN).await {
            tracing::warn!(
                sessions = self.sessions.tasks(),
                "sessions cut at the end of the grace"
            );
        }
        self.cut().await;
    }

    /// Lets them end by themselves, as they notice that the tunnel is gone: targets that are slow
    /// to read get what was received for them, and are reset then.
    pub(crate) async fn lose(self) {
        if !self
            .sessions
            .finish(progress::DELIVERY_AT_MOST + progress::DELIVERY)
            .await
        {
            self.cut().await;
        }
    }

    async fn cut(&self) {
        self.sessions.cancel();
        self.sessions.finish(DRAIN).await;
    }
}

/// What the record says of a session that failed.
fn end_of(error: &service::Error) -> End {
    End {
        outcome: error.outcome(),
        error: Some(chain(error).to_string()),
        kind: error.kind(),
    }
}

fn failed(identity: &Identity, source: ssh::Error) -> Error {
    let host = identity.relay_host.to_string();
    match source {
        ssh::Error::AuthenticationRefused => Error::NotAccepted {
            name: identity.relay_name.clone(),
            host,
        },
        source => Error::Ssh { host, source },
    }
}

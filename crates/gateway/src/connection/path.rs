//! Which half of the path is broken, when the platform does not reach this gateway: looked at from
//! here.
//!
//! The platform's way to a gateway is the relay's port 8443, the relay, and the tunnel. From here
//! the tunnel can be asked for a sign of life (any answer to a keepalive is one, RFC 4254 §4), and
//! the relay's port can be tried. What remains is beyond the relay, or the platform believes this
//! gateway elsewhere.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use super::policy::{ANSWER, ANSWER_IF_MOVED, ASK_KERNEL, CLIENT_PORT_CONNECT};
use crate::error::chain;
use crate::names::{RelayHost, TLS_PORT};
use crate::net::dial;
use crate::net::source::Ends;
use crate::ssh::client::Session;

/// The path, as far as it can be seen from here.
#[derive(Debug)]
pub(crate) struct Path {
    session: Arc<Session>,
    /// Those of its connection.
    ends: Option<Ends>,
    relay: RelayHost,
}

/// What was seen. `Display` completes a sentence about the heartbeat that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum View {
    /// The tunnel gives no sign of life.
    Dead,
    /// It does, and the relay takes connections of clients.
    Open(RelayHost),
    /// It does, but the relay's port for clients cannot be reached from here.
    Shut(String),
}

impl View {
    /// What it is, without the details: for keeping the log quiet.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Open(_) => "open",
            Self::Shut(_) => "shut",
        }
    }
}

impl Path {
    pub(crate) fn new(session: Arc<Session>, ends: Option<Ends>, relay: RelayHost) -> Self {
        Self {
            session,
            ends,
            relay,
        }
    }

    /// True if the tunnel gives a sign of life.
    pub(crate) async fn is_alive(&self) -> bool {
        let moved = || self.ends.is_some_and(|ends| ends.have_moved());
        answers(self.session.ping(ANSWER), moved).await
    }

    /// Looks at all of it.
    pub(crate) async fn look(&self) -> View {
        if !self.is_alive().await {
            return View::Dead;
        }
        match dial::connect(self.relay.as_str(), TLS_PORT, CLIENT_PORT_CONNECT).await {
            Ok(_) => View::Open(self.relay.clone()),
            Err(error) => View::Shut(chain(&error).to_string()),
        }
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dead => f.write_str("the tunnel does not answer"),
            Self::Open(relay) => write!(
                f,
                "the tunnel answers, and port {TLS_PORT} of {relay} is open from here"
            ),
            Self::Shut(error) => write!(
                f,
                "the tunnel answers, but clients cannot reach the relay: {error}"
            ),
        }
    }
}

/// What `ping` says; or false, once its connection has `moved` and there was no answer for a while
/// after that.
async fn answers(ping: impl Future<Output = bool>, moved: impl Fn() -> bool) -> bool {
    let given_up = async {
        while !moved() {
            tokio::time::sleep(ASK_KERNEL).await;
        }
        tokio::time::sleep(ANSWER_IF_MOVED).await;
    };
    tokio::select! {
        // An answer counts, however late it is looked at.
        biased;
        is_answered = ping => is_answered,
        () = given_up => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::{ANSWER, ANSWER_IF_MOVED, ASK_KERNEL, answers};

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn changed_route_shortens_the_wait() {
        for (left, least) in [
            (0, ANSWER_IF_MOVED),
            (1_000, ANSWER_IF_MOVED),
            (60_000, ANSWER),
        ] {
            let left = Duration::from_millis(left);
            let begin = Instant::now();
            let silent = async {
                sleep(ANSWER).await;
                false
            };
            assert!(!answers(silent, || begin.elapsed() >= left).await);
            let bound = ANSWER.min(left + least + ASK_KERNEL);
            assert!(begin.elapsed() <= bound, "{left:?}: {:?}", begin.elapsed());
        }
        let late = async {
            sleep(ANSWER_IF_MOVED / 2).await;
            true
        };
        assert!(answers(late, || true).await);
    }
}

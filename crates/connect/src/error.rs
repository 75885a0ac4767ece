//! Why a connection did not come about, and which part of the way caused it.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::target::Target;
use crate::humanize::LastSeen;
use crate::names::{GatewayName, RelayHost};
use crate::net::status;
use crate::{api, net, pki};
use infisical_runtime::error::{Class, Reason};

/// The parts of the way, in the order in which they are passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// This machine.
    Here,
    /// The platform, which grants the session.
    Platform,
    /// The relay, where TLS 1 ends.
    Relay,
    /// The gateway, where TLS 2 ends.
    Gateway,
    /// The service behind the gateway.
    Target,
}

impl Part {
    /// The word for it in logs.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Here => "this machine",
            Self::Platform => "platform",
            Self::Relay => "relay",
            Self::Gateway => "gateway",
            Self::Target => "target",
        }
    }
}

/// Why a connection did not come about, or ended badly.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum Error {
    #[error(transparent)]
    Listen(#[from] net::listen::Error),
    #[error("cannot accept local connections")]
    Accept(#[source] io::Error),
    #[error(transparent)]
    Client(api::Error),
    /// The platform gave no session. Shared by all who waited for the same request.
    #[error("no session with gateway {gateway}")]
    Session {
        gateway: GatewayName,
        #[source]
        source: Arc<Refusal>,
    },
    #[error("cannot reach relay {relay}")]
    Relay {
        relay: RelayHost,
        #[source]
        source: pki::Error,
    },
    #[error("cannot reach gateway {gateway} through relay {relay}")]
    Gateway {
        gateway: GatewayName,
        relay: RelayHost,
        #[source]
        source: pki::Error,
    },
    #[error("platform, relay and gateway did not answer within {} s", .0.as_secs())]
    NotChecked(Duration),
    #[error(
        "gateway {gateway} is not connected to relay {relay}{}",
        last_seen_words(*.last_seen)
    )]
    NotConnected {
        gateway: GatewayName,
        relay: RelayHost,
        /// When the platform last reached it, if it says so.
        last_seen: Option<SystemTime>,
    },
    /// The gateway says why there is no connection to the target.
    #[error("gateway {gateway} {} {target}", verb(*.class))]
    Target {
        gateway: GatewayName,
        target: Target,
        class: status::Class,
        #[source]
        reason: Reported,
    },
    /// The connection ended before the target sent a byte, which is how deployed gateways tell.
    #[error("gateway {gateway} gave no connection to {target}")]
    Silent {
        gateway: GatewayName,
        target: Target,
        #[source]
        source: io::Error,
    },
    /// The target ended the connection while there was still something to send.
    #[error("{target} did not take everything that was sent to it")]
    Unsent {
        target: Target,
        #[source]
        source: io::Error,
    },
    #[error("stopped before the connection had ended")]
    Stopped,
    #[error("cannot write what was received")]
    Local(#[source] io::Error),
    #[error("the connection to {target} broke at relay {relay}")]
    RelayLost {
        target: Target,
        relay: RelayHost,
        #[source]
        source: io::Error,
    },
    /// The connection broke in the middle, beyond the relay as far as is known.
    #[error("the connection to {target} broke")]
    Broken {
        target: Target,
        #[source]
        source: io::Error,
    },
}

/// What a gateway says.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Reported(pub(crate) String);

/// What a gateway does that gives no connection, before the target.
fn verb(class: status::Class) -> &'static str {
    match class {
        status::Class::Unreachable => "could not reach",
        status::Class::Refused => "refuses the session with",
        status::Class::Draining => "is stopping and opens no session with",
    }
}

/// Why the platform gave no session.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum Refusal {
    #[error(transparent)]
    Api(#[from] api::Error),
    #[error("the platform's answer is not usable")]
    Credentials(#[source] pki::Error),
}

fn last_seen_words(at: Option<SystemTime>) -> String {
    let now = SystemTime::now();
    at.map(|at| LastSeen { at: Some(at), now })
        .map(|last_seen| format!("; {last_seen}"))
        .unwrap_or_default()
}

impl Error {
    /// Which part of the way failed.
    #[must_use]
    pub(crate) fn part(&self) -> Part {
        match self {
            Self::Listen(_)
            | Self::Accept(_)
            | Self::Client(_)
            | Self::Local(_)
            | Self::Stopped => Part::Here,
            Self::Session { .. } => Part::Platform,
            Self::Relay { .. } | Self::RelayLost { .. } => Part::Relay,
            Self::Gateway { .. }
            | Self::NotConnected { .. }
            | Self::NotChecked(_)
            | Self::Broken { .. } => Part::Gateway,
            Self::Target { class, .. } => match class {
                status::Class::Unreachable => Part::Target,
                status::Class::Refused | status::Class::Draining => Part::Gateway,
            },
            Self::Silent { .. } | Self::Unsent { .. } => Part::Target,
        }
    }

    /// The class of the refusal, where a gateway names it.
    #[must_use]
    pub(crate) fn refusal(&self) -> Option<&'static str> {
        match self {
            Self::Target { class, .. } => Some(class.as_str()),
            Self::Listen(_)
            | Self::Accept(_)
            | Self::Client(_)
            | Self::Local(_)
            | Self::Session { .. }
            | Self::Relay { .. }
            | Self::Gateway { .. }
            | Self::NotConnected { .. }
            | Self::NotChecked(_)
            | Self::Silent { .. }
            | Self::Unsent { .. }
            | Self::Stopped
            | Self::RelayLost { .. }
            | Self::Broken { .. } => None,
        }
    }

    /// What to do about it.
    #[must_use]
    pub(crate) fn class(&self) -> Class {
        match self {
            Self::Client(_) => Class::Fatal(Reason::Configuration),
            Self::Session { source, .. } => match &**source {
                Refusal::Api(error) => error.class(),
                Refusal::Credentials(_) => Class::Retry,
            },
            Self::Listen(_)
            | Self::Accept(_)
            | Self::Local(_)
            | Self::Relay { .. }
            | Self::Gateway { .. }
            | Self::NotConnected { .. }
            | Self::NotChecked(_)
            | Self::Target { .. }
            | Self::Silent { .. }
            | Self::Unsent { .. }
            | Self::Stopped
            | Self::RelayLost { .. }
            | Self::Broken { .. } => Class::Retry,
        }
    }

    /// True if the platform did not take the token, rather than refuse what was asked with it.
    #[must_use]
    pub fn is_about_the_token(&self) -> bool {
        matches!(self.class(), Class::Reauthenticate | Class::Reenroll)
    }

    /// True if only a person can change it: trying again does not help.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self.class() {
            Class::Fatal(_) | Class::Reauthenticate | Class::Reenroll => true,
            Class::Retry | Class::RetryAfter(_) => false,
        }
    }

    /// What the exit code should say of it.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self.class() {
            Class::Fatal(reason) => reason,
            Class::Reauthenticate | Class::Reenroll => Reason::Permission,
            Class::Retry | Class::RetryAfter(_) => Reason::Unavailable,
        }
    }
}

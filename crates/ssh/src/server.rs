//! The server's side: proves its host certificate, judges the client's user certificate, and opens
//! channels to it.

use std::time::Duration;

use tokio::io::AsyncRead;

use super::cert::UserPolicy;
use super::connection::{Connection, Options};
use super::keys::CertifiedKey;
use super::socket::Writer;
use super::{Algorithms, Error, Keepalive, RekeyLimits, driver};
use crate::clock::Clock;
use crate::net::handshake_cpu::HandshakeCpu;

pub use super::session::Session;

/// How to serve.
#[derive(Debug, Clone)]
pub struct Config {
    /// Our key and host certificate.
    pub identity: CertifiedKey,
    /// What a client's user certificate must be.
    pub users: UserPolicy,
    /// Liveness.
    pub keepalive: Keepalive,
    /// Limit from the first byte to the end of authentication.
    pub handshake: Duration,
    /// What is offered.
    pub algorithms: Algorithms,
    /// When keys are exchanged again.
    pub rekey: RekeyLimits,
    /// By which certificates are judged.
    pub clock: Clock,
    /// Whether the client may open channels.
    pub channels: Channels,
}

impl Config {
    /// With the defaults of liveness, offers and limits; clients open no channels.
    #[must_use]
    pub fn new(identity: CertifiedKey, users: UserPolicy) -> Self {
        Self {
            identity,
            users,
            keepalive: Keepalive::DEFAULT,
            handshake: super::HANDSHAKE,
            algorithms: Algorithms::server(),
            rekey: RekeyLimits::DEFAULT,
            clock: Clock::new(),
            channels: Channels::Refused,
        }
    }
}

/// What becomes of channels that a client opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels {
    /// [`Session::accept`] yields them.
    Accepted,
    /// They are refused.
    Refused,
}

/// Serves one connection, given as its two halves, until its client has authenticated.
///
/// # Errors
/// The client did not authenticate (the reason says why its certificate was refused), the handshake
/// broke or took too long.
pub async fn accept<R, W>(reader: R, writer: W, config: &Config) -> Result<Session, Error>
where
    R: AsyncRead + Unpin + Send + 'static,
    W: Writer,
{
    accept_measured(reader, writer, config, HandshakeCpu::default()).await
}

/// The same, where key exchanges wait for their turn and what the handshake takes is measured by
/// `cpu`.
pub async fn accept_measured<R, W>(
    reader: R,
    writer: W,
    config: &Config,
    cpu: HandshakeCpu,
) -> Result<Session, Error>
where
    R: AsyncRead + Unpin + Send + 'static,
    W: Writer,
{
    let options = Options {
        algorithms: config.algorithms.clone(),
        keepalive: config.keepalive,
        rekey: config.rekey,
        clock: config.clock.clone(),
    };
    let mut connection = Connection::server(
        config.identity.clone(),
        config.users.clone(),
        options,
        driver::now(),
    )?;
    if config.channels == Channels::Refused {
        connection.stop_accepting();
    }
    Session::establish(reader, writer, connection, cpu, config.handshake).await
}

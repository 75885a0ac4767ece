//! The client's side: proves its user certificate, judges the server's host certificate, and accepts channels.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::cert::HostPolicy;
use super::connection::{Connection, Options};
use super::keys::CertifiedKey;
use super::{Algorithms, Error, Keepalive, RekeyLimits, driver};
use crate::clock::Clock;

pub use super::session::Session;

/// How to connect.
#[derive(Debug, Clone)]
pub struct Config {
    /// The SSH user name.
    pub user: String,
    /// Our key and user certificate.
    pub identity: CertifiedKey,
    /// What the server's host certificate must be.
    pub host: HostPolicy,
    /// Liveness.
    pub keepalive: Keepalive,
    /// Limit for the whole handshake.
    pub handshake: Duration,
    /// What is offered.
    pub algorithms: Algorithms,
    /// When keys are exchanged anew.
    pub rekey: RekeyLimits,
    /// By which certificates are judged.
    pub clock: Clock,
}

impl Config {
    /// With the defaults of liveness, offers and limits.
    #[must_use]
    pub fn new(user: String, identity: CertifiedKey, host: HostPolicy) -> Self {
        Self {
            user,
            identity,
            host,
            keepalive: Keepalive::DEFAULT,
            handshake: super::HANDSHAKE,
            algorithms: Algorithms::client(),
            rekey: RekeyLimits::DEFAULT,
            clock: Clock::new(),
        }
    }
}

/// Makes an authenticated session over the two halves of a stream.
///
/// # Errors
/// The server's certificate is refused, it refuses ours, the handshake breaks or takes too long.
pub async fn connect<R, W>(reader: R, writer: W, config: &Config) -> Result<Session, Error>
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let options = Options {
        algorithms: config.algorithms.clone(),
        keepalive: config.keepalive,
        rekey: config.rekey,
        clock: config.clock.clone(),
    };
    let connection = Connection::client(
        config.user.clone(),
        config.identity.clone(),
        config.host.clone(),
        options,
        driver::now(),
    )?;
    Session::establish(reader, writer, connection, config.handshake).await
}

//! The client's side: proves its user certificate, judges the server's host certificate, and
//! accepts channels.

use std::time::Duration;

use ssh_key::PrivateKey;
use ssh_key::certificate::Builder;
use ssh_key::private::Ed25519Keypair;
use tokio::io::AsyncRead;
use tokio::time::Instant;

use super::ca::CaKey;
use super::cert::HostPolicy;
use super::connection::{Connection, Options};
use super::driver::{self, Phase};
use super::keys::{self, CertifiedKey};
use super::socket::Writer;
use super::{Algorithms, Error, Keepalive, RekeyLimits};
use crate::clock::Clock;
use crate::net::handshake_cpu::HandshakeCpu;

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
    /// When keys are exchanged again.
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

/// A server that proved who it is, and to which we have not proved ourselves yet. Dropping it cuts
/// the connection.
#[derive(Debug)]
pub struct VerifiedServer {
    session: Session,
    limit: Duration,
}

impl VerifiedServer {
    /// Proves who we are.
    ///
    /// # Errors
    /// The server refuses our certificate, the handshake breaks or takes too long.
    pub async fn authenticate(mut self) -> Result<Session, Error> {
        self.session.proceed();
        self.session.reach(Phase::Open, self.limit).await?;
        Ok(self.session)
    }
}

/// Exchanges keys over the two halves of a stream, and judges the server.
///
/// # Errors
/// The server's certificate is refused, the handshake breaks or takes too long.
pub async fn key_exchange<R, W>(
    reader: R,
    writer: W,
    config: &Config,
) -> Result<VerifiedServer, Error>
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
    let mut connection = Connection::client(
        config.user.clone(),
        config.identity.clone(),
        config.host.clone(),
        options,
        driver::now(),
    )?;
    connection.hold();
    let begin = Instant::now();
    let mut session = Session::start(reader, writer, connection, HandshakeCpu::default());
    session.reach(Phase::Keyed, config.handshake).await?;
    let limit = config.handshake.saturating_sub(begin.elapsed());
    Ok(VerifiedServer { session, limit })
}

/// Exchanges keys over the two halves of a stream, judges the server's host certificate, and ends
/// the connection. Nothing is authenticated, so no session of a client is disturbed.
///
/// # Errors
/// The server's certificate is refused, the handshake breaks or takes longer than `limit`.
pub async fn verify_host<R, W>(
    reader: R,
    writer: W,
    host: HostPolicy,
    limit: Duration,
) -> Result<(), Error>
where
    R: AsyncRead + Unpin + Send + 'static,
    W: Writer,
{
    let config = Config {
        handshake: limit,
        ..Config::new("unused".to_owned(), unused_identity()?, host)
    };
    let verified = key_exchange(reader, writer, &config).await?;
    let session = verified.session;
    session.close("the host certificate is verified").await;
    Ok(())
}

/// A key that certifies itself: a connection needs one, and shows it to no server before it
/// authenticates.
fn unused_identity() -> Result<CertifiedKey, Error> {
    let library = |error: ssh_key::Error| Error::LocalKey(error.to_string());
    let local = |error: keys::Error| Error::LocalKey(error.to_string());
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| Error::LocalKey(error.to_string()))?;
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&seed));
    let public = key.public_key().key_data().clone();
    let mut builder = Builder::new([0; 16], public, 0, u64::MAX - 1).map_err(library)?;
    builder.all_principals_valid().map_err(library)?;
    let certificate = builder.sign(&CaKey::try_new(&key).map_err(local)?);
    CertifiedKey::try_new(&key, certificate.map_err(library)?).map_err(local)
}

/// Makes an authenticated session over the two halves of a stream.
///
/// # Errors
/// The server's certificate is refused, it refuses ours, the handshake breaks or takes too long.
pub async fn connect<R, W>(reader: R, writer: W, config: &Config) -> Result<Session, Error>
where
    R: AsyncRead + Unpin + Send + 'static,
    W: Writer,
{
    let session = key_exchange(reader, writer, config)
        .await?
        .authenticate()
        .await;
    // The limit is that of the whole handshake.
    session.map_err(|error| match error {
        Error::HandshakeTimedOut(_) => Error::HandshakeTimedOut(config.handshake),
        error => error,
    })
}

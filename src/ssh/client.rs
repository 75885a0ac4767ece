//! The client's side: connects, proves its certificate, judges the server's, and accepts channels.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use russh::client::{self, ChannelOpenHandle, DisconnectReason};
use russh::keys::PublicKeyOrCertificate;
use russh::keys::agent::AgentIdentity;
use russh::{Channel, ChannelId, Disconnect};
use ssh_key::{Algorithm, HashAlg};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::cert::{self, HostPolicy};
use super::closings::Closings;
use super::cut::Cut;
use super::keys::CertifiedKey;
use crate::error::printable;

use super::{CHANNEL_QUEUE, ChannelStream, Error, Keepalive, MAX_PACKET, WINDOW};

/// Channels that wait to be accepted; beyond it the server's opens are refused.
const PENDING_CHANNELS: usize = 256;
/// How long a farewell may take.
const GOODBYE: Duration = Duration::from_secs(2);

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
}

/// An authenticated session.
pub struct Session {
    handle: client::Handle<Handler>,
    channels: mpsc::Receiver<Pending>,
    closings: Closings,
    ended: Arc<Mutex<Option<Error>>>,
    cut: CancellationToken,
}

/// A channel that the server wants to open.
struct Pending {
    channel: Channel<client::Msg>,
    reply: ChannelOpenHandle,
}

/// Makes an authenticated session over `stream`.
///
/// # Errors
/// The server's certificate is refused, it refuses ours, the handshake breaks or takes too long.
pub async fn connect<S>(stream: S, config: &Config) -> Result<Session, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let cut = CancellationToken::new();
    let guard = cut.clone().drop_guard();
    let stream = Cut::new(stream, cut.clone());
    let session = tokio::time::timeout(config.handshake, handshake(stream, config, cut))
        .await
        .map_err(|_| Error::HandshakeTimedOut(config.handshake))??;
    guard.disarm();
    Ok(session)
}

async fn handshake<S>(stream: S, config: &Config, cut: CancellationToken) -> Result<Session, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let engine = client::Config {
        limits: super::limits(),
        window_size: WINDOW,
        maximum_packet_size: MAX_PACKET,
        channel_buffer_size: CHANNEL_QUEUE,
        preferred: super::client_algorithms(),
        keepalive_interval: Some(config.keepalive.interval),
        keepalive_max: config.keepalive.unanswered as usize,
        ..client::Config::default()
    };
    let ended = Arc::new(Mutex::new(None));
    let (opened, channels) = mpsc::channel(PENDING_CHANNELS);
    let closings = Closings::default();
    let handler = Handler {
        host: config.host.clone(),
        opened,
        closings: closings.clone(),
        ended: Arc::clone(&ended),
    };
    let mut handle = client::connect_stream(Arc::new(engine), stream, handler).await?;

    let certificate = config.identity.certificate.clone();
    let hash = match certificate.algorithm() {
        Algorithm::Rsa { .. } => Some(HashAlg::Sha256),
        _ => None,
    };
    let mut signer = Signer {
        identity: &config.identity,
    };
    let outcome = handle
        .authenticate_certificate_with(&config.user, certificate, hash, &mut signer)
        .await?;
    if !outcome.success() {
        let _ = handle.disconnect(Disconnect::ByApplication, "", "").await;
        return Err(Error::AuthenticationRefused);
    }
    Ok(Session {
        handle,
        channels,
        closings,
        ended,
        cut,
    })
}

impl Session {
    /// The next channel that the server opens; `None` once the session has ended. Cancel-safe.
    pub async fn accept(&mut self) -> Option<ChannelStream> {
        let Pending { channel, reply } = self.channels.recv().await?;
        reply.accept().await;
        let closed = self.closings.of(channel.id());
        Some(ChannelStream::accepted(channel, closed))
    }

    /// Refuses all further channels; those that are open go on.
    pub fn stop_accepting(&mut self) {
        self.channels.close();
        // What waits already is refused by being dropped.
        while self.channels.try_recv().is_ok() {}
    }

    /// Why the session ended, after [`Self::accept`] gave `None`.
    #[must_use]
    pub fn take_end(&self) -> Error {
        let mut ended = self
            .ended
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        ended.take().unwrap_or(Error::Closed)
    }

    /// Says goodbye and waits a moment for the peer to hear it; then the connection is closed.
    pub async fn close(mut self) {
        let farewell = async {
            if self
                .handle
                .disconnect(Disconnect::ByApplication, "going away", "")
                .await
                .is_ok()
            {
                // Resolves when the engine has written everything and ended.
                let _ = (&mut self.handle).await;
            }
        };
        let _ = tokio::time::timeout(GOODBYE, farewell).await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The engine may be blocked on a peer that no longer reads.
        self.cut.cancel();
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

/// The engine's callbacks.
struct Handler {
    host: HostPolicy,
    /// The other end is [`Session::accept`].
    opened: mpsc::Sender<Pending>,
    /// Heard by the channels' writers.
    closings: Closings,
    ended: Arc<Mutex<Option<Error>>>,
}

impl client::Handler for Handler {
    type Error = Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Error> {
        let PublicKeyOrCertificate::Certificate(certificate) = key else {
            return Err(Error::RawHostKey);
        };
        cert::verify_host(certificate, &self.host, SystemTime::now())
            .map_err(Error::Certificate)?;
        Ok(true)
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        channel: Channel<client::Msg>,
        _host: &str,
        _port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Error> {
        let id = channel.id();
        self.closings.opened(id);
        // A full queue drops the pending open, which refuses it.
        if self.opened.try_send(Pending { channel, reply }).is_err() {
            self.closings.forget(id);
        }
        Ok(())
    }

    async fn channel_close(
        &mut self,
        id: ChannelId,
        _session: &mut client::Session,
    ) -> Result<(), Error> {
        self.closings.closed(id);
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _channel: Channel<client::Msg>,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Error> {
        drop(reply);
        Ok(())
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _channel: Channel<client::Msg>,
        _address: &str,
        _port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Error> {
        drop(reply);
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _channel: Channel<client::Msg>,
        _path: &str,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Error> {
        drop(reply);
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _channel: Channel<client::Msg>,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Error> {
        drop(reply);
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _channel: Channel<client::Msg>,
        _path: &str,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Error> {
        drop(reply);
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _channel: Channel<client::Msg>,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Error> {
        drop(reply);
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Error>) -> Result<(), Error> {
        let error = match reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                Error::Disconnected(printable(&info.message))
            }
            DisconnectReason::Error(error) => error,
        };
        *self
            .ended
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
        Ok(())
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.closings.all_closed();
    }
}

/// Signs with our own key; the engine's built-in way would use SHA-1 for an RSA certificate.
struct Signer<'a> {
    identity: &'a CertifiedKey,
}

impl russh::Signer for Signer<'_> {
    type Error = Error;

    fn auth_sign(
        &mut self,
        _key: &AgentIdentity,
        hash: Option<HashAlg>,
        mut data: Vec<u8>,
    ) -> impl Future<Output = Result<Vec<u8>, Error>> + Send {
        let signed = sign(&self.identity.key, hash, &data).map(|signature| {
            data.extend_from_slice(&signature);
            data
        });
        std::future::ready(signed)
    }
}

/// The signature as an SSH `string` (RFC 4253 §6.6).
pub(super) fn sign(
    key: &ssh_key::PrivateKey,
    hash: Option<HashAlg>,
    data: &[u8],
) -> Result<Vec<u8>, Error> {
    use russh::keys::signature::Signer as _;
    let refuse = |reason: &dyn std::fmt::Display| Error::LocalKey(reason.to_string());
    let signature: ssh_key::Signature = match key.key_data().rsa() {
        Some(rsa) => (rsa, hash).try_sign(data).map_err(|e| refuse(&e))?,
        None => key.try_sign(data).map_err(|e| refuse(&e))?,
    };
    let blob = Vec::<u8>::try_from(signature).map_err(|e| refuse(&e))?;
    let length = u32::try_from(blob.len()).map_err(|e| refuse(&e))?;
    Ok([&length.to_be_bytes(), blob.as_slice()].concat())
}

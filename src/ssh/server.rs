//! The server's side: proves its host certificate, judges the client's, and opens channels to it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use russh::server::{self, Auth};
use russh::{ChannelId, Disconnect, MethodKind, MethodSet};
use ssh_key::{Algorithm, Certificate};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::cert::{self, UserPolicy};
use super::closings::Closings;
use super::cut::Cut;
use super::keys::CertifiedKey;
use super::{CHANNEL_QUEUE, ChannelStream, Error, Keepalive, MAX_PACKET, WINDOW};

/// Public keys that a client may try before it is sent away.
const MAX_ATTEMPTS: usize = 6;
/// Every refusal takes this long, whatever its reason.
const REFUSAL_TIME: Duration = Duration::from_millis(100);
/// How long a farewell may take.
const GOODBYE: Duration = Duration::from_secs(2);

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
}

/// An authenticated session.
pub struct Session {
    subject: String,
    handle: server::Handle,
    closings: Closings,
    ended: CancellationToken,
    reason: Arc<Mutex<Option<Error>>>,
    cut: CancellationToken,
}

/// Serves one connection until its client has authenticated.
///
/// # Errors
/// The client did not authenticate (the reason says why its certificate was refused), the handshake
/// broke or took too long.
pub async fn accept<S>(stream: S, config: &Config) -> Result<Session, Error>
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
    let engine = server::Config {
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time: REFUSAL_TIME,
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![config.identity.key.clone()],
        certificates: vec![config.identity.certificate.clone()],
        limits: super::limits(),
        window_size: WINDOW,
        maximum_packet_size: MAX_PACKET,
        channel_buffer_size: CHANNEL_QUEUE,
        preferred: super::server_algorithms(),
        max_auth_attempts: MAX_ATTEMPTS,
        inactivity_timeout: None,
        keepalive_interval: Some(config.keepalive.interval),
        keepalive_max: config.keepalive.unanswered as usize,
        ..server::Config::default()
    };
    let (authenticated, wait) = oneshot::channel();
    let reason = Arc::new(Mutex::new(None));
    let tried = Arc::new(AtomicBool::new(false));
    let closings = Closings::default();
    let handler = Handler {
        users: config.users.clone(),
        closings: closings.clone(),
        accepted: None,
        authenticated: Some(authenticated),
        refusal: Arc::clone(&reason),
        tried: Arc::clone(&tried),
    };
    let running = server::run_stream(Arc::new(engine), stream, handler).await?;
    let handle = running.handle();
    let ended = CancellationToken::new();
    let end = ended.clone();
    let end_reason = Arc::clone(&reason);
    // The engine's task ends by itself when the connection does; this one only reports it, and must
    // outlive the handshake's future.
    #[expect(
        clippy::disallowed_methods,
        reason = "ends with the engine's own task, not a scope's"
    )]
    tokio::spawn(async move {
        let result = running.await;
        let mut slot = end_reason
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let (Err(error), None) = (result, slot.as_ref()) {
            *slot = Some(error);
        }
        drop(slot);
        end.cancel();
    });
    let subject = tokio::select! {
        // The client may authenticate and leave at once: believe the proof first.
        biased;
        subject = wait => subject.ok(),
        () = ended.cancelled() => None,
    };
    let Some(subject) = subject else {
        // The sender is dropped just before the reporter runs.
        ended.cancelled().await;
        let refusal = reason
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        return Err(match refusal {
            // The engine turns a certificate outside its validity down by itself and tells nobody why;
            // what is left to see is a client that began to authenticate and went away.
            Some(Error::Io(_) | Error::Closed) | None if tried.load(Ordering::Relaxed) => {
                Error::NotAuthenticated
            }
            Some(reason) => reason,
            None => Error::NotAuthenticated,
        });
    };
    reason
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .take();
    Ok(Session {
        subject,
        handle,
        closings,
        ended,
        reason,
        cut,
    })
}

impl Session {
    /// Whom the CA certified: the certificate's first principal. Not the user name, which the client
    /// chooses among all of its principals, so that it cannot be taken for somebody else whose id is
    /// its own name.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Opens a `direct-tcpip` channel with its four fields (RFC 4254 §7.2).
    ///
    /// # Errors
    /// The client refused, or the session ended.
    pub async fn open(
        &self,
        target: (&str, u16),
        originator: SocketAddr,
    ) -> Result<ChannelStream, Error> {
        let channel = self
            .handle
            .channel_open_direct_tcpip(
                target.0,
                u32::from(target.1),
                originator.ip().to_string(),
                u32::from(originator.port()),
            )
            .await
            .map_err(|error| match error {
                russh::Error::ChannelOpenFailure(reason) => {
                    Error::ChannelRefused(format!("{reason:?}"))
                }
                other => other.into(),
            })?;
        let closed = self.closings.of(channel.id());
        Ok(ChannelStream::opened(channel, closed))
    }

    /// True if the client answers within `deadline`.
    pub async fn ping(&self, deadline: Duration) -> bool {
        // The engine gives a server no way to wait for the answer to a keepalive. Any global request
        // that wants a reply proves as much, and this one no client can grant (RFC 4254 §7.1).
        let request = self.handle.forward_tcpip(String::new(), 0);
        let answered = tokio::time::timeout(deadline, request).await;
        answered.is_ok() && !self.ended.is_cancelled()
    }

    /// Resolves when the session has ended. Cancel-safe.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// True once the session has ended.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Why the session ended.
    #[must_use]
    pub fn take_end(&self) -> Error {
        let mut reason = self
            .reason
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        reason.take().unwrap_or(Error::Closed)
    }

    /// Says goodbye, waits a moment for the client to hear it, and closes the connection.
    pub async fn close(&self, why: &str) {
        let farewell = async {
            let said =
                self.handle
                    .disconnect(Disconnect::ByApplication, why.to_owned(), String::new());
            if said.await.is_ok() {
                self.ended.cancelled().await;
            }
        };
        let _ = tokio::time::timeout(GOODBYE, farewell).await;
        self.cut.cancel();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.cut.cancel();
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

/// The engine's callbacks. Whatever a client asks for, channels and forwardings included, is refused by
/// the defaults; only its certificate is of interest.
struct Handler {
    users: UserPolicy,
    /// Heard by the channels' writers.
    closings: Closings,
    /// The first principal of the certificate that was accepted.
    accepted: Option<String>,
    /// The other end is [`accept`].
    authenticated: Option<oneshot::Sender<String>>,
    refusal: Arc<Mutex<Option<Error>>>,
    /// True once the client asked to authenticate; read by [`accept`].
    tried: Arc<AtomicBool>,
}

impl server::Handler for Handler {
    type Error = Error;

    async fn authentication_banner(&mut self) -> Result<Option<String>, Error> {
        self.tried.store(true, Ordering::Relaxed);
        Ok(None)
    }

    async fn auth_publickey_offered(
        &mut self,
        _user: &str,
        offer: server::PublicKeyOffer<'_>,
    ) -> Result<Auth, Error> {
        // Called for certificates too, with the key inside; they are judged once the key is proved. The
        // engine would let an RSA key prove itself with SHA-1 (protocol.md §2: never).
        Ok(match offer.algorithm {
            Algorithm::Rsa { hash: None } | Algorithm::Dsa => Auth::reject(),
            _ => Auth::Accept,
        })
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, Error> {
        match cert::verify_user(certificate, user, &self.users, SystemTime::now()) {
            Ok(()) => {
                self.accepted = certificate.valid_principals().first().cloned();
                Ok(Auth::Accept)
            }
            Err(error) => {
                let mut slot = self
                    .refusal
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                *slot = Some(Error::Certificate(error));
                Ok(Auth::reject())
            }
        }
    }

    async fn channel_open_confirmation(
        &mut self,
        id: ChannelId,
        _max_packet_size: u32,
        _window_size: u32,
        _session: &mut server::Session,
    ) -> Result<(), Error> {
        self.closings.opened(id);
        Ok(())
    }

    async fn channel_close(
        &mut self,
        id: ChannelId,
        _session: &mut server::Session,
    ) -> Result<(), Error> {
        self.closings.closed(id);
        Ok(())
    }

    async fn auth_succeeded(&mut self, _session: &mut server::Session) -> Result<(), Error> {
        if let (Some(subject), Some(authenticated)) =
            (self.accepted.take(), self.authenticated.take())
        {
            let _ = authenticated.send(subject);
        }
        Ok(())
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.closings.all_closed();
    }
}

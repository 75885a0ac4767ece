//! The library russh in either role of the tunnel.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use infisical_ssh::keys;
use russh::keys::PublicKeyOrCertificate;
use russh::server::Auth;
use russh::{Channel, Limits, cipher, client, server};
use ssh_key::{Algorithm, Certificate};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::support::ssh_sides::{Certified, Sides};

/// How russh is configured.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) cipher: cipher::Name,
    /// Bytes after which it exchanges keys again.
    pub(crate) rekey: usize,
    pub(crate) keepalive: Option<Duration>,
    /// Of each channel. It ends a session in which twice this much arrives, in all channels, before
    /// the peer hears that keys are to be renewed.
    pub(crate) window: u32,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            cipher: cipher::AES_128_GCM,
            rekey: 1 << 30,
            keepalive: None,
            window: 2 << 20,
        }
    }
}

impl Plan {
    fn limits(&self) -> Limits {
        Limits::new(self.rekey, self.rekey, Duration::from_secs(3600))
    }

    fn preferred(&self) -> russh::Preferred {
        russh::Preferred {
            cipher: Cow::Owned(vec![self.cipher]),
            host_key_certificates: Cow::Borrowed(&[Algorithm::Ed25519]),
            ..russh::Preferred::default()
        }
    }

    pub(crate) fn client_config(&self) -> client::Config {
        client::Config {
            limits: self.limits(),
            window_size: self.window,
            preferred: self.preferred(),
            keepalive_interval: self.keepalive,
            keepalive_max: 1000,
            ..client::Config::default()
        }
    }

    pub(crate) fn server_config(&self, sides: &Sides) -> server::Config {
        let (key, certificate) = identity(&sides.server);
        server::Config {
            keys: vec![key],
            certificates: vec![certificate],
            limits: self.limits(),
            window_size: self.window,
            preferred: self.preferred(),
            keepalive_interval: self.keepalive,
            keepalive_max: 1000,
            auth_rejection_time: Duration::ZERO,
            inactivity_timeout: None,
            ..server::Config::default()
        }
    }
}

fn identity(certified: &Certified) -> (ssh_key::PrivateKey, Certificate) {
    let line = std::fs::read_to_string(&certified.certificate).expect("a certificate");
    let certificate = keys::parse_certificate(&line).expect("a certificate");
    let key = ssh_key::PrivateKey::from_openssh(certified.key.private()).expect("a key");
    (key, certificate)
}

/// russh as a gateway.
pub(crate) struct Gateway {
    pub(crate) handle: client::Handle<ClientHandler>,
    /// What the server opened; the other end is the handler.
    pub(crate) opened: mpsc::UnboundedReceiver<Channel<client::Msg>>,
    /// Key exchanges so far.
    pub(crate) exchanges: Arc<AtomicUsize>,
}

/// Connects russh as a gateway and authenticates it.
pub(crate) async fn gateway<S>(stream: S, sides: &Sides, config: client::Config) -> Gateway
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, opened) = mpsc::unbounded_channel();
    let exchanges = Arc::new(AtomicUsize::new(0));
    let handler = ClientHandler {
        opened: sender,
        exchanges: Arc::clone(&exchanges),
    };
    let handle = client::connect_stream(Arc::new(config), stream, handler).await;
    let mut handle = handle.expect("a key exchange");
    let (key, certificate) = identity(&sides.client);
    let outcome = handle.authenticate_openssh_cert(&sides.user, Arc::new(key), certificate);
    assert!(outcome.await.expect("an answer").success());
    Gateway {
        handle,
        opened,
        exchanges,
    }
}

pub(crate) struct ClientHandler {
    opened: mpsc::UnboundedSender<Channel<client::Msg>>,
    exchanges: Arc<AtomicUsize>,
}

impl client::Handler for ClientHandler {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        key: &PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        Ok(matches!(key, PublicKeyOrCertificate::Certificate(_)))
    }

    async fn kex_done(
        &mut self,
        _: Option<&[u8]>,
        _: &russh::Names,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        self.exchanges.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        channel: Channel<client::Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        reply.accept().await;
        let _ = self.opened.send(channel);
        Ok(())
    }
}

/// russh as a relay.
pub(crate) struct Relay {
    /// Opens channels.
    pub(crate) handle: server::Handle,
    /// Ends when the session has ended.
    pub(crate) session: server::RunningSession<ServerHandler>,
}

/// Serves one connection with russh as a relay.
pub(crate) async fn relay<S>(stream: S, config: server::Config) -> Relay
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let session = server::run_stream(Arc::new(config), stream, ServerHandler).await;
    let session = session.expect("a key exchange");
    Relay {
        handle: session.handle(),
        session,
    }
}

pub(crate) struct ServerHandler;

impl server::Handler for ServerHandler {
    type Error = russh::Error;

    async fn auth_openssh_certificate(
        &mut self,
        _: &str,
        _: &Certificate,
    ) -> Result<Auth, russh::Error> {
        Ok(Auth::Accept)
    }
}

/// Opens a channel as a relay does.
pub(crate) async fn open(handle: &server::Handle) -> Channel<server::Msg> {
    let opening = handle.channel_open_direct_tcpip("localhost", 0, "192.0.2.1", 40_000);
    opening.await.expect("a channel")
}

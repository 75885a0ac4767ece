//! Gateways as cheap as can be, many in this process: each keeps an SSH connection to the relay
//! with credentials of its own and sends back what comes on a channel. The relay owes each what it
//! owes to any.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use infisical_api::types::GatewayCredentials;
use infisical_runtime::names::SSH_PORT;
use infisical_ssh as ssh;
use infisical_ssh::cert::HostPolicy;
use infisical_ssh::client;
use infisical_ssh::keys::{self, CertifiedKey};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Between two attempts, in milliseconds at most: like a gateway whose relay was there a moment
/// ago.
const BACKOFF_MS: u64 = 1000;
/// Bytes of a channel's buffer while something is under way.
const BUFFER: usize = 1024;

/// Connected gateways, and those that connect again. All end with this.
pub(crate) struct Crowd {
    connected: Arc<AtomicUsize>,
    /// Handshakes of this process that may be under way.
    handshakes: Arc<Semaphore>,
    gateways: JoinSet<()>,
}

impl Crowd {
    pub(crate) fn new(handshakes: usize) -> Self {
        Self {
            connected: Arc::default(),
            handshakes: Arc::new(Semaphore::new(handshakes)),
            gateways: JoinSet::new(),
        }
    }

    /// One more gateway, which connects now and whenever its connection has ended.
    pub(crate) fn add(&mut self, credentials: &GatewayCredentials) -> anyhow::Result<()> {
        let config = config(credentials)?;
        let host = credentials.relay_host.as_str().to_owned();
        let (connected, handshakes) = (Arc::clone(&self.connected), Arc::clone(&self.handshakes));
        self.gateways.spawn(async move {
            loop {
                let session = {
                    let _permit = handshakes.acquire().await;
                    Box::pin(connect(&host, &config)).await
                };
                if let Ok(session) = session {
                    connected.fetch_add(1, Ordering::Relaxed);
                    serve(&session).await;
                    connected.fetch_sub(1, Ordering::Relaxed);
                }
                let pause = infisical_runtime::backoff::random() % BACKOFF_MS;
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
        });
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.gateways.len()
    }

    /// Those that are connected now.
    pub(crate) fn connected(&self) -> usize {
        self.connected.load(Ordering::Relaxed)
    }
}

async fn connect(host: &str, config: &client::Config) -> anyhow::Result<client::Session> {
    let stream = TcpStream::connect((host, SSH_PORT)).await?;
    ssh::prepare(&stream);
    let (reader, writer) = stream.into_split();
    Ok(client::connect(reader, writer, config).await?)
}

/// Sends back what comes until the connection ends.
async fn serve(session: &client::Session) {
    let mut channels = JoinSet::new();
    while let Some(channel) = session.accept().await {
        channels.spawn(async move {
            let (reader, mut writer) = tokio::io::split(channel);
            let mut reader = tokio::io::BufReader::with_capacity(BUFFER, reader);
            // A client that goes away early is no failure of the gateway.
            let _ = tokio::io::copy_buf(&mut reader, &mut writer).await;
        });
        while channels.try_join_next().is_some() {}
    }
}

fn config(credentials: &GatewayCredentials) -> anyhow::Result<client::Config> {
    let ssh = &credentials.ssh;
    let key = keys::parse_private_key(&ssh.client_private_key).context("the private key")?;
    let certificate =
        keys::parse_certificate(&ssh.client_certificate).context("the certificate")?;
    let host = HostPolicy {
        ca: keys::parse_public_key(&ssh.server_ca_public_key).context("the CA's key")?,
        principal: credentials.relay_host.host_principal(),
    };
    let identity = CertifiedKey::try_new(&key, certificate)?;
    let user = credentials.gateway_id.to_string();
    Ok(client::Config::new(user, identity, host))
}

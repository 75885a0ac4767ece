//! Where a measurement's streams begin: at the program's tunnel, at a peer's port, at the bare TLS
//! server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use infisical_pki::dial::GatewayDialer;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::target::Ask;
use crate::within;

/// Limit for one new stream.
const DIAL: Duration = Duration::from_secs(10);
/// Limit for a peer to serve its first stream.
const START: Duration = Duration::from_secs(15);

/// One stream to the target, whatever carries it.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}
pub(crate) type Stream = Box<dyn Duplex>;

/// The way to the target.
#[derive(Clone)]
pub(crate) enum Entrance {
    /// Through relay and gateway, TLS 2 in TLS 1.
    Tunnel(Box<GatewayDialer>),
    /// A port that a peer forwards.
    Tcp(SocketAddr),
    /// TLS in TLS, without any tunnel.
    TlsInTls(SocketAddr, Arc<rustls::ClientConfig>),
}

impl Entrance {
    pub(crate) async fn dial(&self) -> anyhow::Result<Stream> {
        // Two handshakes of TLS are a large future.
        within("a new stream", DIAL, Box::pin(self.connect())).await
    }

    /// Opens a stream and says what the target shall do with it.
    pub(crate) async fn ask(&self, ask: Ask) -> anyhow::Result<Stream> {
        let mut stream = self.dial().await?;
        ask.write(&mut stream).await?;
        Ok(stream)
    }

    async fn connect(&self) -> anyhow::Result<Stream> {
        Ok(match self {
            Self::Tunnel(dialer) => Box::new(dialer.dial(DIAL).await?),
            Self::Tcp(address) => Box::new(tcp(*address).await?),
            Self::TlsInTls(address, config) => {
                let connector = TlsConnector::from(Arc::clone(config));
                let name = ServerName::try_from("localhost")?;
                let outer = connector
                    .connect(name.clone(), tcp(*address).await?)
                    .await?;
                Box::new(connector.connect(name, outer).await?)
            }
        })
    }

    /// Waits until a stream reaches the target.
    pub(crate) async fn wait_until_serves(&self) -> anyhow::Result<()> {
        let end = Instant::now() + START;
        loop {
            let attempt = async {
                let mut stream = self.ask(Ask::Send(1)).await?;
                stream.read_u8().await?;
                stream.shutdown().await.context("the end of a stream")
            };
            match within("the first stream", DIAL, attempt).await {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > end => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

async fn tcp(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

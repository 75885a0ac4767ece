//! The client's way in: TCP to the relay, TLS 1 to the relay, TLS 2 inside it to the gateway.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::stream::SecureStream;
use super::{Error, tls};
use crate::api::types::{ClientPki, SessionCredentials};
use crate::clock::Clock;
use crate::names::{RelayHost, TLS_PORT};
use crate::net::dead_peer::DeadPeerDetector;
use crate::net::dial;
use crate::net::pooled_buf_reader::PooledBufReader;
use crate::net::progress::Progress;

/// The name in every gateway's certificate (protocol.md §4).
const GATEWAY_SERVER_NAME: &str = "localhost";

/// A connection to a relay that ends there.
pub type RelayStream = SecureStream<TlsStream<PooledBufReader<DeadPeerDetector>>>;
/// A connection to a gateway, through a relay.
pub type GatewayStream = SecureStream<TlsStream<RelayStream>>;

/// Dials a relay.
#[derive(Debug, Clone)]
pub struct RelayDialer {
    host: RelayHost,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
}

impl RelayDialer {
    /// Prepares TLS 1 to `host`.
    ///
    /// # Errors
    /// Names the field of the credentials that cannot be used.
    pub fn try_new(host: &RelayHost, pki: &ClientPki, clock: &Clock) -> Result<Self, Error> {
        let name = ServerName::try_from(host.as_str().to_owned()).map_err(|_| Error::Unusable {
            field: "relayHost",
            reason: "it is neither a DNS name nor an IP address".to_owned(),
        })?;
        Ok(Self {
            host: host.clone(),
            name,
            config: tls::client(pki, &[], clock)?,
        })
    }

    /// The relay's host.
    #[must_use]
    pub fn host(&self) -> &RelayHost {
        &self.host
    }

    /// Connects and completes TLS 1 within `deadline`.
    ///
    /// # Errors
    /// The relay cannot be reached, is not the one it should be, or refuses our certificate.
    pub async fn dial(&self, deadline: Duration) -> Result<RelayStream, Error> {
        let end = Instant::now() + deadline;
        let tcp = dial::connect(self.host.as_str(), TLS_PORT, deadline).await?;
        let tcp = PooledBufReader::new(DeadPeerDetector::new(tcp));
        let peer = || format!("relay {}:{TLS_PORT}", self.host);
        handshake(&self.config, self.name.clone(), tcp, end, deadline, peer).await
    }
}

/// Dials a gateway through its relay.
#[derive(Debug, Clone)]
pub struct GatewayDialer {
    relay: RelayDialer,
    config: Arc<ClientConfig>,
}

impl GatewayDialer {
    /// Prepares TLS 1 and TLS 2 for one of the services `alpn`; the gateway chooses.
    ///
    /// # Errors
    /// Names the field of the credentials that cannot be used.
    pub fn try_new(
        credentials: &SessionCredentials,
        alpn: &[&str],
        clock: &Clock,
    ) -> Result<Self, Error> {
        Ok(Self {
            relay: RelayDialer::try_new(&credentials.relay_host, &credentials.relay, clock)?,
            config: tls::client(&credentials.gateway, alpn, clock)?,
        })
    }

    /// Connects and completes TLS 1 and TLS 2 within `deadline`.
    ///
    /// # Errors
    /// The relay or the gateway cannot be reached, is not the one it should be, or refuses us.
    pub async fn dial(&self, deadline: Duration) -> Result<GatewayStream, Error> {
        let end = Instant::now() + deadline;
        let outer = self.relay.dial(deadline).await?;
        let left = end.saturating_duration_since(Instant::now());
        self.dial_through(outer, left).await
    }

    /// The way to the relay, for who wants to know which of the two hops fails.
    #[must_use]
    pub fn relay(&self) -> &RelayDialer {
        &self.relay
    }

    /// Completes TLS 2 within `deadline`, through a connection that [`Self::relay`] dialled.
    ///
    /// # Errors
    /// The gateway cannot be reached, is not the one it should be, or refuses us.
    pub async fn dial_through(
        &self,
        outer: RelayStream,
        deadline: Duration,
    ) -> Result<GatewayStream, Error> {
        let end = Instant::now() + deadline;
        let name = ServerName::try_from(GATEWAY_SERVER_NAME).map_err(|_| Error::Unusable {
            field: "gateway name",
            reason: "it is no DNS name".to_owned(),
        })?;
        let peer = || format!("the gateway behind relay {}", self.relay.host);
        handshake(&self.config, name, outer, end, deadline, peer).await
    }
}

async fn handshake<S>(
    config: &Arc<ClientConfig>,
    name: ServerName<'static>,
    stream: S,
    end: Instant,
    deadline: Duration,
    peer: impl Fn() -> String,
) -> Result<SecureStream<TlsStream<S>>, Error>
where
    S: AsyncRead + AsyncWrite + Progress + Unpin,
{
    let connector = TlsConnector::from(Arc::clone(config));
    tokio::time::timeout_at(end, connector.connect(name, stream))
        .await
        .map_err(|_| Error::HandshakeTimedOut {
            peer: peer(),
            after: deadline,
        })?
        .map_err(|source| Error::Handshake {
            peer: peer(),
            source,
        })
        .map(SecureStream::new)
}

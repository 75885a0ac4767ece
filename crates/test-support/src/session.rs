//! A client's way to a target: certificates of TLS 1 and TLS 2, and the dialling of both.

use std::io;
use std::net::Ipv4Addr;

use serde_json::Value;

use super::tls::{self, Inner, Outer};
use super::x509::Pem;

/// What a client holds.
#[derive(Debug, Clone)]
pub struct Way {
    pub relay_host: Ipv4Addr,
    pub relay: Pem,
    pub relay_anchors: String,
    pub gateway: Pem,
    pub gateway_anchors: String,
}

impl Way {
    /// Reads the session credentials that the embedded platform issues.
    pub fn from_json(credentials: &Value) -> Self {
        let text = |pointer: &str| {
            credentials
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_else(|| panic!("{pointer} is missing"))
                .to_owned()
        };
        let pem = |of: &str| Pem {
            certificate: text(&format!("/{of}/clientCertificate")),
            key: text(&format!("/{of}/clientPrivateKey")),
        };
        Self {
            relay_host: text("/relayHost").parse().expect("an address"),
            relay: pem("relay"),
            relay_anchors: text("/relay/serverCertificateChain"),
            gateway: pem("gateway"),
            gateway_anchors: text("/gateway/serverCertificateChain"),
        }
    }

    /// TLS 1 only.
    pub async fn outer(&self) -> io::Result<Outer> {
        tls::outer(self.relay_host, Some(&self.relay), &self.relay_anchors).await
    }

    /// TLS 1 and TLS 2 with these service names.
    pub async fn offer(&self, alpn: &[&str]) -> io::Result<Inner> {
        let outer = self.outer().await?;
        tls::inner(outer, Some(&self.gateway), &self.gateway_anchors, alpn).await
    }

    /// A connection to the target.
    pub async fn tcp(&self) -> io::Result<Inner> {
        self.offer(&["infisical-tcp-proxy"]).await
    }
}

/// Sends `message` to an echo service over `stream` and checks what comes back.
pub async fn echoes<S>(stream: &mut S, message: &[u8]) -> io::Result<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let exchange = async {
        stream.write_all(message).await?;
        stream.flush().await?;
        let mut back = vec![0; message.len()];
        stream.read_exact(&mut back).await?;
        if back == message {
            Ok(())
        } else {
            Err(io::Error::other("the echo differs"))
        }
    };
    super::soon("an echo", exchange).await
}

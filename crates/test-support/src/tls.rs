//! TLS clients of the test's own: TLS 1 to a relay, TLS 2 inside it to a gateway. They present
//! whatever certificate a case gives them, and check the server's as they must.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::soon;
use super::x509::Pem;

/// TLS 1.
pub type Outer = TlsStream<TcpStream>;
/// TLS 2 in TLS 1.
pub type Inner = TlsStream<Outer>;

pub fn config(client: Option<&Pem>, anchors: &str, alpn: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for anchor in CertificateDer::pem_slice_iter(anchors.as_bytes()) {
        roots.add(anchor.expect("PEM")).expect("an anchor");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let mut config = match client {
        Some(pem) => {
            let chain = CertificateDer::pem_slice_iter(pem.certificate.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .expect("PEM");
            let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).expect("a key");
            builder.with_client_auth_cert(chain, key).expect("a pair")
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// TLS 1 to the relay at `host`; no certificate is presented where `client` is absent.
pub async fn outer(host: Ipv4Addr, client: Option<&Pem>, anchors: &str) -> io::Result<Outer> {
    let tcp = soon("the relay", TcpStream::connect((host, 8443))).await?;
    tcp.set_nodelay(true)?;
    outer_over(tcp, host, client, anchors).await
}

/// The same over a connection that is there.
pub async fn outer_over(
    tcp: TcpStream,
    host: Ipv4Addr,
    client: Option<&Pem>,
    anchors: &str,
) -> io::Result<Outer> {
    let connector = TlsConnector::from(config(client, anchors, &[]));
    let name = ServerName::from(std::net::IpAddr::from(host));
    soon("TLS 1", connector.connect(name, tcp)).await
}

/// TLS 2 over `stream`.
pub async fn inner<S>(
    stream: S,
    client: Option<&Pem>,
    anchors: &str,
    alpn: &[&str],
) -> io::Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let connector = TlsConnector::from(config(client, anchors, alpn));
    let name = ServerName::try_from("localhost").expect("a name");
    soon("TLS 2", connector.connect(name, stream)).await
}

/// Waits for the other side to end a connection without having said anything, and tells how it did.
/// In TLS 1.3 a refused client learns of it only when it reads.
pub async fn refused<S>(connected: io::Result<TlsStream<S>>) -> String
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stream = match connected {
        Ok(stream) => stream,
        Err(error) => return error.to_string(),
    };
    let mut buffer = Vec::new();
    match soon("the refusal", stream.read_to_end(&mut buffer)).await {
        Ok(0) => "closed".to_owned(),
        Ok(n) => panic!("not refused: {n} bytes came: {buffer:?}"),
        Err(error) => error.to_string(),
    }
}

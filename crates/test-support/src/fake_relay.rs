//! The other end of a client's connection, with certificates of any quality: TLS 1 like a relay,
//! TLS 2 inside it like the gateway behind it, and an echo in place of a target.

use std::net::Ipv4Addr;
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::eventually;
use super::x509::Pem;

/// Runs until dropped.
pub struct FakeRelay {
    task: JoinSet<()>,
}

impl FakeRelay {
    /// Listens on port 8443 of `host`; each side shows its leaf and trusts the clients of its
    /// anchors.
    pub async fn start(host: Ipv4Addr, relay: (&Pem, &str), gateway: (&Pem, &str)) -> Self {
        // A child that is being started at this moment may hold the one before for a moment longer.
        let listener = eventually("the port", || TcpListener::bind((host, 8443))).await;
        let outer = acceptor(relay, &[]);
        let inner = acceptor(gateway, &["infisical-tcp-proxy"]);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (outer, inner) = (outer.clone(), inner.clone());
                connections.spawn(async move {
                    // A client that leaves is what most cases are about.
                    let _ = serve(stream, &outer, &inner).await;
                });
            }
        });
        Self { task }
    }

    /// Ends it, and frees its port before returning.
    pub async fn stop(mut self) {
        self.task.shutdown().await;
    }
}

async fn serve(stream: TcpStream, outer: &TlsAcceptor, inner: &TlsAcceptor) -> std::io::Result<()> {
    let stream = inner.accept(outer.accept(stream).await?).await?;
    let (mut reader, mut writer) = tokio::io::split(stream);
    tokio::io::copy(&mut reader, &mut writer).await?;
    writer.shutdown().await
}

/// The server's side of either TLS: its leaf and the anchors of its clients.
pub fn acceptor((leaf, anchors): (&Pem, &str), alpn: &[&str]) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for anchor in CertificateDer::pem_slice_iter(anchors.as_bytes()) {
        roots.add(anchor.expect("PEM")).expect("an anchor");
    }
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .expect("anchors");
    let leaf_der = CertificateDer::from_pem_slice(leaf.certificate.as_bytes()).expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).expect("a key");
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![leaf_der], key)
        .expect("a pair");
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

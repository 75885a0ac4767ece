//! The upper reference: a client's TLS in TLS, ended by one process that connects to the target.
//! Whatever the tunnel costs is what it costs more than this.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{Peer, Start, beyond, free_address};
use crate::entrance::Entrance;
use crate::process::Process;
use crate::stack::Between;
use crate::{BUFFER, in_background};

pub(crate) const NAME: &str = "tls-in-tls";

const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";

/// Starts it, with `between` between the clients and it.
pub(crate) async fn start(target: SocketAddr, between: Between) -> anyhow::Result<Start> {
    let dir = tempfile::tempdir()?;
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    std::fs::write(dir.path().join(CERTIFICATE), certified.cert.pem())?;
    std::fs::write(dir.path().join(KEY), certified.signing_key.serialize_pem())?;
    let mut roots = RootCertStore::empty();
    roots.add(certified.cert.der().clone())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let listen = free_address()?;
    let directory = dir.path().display().to_string();
    let relay = Process::start_self(&[NAME, &listen.to_string(), &target.to_string(), &directory])?;
    Ok(Start::Ready(Peer {
        entrance: Entrance::TlsInTls(beyond(between, listen).await?, Arc::new(client)),
        relay,
        gateway: None,
        _dir: Some(dir),
    }))
}

pub(crate) async fn serve(
    listen: &str,
    target: SocketAddr,
    directory: &Path,
) -> anyhow::Result<()> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_file(directory.join(CERTIFICATE))?],
            PrivateKeyDer::from_pem_file(directory.join(KEY))?,
        )?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (near, _) = listener.accept().await?;
        let acceptor = acceptor.clone();
        in_background(async move {
            near.set_nodelay(true)?;
            let outer = acceptor.accept(near).await?;
            let mut inner = acceptor.accept(outer).await?;
            let mut far = TcpStream::connect(target).await?;
            far.set_nodelay(true)?;
            tokio::io::copy_bidirectional_with_sizes(&mut inner, &mut far, BUFFER, BUFFER).await
        });
    }
}

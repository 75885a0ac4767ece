//! What an attacker does until it is killed, from one address, many times at once. It prints a line for
//! each second: how often it tried, and how often the server did the costly part.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use infisical::secret::Secret;
use infisical::ssh::cert::HostPolicy;
use infisical::ssh::client;
use infisical::ssh::keys::{self, CertifiedKey};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::raw_ssh;
use crate::support::tls;

/// Attempts at once.
const AT_ONCE: usize = 16;
/// The longest attempt.
const ATTEMPT: Duration = Duration::from_secs(5);

/// What all attempts have in common.
struct Attack {
    kind: String,
    from: Ipv4Addr,
    to: Ipv4Addr,
    gateway: Option<client::Config>,
    tls: Option<Arc<ClientConfig>>,
}

/// Attacks the relay at `to`; `file` has the credentials of a gateway, for the attacks of one.
pub(crate) async fn run(kind: &str, from: Ipv4Addr, to: Ipv4Addr, file: &Path) {
    let attack = Arc::new(Attack {
        kind: kind.to_owned(),
        from,
        to,
        gateway: (kind == "rekey").then(|| gateway(file)),
        tls: (kind == "tls").then(|| {
            let anchors = std::fs::read_to_string(file).expect("anchors");
            tls::config(None, &anchors, &[])
        }),
    });
    let (tried, costly) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut tasks = JoinSet::new();
    // Two sessions of one gateway would end each other.
    let at_once = if kind == "rekey" { 1 } else { AT_ONCE };
    for _ in 0..at_once {
        let (attack, tried, costly) =
            (Arc::clone(&attack), Arc::clone(&tried), Arc::clone(&costly));
        tasks.spawn(async move {
            loop {
                let attempt = tokio::time::timeout(ATTEMPT, attack.attempt()).await;
                tried.fetch_add(1, Ordering::Relaxed);
                if matches!(attempt, Ok(Ok(true))) {
                    costly.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        second.tick().await;
        let (tried, costly) = (
            tried.load(Ordering::Relaxed),
            costly.load(Ordering::Relaxed),
        );
        println!("attempts {tried} costly {costly}");
    }
}

impl Attack {
    async fn connect(&self, port: u16) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind((self.from, 0).into())?;
        let stream = socket.connect(SocketAddr::from((self.to, port))).await?;
        // No ports in TIME_WAIT, of which there are few.
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        Ok(stream)
    }

    /// True if the server did what costs it.
    async fn attempt(&self) -> std::io::Result<bool> {
        match self.kind.as_str() {
            "tls" => {
                let connector = TlsConnector::from(Arc::clone(self.tls.as_ref().expect("made")));
                let stream = self.connect(8443).await?;
                let name = ServerName::from(std::net::IpAddr::from(self.to));
                // Without a certificate: the server signs, and then refuses.
                Ok(connector.connect(name, stream).await.is_ok())
            }
            "garbage" => {
                for port in [2222, 8443] {
                    let mut stream = self.connect(port).await?;
                    let _ = stream.write_all(&[0x80; 4096]).await;
                    let mut answer = [0; 4096];
                    while matches!(stream.read(&mut answer).await, Ok(1..)) {}
                }
                Ok(false)
            }
            "rekey" => {
                let config = self.gateway.as_ref().expect("made");
                let (reader, writer) = self.connect(2222).await?.into_split();
                let session = client::connect(reader, writer, config).await;
                let session = session.map_err(std::io::Error::other)?;
                session.ended().await;
                Ok(true)
            }
            kex => {
                let mut stream = self.connect(2222).await?;
                raw_ssh::is_answered(&mut stream, &raw_ssh::opening(kex)).await
            }
        }
    }
}

/// A gateway with good credentials that exchanges keys all the time.
fn gateway(file: &Path) -> client::Config {
    let text = std::fs::read_to_string(file).expect("credentials");
    let credentials: Value = serde_json::from_str(&text).expect("JSON");
    let text = |pointer: &str| credentials.pointer(pointer).and_then(Value::as_str);
    let text = |pointer: &str| text(pointer).expect("a field of the credentials");
    let key = keys::parse_private_key(&Secret::new(text("/ssh/clientPrivateKey")));
    let certificate = keys::parse_certificate(text("/ssh/clientCertificate"));
    let identity = CertifiedKey::try_new(&key.expect("a key"), certificate.expect("one"));
    let ca = keys::parse_public_key(text("/ssh/serverCAPublicKey"));
    let policy = HostPolicy {
        ca: ca.expect("a key"),
        principal: format!("{}:2222", text("/relayHost")),
    };
    let user = text("/gatewayId").to_owned();
    let mut config = client::Config::new(user, identity.expect("a pair"), policy);
    config.rekey.time = Duration::from_millis(1);
    config
}

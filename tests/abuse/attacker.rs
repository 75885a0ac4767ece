//! What an attacker does until it is killed, many times at once, from one IPv4 address or from all
//! networks of 64 bits in one of 48. It prints a line for each second: how often it tried, and how
//! often the server did the costly part.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use infisical_runtime::secret::Secret;
use infisical_ssh::cert::HostPolicy;
use infisical_ssh::client;
use infisical_ssh::keys::{self, CertifiedKey};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::forged;
use crate::raw_ssh;
use crate::support::tls;

/// Attempts at once.
const AT_ONCE: usize = 16;
/// The same of an attacker that only holds connections: more than a port has places.
const HELD_AT_ONCE: usize = 1500;
/// The longest attempt.
const ATTEMPT: Duration = Duration::from_secs(5);
/// The same of a session that only the relay is to end.
const FOREVER: Duration = Duration::from_secs(3600);
/// Between two attempts of an attacker that is refused: as long as a packet takes, so that it does
/// not only turn in a loop.
const PAUSE: Duration = Duration::from_millis(1);

/// What all attempts have in common.
struct Attack {
    kind: String,
    from: IpAddr,
    to: IpAddr,
    gateway: Option<client::Config>,
    tls: Vec<Arc<ClientConfig>>,
    connections: AtomicU64,
}

/// Attacks the relay at `to`; `file` has the credentials of a gateway, for the attacks of one, and
/// otherwise the relay's anchors.
pub(crate) async fn run(kind: &str, from: IpAddr, to: IpAddr, file: &Path) {
    let text = std::fs::read_to_string(file).expect("the attacker's file");
    let attack = Arc::new(Attack {
        kind: kind.to_owned(),
        from,
        to,
        gateway: matches!(kind, "rekey" | "stranger").then(|| gateway(kind, &text)),
        tls: match kind {
            "tls" => vec![tls::config(None, &text, &[])],
            "forged" => forged::configs(&text),
            _ => Vec::new(),
        },
        connections: AtomicU64::new(0),
    });
    let (tried, costly) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut tasks = JoinSet::new();
    let at_once = match kind {
        // Two sessions of one gateway would end each other.
        "rekey" => 1,
        "hold" => HELD_AT_ONCE,
        _ => AT_ONCE,
    };
    for _ in 0..at_once {
        let (attack, tried, costly) =
            (Arc::clone(&attack), Arc::clone(&tried), Arc::clone(&costly));
        tasks.spawn(async move {
            loop {
                let longest = if attack.kind == "rekey" {
                    FOREVER
                } else {
                    ATTEMPT
                };
                let attempt = tokio::time::timeout(longest, attack.attempt()).await;
                tried.fetch_add(1, Ordering::Relaxed);
                if matches!(attempt, Ok(Ok(true))) {
                    costly.fetch_add(1, Ordering::Relaxed);
                } else {
                    tokio::time::sleep(PAUSE).await;
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
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        let (socket, from) = match self.from {
            IpAddr::V4(from) => (TcpSocket::new_v4()?, IpAddr::from(from)),
            IpAddr::V6(network) => {
                let bits = network.to_bits() | u128::from(number % 65_536) << 64 | 1;
                (TcpSocket::new_v6()?, Ipv6Addr::from_bits(bits).into())
            }
        };
        socket.set_reuseaddr(true)?;
        socket.bind((from, 0).into())?;
        let stream = socket.connect(SocketAddr::from((self.to, port))).await?;
        stream.set_nodelay(true)?;
        // No ports in TIME_WAIT, of which there are few.
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        Ok(stream)
    }

    /// True if the server did what costs it.
    async fn attempt(&self) -> std::io::Result<bool> {
        match self.kind.as_str() {
            "tls" | "forged" => {
                let number = self.connections.load(Ordering::Relaxed);
                let number = usize::try_from(number).expect("64 bits") % self.tls.len();
                let connector = TlsConnector::from(Arc::clone(&self.tls[number]));
                let stream = self.connect(8443).await?;
                // Without a good certificate: the server signs, and then refuses.
                Ok(connector
                    .connect(ServerName::from(self.to), stream)
                    .await
                    .is_ok())
            }
            "hold" => {
                let number = self.connections.load(Ordering::Relaxed);
                let port = if number.is_multiple_of(2) { 2222 } else { 8443 };
                let mut stream = self.connect(port).await?;
                let mut answer = [0; 4096];
                while matches!(stream.read(&mut answer).await, Ok(1..)) {}
                Ok(false)
            }
            "stranger" => {
                let config = self.gateway.as_ref().expect("made");
                let (reader, writer) = self.connect(2222).await?.into_split();
                let session = client::connect(reader, writer, config).await;
                Ok(matches!(
                    session,
                    Err(infisical_ssh::Error::AuthenticationRefused)
                ))
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

/// A gateway: one with good credentials exchanges keys all the time.
fn gateway(kind: &str, text: &str) -> client::Config {
    let credentials: Value = serde_json::from_str(text).expect("JSON");
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
    if kind == "rekey" {
        config.rekey.time = Duration::from_millis(1);
    }
    config
}

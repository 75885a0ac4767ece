//! What the relay's tests are made of: a certificate authority, which issues everything that the
//! platform would and what it never would, and a relay that serves on loopback.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::ServerName;
use ssh_key::certificate::{Builder, CertType};
use ssh_key::private::Ed25519Keypair;
use ssh_key::{Certificate, LineEnding, PrivateKey};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::hub::{Deadlines, Hub};
use super::identity::Identity;
use super::tunnel::Tunnel;
use super::{Sockets, serve};
use crate::agent::status;
use crate::api::types::{ClientPki, RelayCredentials, RelaySsh, ServerPki};
use crate::clock::Clock;
use crate::config::settings::RelayLimits;
use crate::names::GatewayId;
use crate::pki;
use crate::scope::Scope;
use crate::secret::Secret;
use crate::ssh::cert::HostPolicy;
use crate::ssh::keys::CertifiedKey;
use crate::ssh::{self, ChannelStream, client};

/// The relay's name.
pub(super) const NAME: &str = "relay-1";
/// The relay's host.
pub(super) const HOST: &str = "127.0.0.1";
/// Limit for whatever a test waits for; reached only when it fails.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

const HOST_CA: u8 = 1;
const USER_CA: u8 = 2;
const HOST_KEY: u8 = 3;
const USER_KEY: u8 = 4;

/// All the platform's CAs.
pub(super) struct Authority {
    servers: CertifiedIssuer<'static, KeyPair>,
    clients: CertifiedIssuer<'static, KeyPair>,
}

/// A user certificate, good unless changed.
pub(super) struct UserCertificate {
    pub(super) ca: u8,
    pub(super) kind: CertType,
    pub(super) key_id: String,
    pub(super) principals: Vec<String>,
    pub(super) expired: bool,
}

impl UserCertificate {
    pub(super) fn of(gateway: &str) -> Self {
        Self {
            ca: USER_CA,
            kind: CertType::User,
            key_id: format!("client-{NAME}"),
            principals: vec![gateway.to_owned(), "gateway-name".to_owned()],
            expired: false,
        }
    }

    fn sign(&self) -> Certificate {
        certificate(self, USER_KEY)
    }
}

/// The CA of host certificates, as the signer of a [`UserCertificate`].
pub(super) const OTHER_ROLES_CA: u8 = HOST_CA;
/// A CA of no one.
pub(super) const STRANGERS_CA: u8 = 99;

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

fn pem(seed: u8) -> Secret {
    Secret::new(key(seed).to_openssh(LineEnding::LF).expect("PEM").as_str())
}

fn certificate(what: &UserCertificate, subject: u8) -> Certificate {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    let end = if what.expired { now - 10 } else { now + 3600 };
    let public = key(subject).public_key().clone();
    let mut builder = Builder::new([7; 16], public, now - 3600, end).expect("a builder");
    builder.cert_type(what.kind).expect("a type");
    builder.key_id(what.key_id.clone()).expect("a key id");
    if what.principals.is_empty() {
        builder.all_principals_valid().expect("a list");
    }
    for principal in &what.principals {
        builder
            .valid_principal(principal.clone())
            .expect("a principal");
    }
    builder.sign(&key(what.ca)).expect("a signature")
}

fn issuer(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA")
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// PEM of a leaf and of its key.
fn leaf(
    issuer: &CertifiedIssuer<'static, KeyPair>,
    name: &str,
    hosts: &[&str],
    usage: ExtendedKeyUsagePurpose,
) -> (String, Secret) {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("names");
    params.distinguished_name = named(name);
    params.extended_key_usages = vec![usage];
    params.not_after = (SystemTime::now() + Duration::from_secs(3600)).into();
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, issuer).expect("a certificate");
    (certificate.pem(), Secret::new(key.serialize_pem()))
}

impl Authority {
    pub(super) fn new() -> Self {
        Self {
            servers: issuer("relay server CA"),
            clients: issuer("relay client CA"),
        }
    }

    /// Credentials R.
    pub(super) fn relay(&self) -> RelayCredentials {
        let host = UserCertificate {
            ca: HOST_CA,
            kind: CertType::Host,
            key_id: "relay-server".to_owned(),
            principals: vec![format!("{HOST}:2222")],
            expired: false,
        };
        let usage = ExtendedKeyUsagePurpose::ServerAuth;
        let (server_certificate, server_private_key) = leaf(&self.servers, "relay", &[HOST], usage);
        RelayCredentials {
            name: None,
            pki: ServerPki {
                server_certificate,
                server_private_key,
                client_certificate_chain: self.clients.as_ref().pem(),
            },
            ssh: RelaySsh {
                server_certificate: certificate(&host, HOST_KEY).to_openssh().expect("a line"),
                server_private_key: pem(HOST_KEY),
                client_ca_public_key: key(USER_CA).public_key().to_openssh().expect("a line"),
            },
        }
    }

    /// A user certificate as a line.
    pub(super) fn user_certificate_line(&self) -> String {
        UserCertificate::of("g")
            .sign()
            .to_openssh()
            .expect("a line")
    }

    /// What a client needs to reach the gateway `name`.
    pub(super) fn client(&self, name: &str) -> ClientPki {
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        let (client_certificate, client_private_key) = leaf(&self.clients, name, &[], usage);
        ClientPki {
            client_certificate,
            client_private_key,
            server_certificate_chain: self.servers.as_ref().pem(),
        }
    }

    /// The same from a CA that the relay does not know, which itself knows the relay's.
    pub(super) fn stranger(&self, name: &str) -> ClientPki {
        ClientPki {
            server_certificate_chain: self.servers.as_ref().pem(),
            ..Self::new().client(name)
        }
    }
}

/// How a gateway connects with `certificate` as the SSH user `user`.
pub(super) fn gateway(user: &str, certificate: &UserCertificate) -> client::Config {
    client::Config::new(
        user.to_owned(),
        CertifiedKey::try_new(&key(USER_KEY), certificate.sign()).expect("a pair"),
        HostPolicy {
            ca: key(HOST_CA).public_key().clone(),
            principal: format!("{HOST}:2222"),
        },
    )
}

/// A port of loopback that the kernel chose.
pub(super) fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub(super) const ID: &str = "5f0c7f3e-0000-4000-8000-000000000001";
/// Another gateway's.
pub(super) const OTHER_ID: &str = "5f0c7f3e-0000-4000-8000-000000000002";

/// A relay that serves on ports of loopback.
pub(super) struct Relay {
    pub(super) authority: Authority,
    pub(super) hub: Arc<Hub>,
    pub(super) current: watch::Sender<Arc<Identity>>,
    pub(super) ssh: SocketAddr,
    pub(super) tls: SocketAddr,
    pub(super) stop: Scope,
    /// Runs `serve`.
    pub(super) scope: Scope,
}

/// What a test changes of a relay.
pub(super) struct Given {
    pub(super) limits: RelayLimits,
    pub(super) deadlines: Deadlines,
    pub(super) ssh_handshake: Duration,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            limits: RelayLimits::default(),
            // Those of tests whose subject is no deadline must not be reached on a busy machine.
            deadlines: Deadlines {
                tls_handshake: LIMIT,
                arrival: LIMIT,
                open: LIMIT,
                probe: LIMIT,
                close_wait: LIMIT,
                grace: LIMIT,
            },
            ssh_handshake: LIMIT,
        }
    }
}

pub(super) fn identity(authority: &Authority, ssh_handshake: Duration) -> Arc<Identity> {
    let name = NAME.parse().expect("a name");
    let host = HOST.parse().expect("a host");
    let mut identity = Identity::try_new(&name, Some(&host), &authority.relay(), &Clock::new())
        .expect("an identity");
    identity.ssh.handshake = ssh_handshake;
    Arc::new(identity)
}

impl Relay {
    pub(super) async fn start(given: Given) -> Self {
        let authority = Authority::new();
        let (current, receiver) = watch::channel(identity(&authority, given.ssh_handshake));
        let hub = Arc::new(Hub::new(receiver, &given.limits, given.deadlines));
        let sockets = Sockets {
            ssh: TcpListener::bind(any_port()).await.expect("a port"),
            tls: TcpListener::bind(any_port()).await.expect("a port"),
        };
        let (ssh, tls) = (
            sockets.ssh.local_addr().expect("an address"),
            sockets.tls.local_addr().expect("an address"),
        );
        let (stop, scope) = (Scope::new("relay"), Scope::new("test"));
        let (serving, stopped) = (Arc::clone(&hub), stop.clone());
        scope.spawn("serve", async move {
            let (reporter, _monitor) = status::relay();
            serve(sockets, serving, &reporter, stopped).await;
        });
        Self {
            authority,
            hub,
            current,
            ssh,
            tls,
            stop,
            scope,
        }
    }

    pub(super) async fn good() -> Self {
        Self::start(Given::default()).await
    }

    /// Tries to connect a gateway as `user` with `certificate`.
    pub(super) async fn try_gateway(
        &self,
        user: &str,
        certificate: &UserCertificate,
    ) -> Result<client::Session, ssh::Error> {
        let tcp = TcpStream::connect(self.ssh).await.expect("connected");
        let (reader, writer) = tcp.into_split();
        client::connect(reader, writer, &gateway(user, certificate)).await
    }

    /// A gateway that is registered.
    pub(super) async fn gateway(&self) -> client::Session {
        let before = self.tunnel().map(|tunnel| Arc::as_ptr(&tunnel));
        let session = self.try_gateway(ID, &UserCertificate::of(ID)).await;
        self.until_registered(before).await;
        session.expect("a session")
    }

    /// One more gateway, whose id is `id`, beside those that are registered.
    pub(super) async fn another_gateway(&self, id: &str) -> client::Session {
        let before = self.hub.registry().len();
        let session = self.try_gateway(id, &UserCertificate::of(id)).await;
        until(|| self.hub.registry().len() > before).await;
        session.expect("a session")
    }

    pub(super) async fn until_registered(&self, before: Option<*const Tunnel>) {
        until(|| {
            let now = self.tunnel().map(|tunnel| Arc::as_ptr(&tunnel));
            now.is_some() && now != before
        })
        .await;
    }

    /// The relay's own end of the gateway's tunnel.
    pub(super) fn tunnel(&self) -> Option<Arc<Tunnel>> {
        let id = GatewayId::try_new(ID).expect("an id");
        self.hub.registry().find(&id).map(Arc::clone)
    }

    /// A client for the gateway `name`.
    pub(super) async fn client(&self, name: &str) -> TlsStream<TcpStream> {
        self.try_client(&self.authority.client(name))
            .await
            .expect("TLS")
    }

    pub(super) async fn try_client(&self, pki: &ClientPki) -> io::Result<TlsStream<TcpStream>> {
        let config = pki::tls::client(pki, &[], &Clock::new()).expect("a configuration");
        let name = ServerName::try_from(HOST).expect("a name");
        let tcp = TcpStream::connect(self.tls).await.expect("connected");
        TlsConnector::from(config).connect(name, tcp).await
    }

    /// A client and the channel that the gateway accepts for it.
    pub(super) async fn bridge(
        &self,
        gateway: &client::Session,
    ) -> (TlsStream<TcpStream>, ChannelStream) {
        let (client, channel) = tokio::join!(self.client(ID), gateway.accept());
        (client, channel.expect("a channel"))
    }
}

/// Waits until `condition` holds.
pub(super) async fn until(condition: impl Fn() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(2));
    let waiting = async {
        while !condition() {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(LIMIT, waiting)
        .await
        .expect("the condition holds in the end");
}

pub(super) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(LIMIT, future)
        .await
        .expect("it ends by itself")
}

/// Everything that the other side sends until it ends its direction cleanly.
pub(super) async fn rest<S: AsyncRead + Unpin>(stream: &mut S) -> Vec<u8> {
    let mut all = Vec::new();
    soon(stream.read_to_end(&mut all))
        .await
        .expect("a clean end");
    all
}

/// A connection that no longer reads once told so.
pub(super) struct Deaf {
    pub(super) tcp: TcpStream,
    pub(super) is_deaf: Arc<AtomicBool>,
}

impl AsyncRead for Deaf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_deaf.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        Pin::new(&mut self.tcp).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Deaf {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

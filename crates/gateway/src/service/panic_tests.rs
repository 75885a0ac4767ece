//! Sessions over a real tunnel: one that panics must not look complete to its client nor to its
//! target, and one too many hears why it is refused.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls_pki_types::ServerName;
use ssh_key::certificate::{Builder, CertType};
use ssh_key::private::Ed25519Keypair;
use ssh_key::{LineEnding, PrivateKey};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::super::identity::Identity;
use super::{Context, Error, http, serve};
use crate::api::types::{ClientPki, GatewayCredentials, GatewaySsh, ServerPki};
use crate::audit::Audit;
use crate::clock::Clock;
use crate::names::RelayHost;
use crate::net::status;
use crate::pki;
use crate::pki::stream::SecureStream;
use crate::scope::Scope;
use crate::secret::Secret;
use crate::ssh::cert::UserPolicy;
use crate::ssh::keys::CertifiedKey;
use crate::ssh::{ChannelStream, client, server};
use crate::targets::Targets;

const SOON: Duration = Duration::from_secs(20);
const GATEWAY_ID: &str = "5f0c7f3e-0000-4000-8000-000000000001";
const KEY_ID: &str = "client-relay-1";
/// Seeds of SSH keys.
const HOST_CA: u8 = 1;
const USER_CA: u8 = 2;
const HOST_KEY: u8 = 3;
const USER_KEY: u8 = 4;

tokio::task_local! {
    /// Makes the session panic once it is notified; set by the tests of this module alone.
    static PANIC: Arc<Notify>;
}

/// `stopping`, or a panic where a test asks for one.
pub(super) async fn or_panic<T>(stopping: impl Future<Output = T>) -> T {
    let Ok(asked) = PANIC.try_with(Arc::clone) else {
        return stopping.await;
    };
    tokio::select! {
        stopped = stopping => stopped,
        () = asked.notified() => panic!("on purpose"),
    }
}

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

fn ssh_certificate(kind: CertType, subject: u8, ca: u8, principal: &str) -> ssh_key::Certificate {
    let public = key(subject).public_key().clone();
    let mut builder = Builder::new([7; 16], public, 0, u64::MAX - 1).expect("a builder");
    builder.cert_type(kind).expect("a type");
    builder.key_id(KEY_ID).expect("a key id");
    builder.valid_principal(principal).expect("a principal");
    builder.sign(&key(ca)).expect("a signature")
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA")
}

/// A leaf and its key as PEM. A client's has `route`, a server's has none.
fn leaf(
    issuer: &CertifiedIssuer<'static, KeyPair>,
    common_name: &str,
    route: Option<SocketAddr>,
) -> (String, Secret) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.not_after = (SystemTime::now() + Duration::from_secs(3600)).into();
    params.extended_key_usages = vec![match route {
        Some(_) => ExtendedKeyUsagePurpose::ClientAuth,
        None => ExtendedKeyUsagePurpose::ServerAuth,
    }];
    if let Some(to) = route {
        let route = serde_json::json!({"targetHost": to.ip().to_string(), "targetPort": to.port()});
        let oid = [1, 3, 6, 1, 4, 1, 12345, 100, 1];
        let content = route.to_string().into_bytes();
        let extension = CustomExtension::from_oid_content(&oid, content);
        params.custom_extensions.push(extension);
    }
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, issuer).expect("a certificate");
    (certificate.pem(), Secret::new(key.serialize_pem()))
}

/// A gateway, a relay's end of its tunnel, and a client of the service `alpn`.
struct Peers {
    identity: Identity,
    gateway: client::Session,
    relay: server::Session,
    client: ClientPki,
}

impl Peers {
    async fn new(target: SocketAddr) -> Self {
        let (servers, clients) = (authority("servers"), authority("clients"));
        let host: RelayHost = "127.0.0.1".parse().expect("a host");
        let (server_certificate, server_private_key) = leaf(&servers, "gateway", None);
        let pem = key(USER_KEY).to_openssh(LineEnding::LF).expect("PEM");
        let user = ssh_certificate(CertType::User, USER_KEY, USER_CA, GATEWAY_ID);
        let credentials = GatewayCredentials {
            gateway_id: GATEWAY_ID.parse().expect("an id"),
            name: None,
            relay_host: host.clone(),
            pki: ServerPki {
                server_certificate,
                server_private_key,
                client_certificate_chain: clients.as_ref().pem(),
            },
            ssh: GatewaySsh {
                client_certificate: user.to_openssh().expect("a line"),
                client_private_key: Secret::new(pem.as_str()),
                server_ca_public_key: key(HOST_CA).public_key().to_openssh().expect("a line"),
            },
            accepted_capabilities: Vec::new(),
        };
        let relay_name = "relay-1".parse().expect("a name");
        let identity = Identity::try_new(relay_name, &credentials, &Clock::new());
        let identity = identity.expect("an identity");
        let principal = host.host_principal();
        let certificate = ssh_certificate(CertType::Host, HOST_KEY, HOST_CA, &principal);
        let relay = server::Config::new(
            CertifiedKey::try_new(&key(HOST_KEY), certificate).expect("a pair"),
            UserPolicy {
                ca: key(USER_CA).public_key().clone(),
                key_id: KEY_ID.to_owned(),
            },
        );
        let (near, far) = duplex(64 * 1024);
        let (near, far) = (tokio::io::split(near), tokio::io::split(far));
        let (gateway, relay) = tokio::join!(
            client::connect(near.0, near.1, &identity.ssh),
            server::accept(far.0, far.1, &relay)
        );
        let common_name = format!("user:{GATEWAY_ID}");
        let (client_certificate, client_private_key) = leaf(&clients, &common_name, Some(target));
        Self {
            identity,
            gateway: gateway.expect("a tunnel"),
            relay: relay.expect("a tunnel"),
            client: ClientPki {
                client_certificate,
                client_private_key,
                server_certificate_chain: servers.as_ref().pem(),
            },
        }
    }

    /// A channel of the tunnel: the relay's end, and the gateway's.
    async fn channel(&self) -> (ChannelStream, ChannelStream) {
        let originator = SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000));
        let opening = self.relay.open(("localhost", 0), originator);
        let (opened, accepted) = tokio::join!(opening, self.gateway.accept());
        (opened.expect("a channel"), accepted.expect("a channel"))
    }

    /// TLS 2 through the relay's end of a channel.
    async fn tls(&self, channel: ChannelStream, alpn: &str) -> TlsStream<ChannelStream> {
        let config = pki::tls::client(&self.client, &[alpn], &Clock::new());
        let connector = TlsConnector::from(config.expect("a configuration"));
        let name = ServerName::try_from("localhost").expect("a name");
        connector.connect(name, channel).await.expect("TLS 2")
    }
}

/// Serves `channel` as a gateway does.
async fn serve_one(
    peers: &Peers,
    audit: &Audit,
    channel: ChannelStream,
    is_one_too_many: bool,
) -> Result<(), Error> {
    let (draining, stop) = (Scope::new("draining"), Scope::new("stop"));
    let cluster = http::Cluster {
        token: Path::new("/nonexistent/token").to_owned(),
        ca: Path::new("/nonexistent/ca.crt").to_owned(),
        api: None,
    };
    let record = audit.begin(&peers.identity.gateway_id);
    let context = Context {
        identity: &peers.identity,
        cluster: &cluster,
        targets: &Targets::new(watch::channel(Arc::default()).1),
        draining: &draining,
        stop: &stop,
        session_ok: &Notify::new(),
        session: record.session(),
        is_one_too_many,
    };
    serve(channel, context).await
}

async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(SOON, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what} did not happen"),
    }
}

#[tokio::test]
async fn a_panicking_session_never_looks_complete() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.expect("a port");
    let peers = Peers::new(listener.local_addr().expect("an address")).await;
    let (peers, audit) = (Arc::new(peers), Audit::default());
    for alpn in ["infisical-tcp-proxy", status::ALPN] {
        let (near, far) = peers.channel().await;
        let sessions = Scope::new("sessions");
        let panic = Arc::new(Notify::new());
        let session = {
            let (peers, audit) = (Arc::clone(&peers), audit.clone());
            async move {
                let _ = serve_one(&peers, &audit, far, false).await;
            }
        };
        sessions.spawn("session", PANIC.scope(Arc::clone(&panic), session));

        let mut client = SecureStream::new(soon("TLS 2", peers.tls(near, alpn)).await);
        if alpn == status::ALPN {
            let reached = soon("the status", status::receive(&mut client)).await;
            reached.expect("a status").expect("reached");
        }
        let (mut target, _) = soon("the target", listener.accept()).await.expect("open");
        let mut bytes = [0; 4];
        client.write_all(b"half").await.expect("written");
        client.flush().await.expect("written");
        soon("the upload", target.read_exact(&mut bytes))
            .await
            .expect("bytes");
        target.write_all(b"some").await.expect("written");
        soon("the answer", client.read_exact(&mut bytes))
            .await
            .expect("bytes");

        panic.notify_one();
        let mut rest = Vec::new();
        let end = soon("the client's end", client.read_to_end(&mut rest)).await;
        let error = end.expect_err("a fatal alert").to_string();
        assert!(error.contains("reports"), "{alpn}: {error}");
        let end = soon("the target's end", target.read_to_end(&mut rest)).await;
        let kind = end.expect_err("a reset").kind();
        assert_eq!(kind, std::io::ErrorKind::ConnectionReset, "{alpn}");
        assert_eq!(rest, b"");
        assert!(sessions.finish(SOON).await);
        assert!(audit.live().is_empty(), "the panic ended the session");
    }
}

/// The client hears why, and a check of the gateway is answered.
#[tokio::test]
async fn one_session_too_many_is_refused() {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let peers = Peers::new(nowhere).await;
    let audit = Audit::default();
    let (near, far) = peers.channel().await;
    let serving = serve_one(&peers, &audit, far, true);
    let asking = async {
        let mut client = SecureStream::new(peers.tls(near, status::ALPN).await);
        let received = status::receive(&mut client).await;
        received.expect("a status").expect_err("no place")
    };
    let (served, told) = soon("the answer", async { tokio::join!(serving, asking) }).await;
    assert!(matches!(served, Err(Error::TooManySessions)), "{served:?}");
    assert_eq!(told.class, status::Class::Refused);
    let reason = "the gateway has as many sessions as it accepts";
    assert_eq!(told.reason, reason);

    let (near, far) = peers.channel().await;
    let serving = serve_one(&peers, &audit, far, true);
    let asking = async {
        let mut client = peers.tls(near, "infisical-ping").await;
        let mut answer = [0; 4];
        client.read_exact(&mut answer).await.expect("an answer");
        answer
    };
    let (_, answer) = soon("the answer", async { tokio::join!(serving, asking) }).await;
    assert_eq!(&answer, b"PONG");
}

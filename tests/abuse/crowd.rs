//! Many honest peers behind one address: a platform or a load balancer with 200 sessions each
//! second, and 2000 gateways that reconnect at once. None of them may be refused.

use std::borrow::Cow;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use infisical_runtime::secret::Secret;
use infisical_ssh::cert::HostPolicy;
use infisical_ssh::client;
use infisical_ssh::keys::{self, CertifiedKey};
use ssh_key::certificate::{Builder, CertType};
use ssh_key::{Algorithm, Certificate, PrivateKey};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::lab::{Lab, RELAY};
use crate::support::loopback;
use crate::support::process::Process;
use crate::support::session::echoes;
use crate::support::soon;
use crate::support::ssh_ca::SshKey;
use crate::support::targets::Target;

/// Between two sessions.
const SESSION_EVERY: Duration = Duration::from_millis(5);
const SESSIONS: usize = 2000;
/// Gateways by the library of this program.
const GATEWAYS: usize = 2000;
/// Gateways with the algorithms of deployed ones, by another library.
const DEPLOYED_GATEWAYS: usize = 200;
/// Handshakes that are under way at once: below what one source may have, 448, of which a busy
/// relay counts many for a moment longer than a gateway.
const AT_ONCE: usize = 200;
/// The same of gateways by the other library, which takes much longer for an exchange than a relay.
const DEPLOYED_AT_ONCE: usize = 40;
/// The same of a crowd that knows no patience: those that are too many try again.
const ALL_AT_ONCE: usize = 2000;
/// Between two tries of one gateway, in milliseconds at most.
const BACKOFF_MS: u64 = 2000;

/// How it went, for the table.
pub(crate) struct Outcome {
    pub(crate) counts: String,
    pub(crate) time: Duration,
}

/// 200 sessions each second from one address, each with an echo; fewer where this machine is too
/// busy for them.
pub(crate) async fn sessions(lab: &Lab, _: &Process) -> Outcome {
    let echo = Target::echo(lab.host).await;
    let way = Arc::new(lab.way(echo.address));
    let begin = Instant::now();
    let mut pause = tokio::time::interval(SESSION_EVERY);
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for _ in 0..SESSIONS {
        pause.tick().await;
        let permit = Arc::clone(&permits).acquire_owned().await;
        let way = Arc::clone(&way);
        tasks.spawn(async move {
            let mut stream = way.tcp().await.expect("a session is served");
            echoes(&mut stream, b"crowd").await.expect("its echo");
            drop(permit);
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a session");
    }
    let time = begin.elapsed();
    let counts = format!("{SESSIONS} sessions, {} each second", rate(SESSIONS, time));
    Outcome { counts, time }
}

/// Gateways that connect from one address and stay.
pub(crate) async fn gateways(lab: &Lab, relay: &Process) -> Outcome {
    own_gateways(lab, relay, AT_ONCE).await
}

/// The same in one moment, as after a failure of the network. Some find no place for their
/// handshakes and connect again.
pub(crate) async fn storm(lab: &Lab, relay: &Process) -> Outcome {
    own_gateways(lab, relay, ALL_AT_ONCE).await
}

async fn own_gateways(lab: &Lab, relay: &Process, at_once: usize) -> Outcome {
    let credentials = Arc::new(Credentials::new(lab, GATEWAYS));
    connect(lab, relay, (GATEWAYS, at_once), move |number, stream| {
        let config = credentials.config(number);
        async move {
            let (reader, writer) = stream.into_split();
            let session = client::connect(reader, writer, &config).await;
            session.map_err(|error| error.to_string())
        }
    })
    .await
}

/// The same with the algorithms of deployed gateways.
pub(crate) async fn deployed_gateways(lab: &Lab, relay: &Process) -> Outcome {
    let credentials = Arc::new(Credentials::new(lab, DEPLOYED_GATEWAYS));
    let preferred = russh::Preferred {
        kex: Cow::Borrowed(&[russh::kex::DH_G14_SHA256]),
        cipher: Cow::Borrowed(&[russh::cipher::AES_128_CTR]),
        mac: Cow::Borrowed(&[russh::mac::HMAC_SHA256]),
        host_key_certificates: Cow::Borrowed(&[Algorithm::Ecdsa {
            curve: ssh_key::EcdsaCurve::NistP256,
        }]),
        ..russh::Preferred::default()
    };
    let config = Arc::new(russh::client::Config {
        preferred,
        ..russh::client::Config::default()
    });
    let counts = (DEPLOYED_GATEWAYS, DEPLOYED_AT_ONCE);
    connect(lab, relay, counts, move |number, stream| {
        let (config, credentials) = (Arc::clone(&config), Arc::clone(&credentials));
        async move {
            let handle = russh::client::connect_stream(config, stream, Trusting).await;
            let mut handle = handle.expect("a key exchange");
            let (key, certificate) = credentials.pair(number);
            let key = Arc::new(key.clone());
            let outcome = handle.authenticate_openssh_cert(id(number), key, certificate.clone());
            assert!(outcome.await.expect("an answer").success());
            Ok(handle)
        }
    })
    .await
}

/// It is not the relay that is judged here.
struct Trusting;

impl russh::client::Handler for Trusting {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        _: &russh::keys::PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

/// Has `count` gateways connect from one address, `at_once` of them at a time; all stay until the
/// last has. Where they are more than may shake hands at once, those that fail try again; else none
/// may fail.
async fn connect<F, S>(
    lab: &Lab,
    relay: &Process,
    (count, at_once): (usize, usize),
    handshake: impl Fn(usize, TcpStream) -> F + Send + Sync + 'static,
) -> Outcome
where
    F: Future<Output = Result<S, String>> + Send + 'static,
    S: Send + 'static,
{
    let (from, to) = (loopback::address(), lab.host);
    let permits = Arc::new(Semaphore::new(at_once));
    let handshake = Arc::new(handshake);
    let again = Arc::new(AtomicUsize::new(0));
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..count {
        let permit = Arc::clone(&permits).acquire_owned().await;
        let (handshake, again) = (Arc::clone(&handshake), Arc::clone(&again));
        tasks.spawn(async move {
            let session = loop {
                let error = match tcp(from, to).await {
                    Ok(stream) => match handshake(number, stream).await {
                        Ok(session) => break session,
                        Err(error) => error,
                    },
                    Err(error) => error.to_string(),
                };
                assert!(at_once > AT_ONCE, "a gateway is not served: {error}");
                again.fetch_add(1, Ordering::Relaxed);
                let jitter = infisical_runtime::backoff::random() % BACKOFF_MS;
                tokio::time::sleep(Duration::from_millis(jitter)).await;
            };
            drop(permit);
            session
        });
    }
    let mut sessions = Vec::new();
    while let Some(session) = soon("a gateway", tasks.join_next()).await {
        sessions.push(session.expect("no panic"));
    }
    let time = begin.elapsed();
    assert_eq!(sessions.len(), count);
    // Those that find no place have failed, and some that come again meanwhile are refused.
    let is_refused = relay.output().contains("too many failed handshakes");
    assert!(!is_refused || at_once > AT_ONCE, "refused by the budget");
    let (again, rate) = (again.load(Ordering::Relaxed), rate(count, time));
    let counts = format!("{count} gateways, {rate} each second, {again} tried again");
    Outcome { counts, time }
}

async fn tcp(from: Ipv4Addr, to: Ipv4Addr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((from, 0).into())?;
    let stream = socket.connect(SocketAddr::from((to, 2222))).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn rate(count: usize, time: Duration) -> usize {
    count * 1000 / usize::try_from(time.as_millis()).expect("short").max(1)
}

/// Of many gateways: one key, and a certificate for each.
struct Credentials {
    key: PrivateKey,
    certificates: Vec<Certificate>,
    host: HostPolicy,
}

impl Credentials {
    fn new(lab: &Lab, count: usize) -> Self {
        let key = |key: &SshKey| {
            keys::parse_private_key(&Secret::new(key.private())).expect("a private key")
        };
        let authority = key(&lab.user_ca.key);
        let key = key(&SshKey::generate(lab.dir(), "crowd", "ed25519"));
        let ca = keys::parse_public_key(&lab.host_ca.key.public).expect("a public key");
        let principal = lab.principal();
        let certify = |number| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("now");
            let (since, until) = (now.as_secs() - 300, now.as_secs() + 86_400);
            let public = key.public_key().clone();
            let mut builder = Builder::new([7; 16], public, since, until).expect("a builder");
            builder.cert_type(CertType::User).expect("a type");
            builder.key_id(format!("client-{RELAY}")).expect("a key id");
            builder.valid_principal(id(number)).expect("a principal");
            builder.sign(&authority).expect("a certificate")
        };
        Self {
            certificates: (0..count).map(certify).collect(),
            host: HostPolicy { ca, principal },
            key: key.clone(),
        }
    }

    fn pair(&self, number: usize) -> (&PrivateKey, &Certificate) {
        (&self.key, &self.certificates[number])
    }

    fn config(&self, number: usize) -> client::Config {
        let (key, certificate) = self.pair(number);
        let identity = CertifiedKey::try_new(key, certificate.clone()).expect("a pair");
        client::Config::new(id(number), identity, self.host.clone())
    }
}

fn id(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

//! Client and server against each other over an in-memory pipe.

use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use futures_util::future::join_all;
use ssh_key::PrivateKey;
use ssh_key::certificate::{Builder, CertType};
use ssh_key::private::Ed25519Keypair;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::cert::{self, HostPolicy, UserPolicy};
use super::keys::CertifiedKey;
use super::{Error, client, server};
use crate::clock::Clock;

const HOST: &str = "relay.test:2222";
const USER: &str = "gateway-1";
const LIMIT: Duration = Duration::from_secs(20);

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

fn certified(subject: u8, ca: u8, kind: CertType, key_id: &str, principal: &str) -> CertifiedKey {
    with_principals(subject, ca, kind, key_id, &[principal])
}

fn with_principals(
    subject: u8,
    ca: u8,
    kind: CertType,
    key_id: &str,
    principals: &[&str],
) -> CertifiedKey {
    let public = key(subject).public_key().clone();
    let mut builder = Builder::new([7; 16], public, 0, u64::MAX - 1).expect("a builder");
    builder.cert_type(kind).expect("a type");
    builder.key_id(key_id).expect("a key id");
    for principal in principals {
        builder.valid_principal(*principal).expect("a principal");
    }
    CertifiedKey::try_new(&key(subject), builder.sign(&key(ca)).expect("signed")).expect("a pair")
}

fn client_config() -> client::Config {
    client::Config::new(
        USER.to_owned(),
        certified(3, 2, CertType::User, "client-relay-1", USER),
        HostPolicy {
            ca: key(1).public_key().clone(),
            principal: HOST.to_owned(),
        },
    )
}

fn server_config() -> server::Config {
    server::Config::new(
        certified(4, 1, CertType::Host, "relay-server", HOST),
        UserPolicy {
            ca: key(2).public_key().clone(),
            key_id: "client-relay-1".to_owned(),
        },
    )
}

type Pair = (
    Result<client::Session, Error>,
    Result<server::Session, Error>,
);

async fn pair(client: &client::Config, server: &server::Config) -> Pair {
    let (a, b) = tokio::io::duplex(64 * 1024);
    let (near, far) = (tokio::io::split(a), tokio::io::split(b));
    tokio::join!(
        client::connect(near.0, near.1, client),
        server::accept(far.0, far.1, server)
    )
}

fn originator() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 40_000))
}

async fn good_pair() -> (client::Session, server::Session) {
    let (client, server) = pair(&client_config(), &server_config()).await;
    (client.expect("a client"), server.expect("a server"))
}

#[tokio::test]
async fn each_side_uses_its_own_clock() {
    let long_ago = || UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    let certified_until = |subject, ca, kind, id, principal| {
        let public = key(subject).public_key().clone();
        let mut builder = Builder::new([7; 16], public, 0, 1_700_000_000).expect("a builder");
        builder.cert_type(kind).expect("a type");
        builder.key_id(id).expect("a key id");
        builder.valid_principal(principal).expect("a principal");
        CertifiedKey::try_new(&key(subject), builder.sign(&key(ca)).expect("signed"))
            .expect("a pair")
    };
    let mut client = client_config();
    let mut server = server_config();
    client.identity = certified_until(3, 2, CertType::User, "client-relay-1", USER);
    server.identity = certified_until(4, 1, CertType::Host, "relay-server", HOST);
    let (refused, _) = pair(&client, &server).await;
    assert!(matches!(refused, Err(Error::Certificate(_))), "{refused:?}");

    client.clock = Clock::showing(long_ago);
    let (_, refused) = pair(&client, &server).await;
    let refused = refused.expect_err("by the server");
    assert!(
        matches!(refused, Error::Certificate(cert::Error::Expired(_))),
        "{refused:?}"
    );

    server.clock = Clock::showing(long_ago);
    let (client, server) = pair(&client, &server).await;
    client.expect("believes the server");
    server.expect("believes the client");
}

#[tokio::test]
async fn channel_carries_both_ways_and_half_closes() {
    let (client, server) = good_pair().await;
    assert_eq!(server.subject(), USER);
    let (opened, accepted) =
        tokio::join!(server.open(("localhost", 0), originator()), client.accept());
    let (mut near, mut far) = (opened.expect("opened"), accepted.expect("accepted"));

    near.write_all(b"question").await.expect("written");
    near.shutdown().await.expect("half-closed");
    let mut question = String::new();
    far.read_to_string(&mut question).await.expect("ends");
    assert_eq!(question, "question");

    let long = vec![0x5a_u8; 5 * 1024 * 1024];
    let (sent, received) = tokio::join!(
        async {
            far.write_all(&long).await?;
            far.shutdown().await
        },
        async {
            let mut all = Vec::new();
            near.read_to_end(&mut all).await.map(|_| all)
        }
    );
    sent.expect("sent");
    assert!(received.expect("received") == long);
}

#[tokio::test]
async fn session_end_does_not_overtake_data() {
    const LONG: Duration = Duration::from_secs(60);
    let (client, server) = good_pair().await;
    let (opened, accepted) =
        tokio::join!(server.open(("localhost", 0), originator()), client.accept());
    let (mut near, mut far) = (opened.expect("opened"), accepted.expect("accepted"));
    let close_wait = far.close_wait();
    far.write_all(b"the last bytes").await.expect("written");
    far.shutdown().await.expect("half-closed");
    drop(far);
    let ending = async {
        close_wait.wait(LONG).await;
        client.close("going away").await;
    };
    let reading = async {
        let mut words = String::new();
        // Still open, so this does not fail.
        near.write_all(b"and an answer").await.expect("written");
        near.read_to_string(&mut words).await.expect("an end");
        drop(near);
        words
    };
    let ((), words) = tokio::join!(ending, reading);
    assert_eq!(words, "the last bytes");
}

#[tokio::test(start_paused = true)]
async fn unread_data_does_not_delay_close_wait() {
    const LONG: Duration = Duration::from_secs(60);
    let (client, server) = good_pair().await;
    let (opened, accepted) =
        tokio::join!(server.open(("localhost", 0), originator()), client.accept());
    let (mut near, mut far) = (opened.expect("opened"), accepted.expect("accepted"));
    near.write_all(&vec![7; 256 * 1024])
        .await
        .expect("the window");
    // The first one may overtake what is queued, but takes it along.
    assert!(server.ping(LIMIT).await && server.ping(LIMIT).await);
    far.read_exact(&mut [0]).await.expect("a byte of all");
    far.shutdown().await.expect("half-closed");
    let close_wait = far.close_wait();
    drop(far);
    let writing = async {
        near.write_all(b"more").await.expect("taken");
        drop(near);
    };
    tokio::join!(writing, close_wait.wait(LONG));
}

#[tokio::test]
async fn cut_channel_is_closed_at_once() {
    let (client, server) = good_pair().await;
    let (opened, accepted) =
        tokio::join!(server.open(("localhost", 0), originator()), client.accept());
    let (near, far) = (opened.expect("opened"), accepted.expect("accepted"));
    let close_wait = far.close_wait();
    drop(far);
    close_wait.wait(Duration::MAX).await;
    write_until_told(near).await;
}

#[tokio::test]
async fn client_is_its_certificates_first_principal() {
    let principals = ["gateway-9", USER];
    let identity = with_principals(3, 2, CertType::User, "client-relay-1", &principals);
    let config = client::Config {
        identity,
        ..client_config()
    };
    let (client, server) = pair(&config, &server_config()).await;
    assert_eq!(server.expect("a server").subject(), "gateway-9");
    drop(client);
}

#[tokio::test]
async fn disconnect_message_reaches_the_other_side() {
    let (client, server) = good_pair().await;
    assert!(server.ping(LIMIT).await);
    server.close("the relay is going away").await;
    assert!(client.accept().await.is_none());
    let end = client.take_end();
    assert!(
        matches!(&end, Error::Disconnected { description, .. } if description.contains("going away")),
        "{end:?}"
    );

    let (client, server) = good_pair().await;
    client.close("going away").await;
    tokio::time::timeout(LIMIT, server.ended())
        .await
        .expect("the server notices");
    assert!(server.is_ended());
    assert!(!server.ping(LIMIT).await);
}

#[tokio::test]
async fn busy_writers_do_not_delay_disconnect() {
    let (client, server) = good_pair().await;
    let (mut writers, mut readers) = (Vec::new(), Vec::new());
    for _ in 0..16 {
        let (opened, accepted) =
            tokio::join!(server.open(("localhost", 0), originator()), client.accept());
        let (mut near, mut far) = (opened.expect("opened"), accepted.expect("accepted"));
        writers.push(async move {
            let piece = vec![7; 32 * 1024];
            let mut written = 0;
            while let Ok(bytes) = near.write(&piece).await {
                written += bytes;
            }
            written
        });
        readers.push(async move {
            let mut all = Vec::new();
            let _ = far.read_to_end(&mut all).await;
            all.len()
        });
    }
    let closing = async {
        // By now the writing goes on.
        assert!(server.ping(LIMIT).await);
        server.close("going away").await;
    };
    let (written, read, ()) = tokio::join!(join_all(writers), join_all(readers), closing);
    let end = client.take_end();
    assert!(
        matches!(&end, Error::Disconnected { description, .. } if description.contains("going away")),
        "{end:?}"
    );
    assert_eq!(read, written, "all that was taken has gone");
}

#[tokio::test]
async fn a_dropped_session_ends_the_other_side() {
    let (client, server) = good_pair().await;
    drop(client);
    tokio::time::timeout(LIMIT, server.ended())
        .await
        .expect("the server notices");
    let (client, server) = good_pair().await;
    drop(server);
    let accepted = tokio::time::timeout(LIMIT, client.accept())
        .await
        .expect("the client notices");
    assert!(accepted.is_none());
}

#[tokio::test]
async fn unaccepted_channel_is_refused() {
    let (client, server) = good_pair().await;
    client.stop_accepting();
    let refused = server
        .open(("localhost", 0), originator())
        .await
        .expect_err("refused");
    assert!(matches!(refused, Error::ChannelRefused(_)), "{refused:?}");
}

#[tokio::test]
async fn wrong_server_certificate_is_refused() {
    let identity = certified(4, 9, CertType::Host, "relay-server", HOST);
    let bad = server::Config {
        identity,
        ..server_config()
    };
    let (client, server) = pair(&client_config(), &bad).await;
    let error = client.expect_err("another CA");
    assert!(
        matches!(error, Error::Certificate(cert::Error::WrongCa { .. })),
        "{error:?}"
    );
    assert!(server.is_err());
}

#[tokio::test]
async fn wrong_client_certificate_is_refused() {
    for identity in [
        certified(3, 9, CertType::User, "client-relay-1", USER),
        certified(3, 1, CertType::User, "client-relay-1", USER),
        certified(3, 2, CertType::User, "client-relay-2", USER),
        certified(3, 2, CertType::User, "client-relay-1", "gateway-2"),
    ] {
        let bad = client::Config {
            identity,
            ..client_config()
        };
        let (client, server) = pair(&bad, &server_config()).await;
        let error = client.expect_err("refused");
        assert!(matches!(error, Error::AuthenticationRefused), "{error:?}");
        let error = server.expect_err("refused");
        assert!(matches!(error, Error::Certificate(_)), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn mute_peer_is_given_up_in_time() {
    let (silent, end) = tokio::io::duplex(1024);
    let (reader, writer) = tokio::io::split(end);
    let error = client::connect(reader, writer, &client_config())
        .await
        .expect_err("silence");
    assert!(matches!(error, Error::HandshakeTimedOut(_)), "{error:?}");
    drop(silent);
    let (silent, end) = tokio::io::duplex(1024);
    let (reader, writer) = tokio::io::split(end);
    let error = server::accept(reader, writer, &server_config())
        .await
        .expect_err("silence");
    assert!(matches!(error, Error::HandshakeTimedOut(_)), "{error:?}");
    drop(silent);
}

/// Writes until it fails; a writer that is never told would wait forever.
async fn write_until_told<W: tokio::io::AsyncWrite + Unpin>(mut writer: W) {
    let block = vec![0; 64 * 1024];
    let told = async { while writer.write_all(&block).await.is_ok() {} };
    tokio::time::timeout(LIMIT, told)
        .await
        .expect("told that no one reads");
}

#[tokio::test]
async fn writer_sees_the_other_sides_close() {
    let (client, server) = good_pair().await;
    let (opened, accepted) =
        tokio::join!(server.open(("localhost", 0), originator()), client.accept());
    drop(accepted.expect("accepted"));
    write_until_told(opened.expect("opened")).await;

    let (opened, accepted) =
        tokio::join!(server.open(("localhost", 0), originator()), client.accept());
    drop(opened.expect("opened"));
    write_until_told(accepted.expect("accepted")).await;
}

#[tokio::test]
async fn waiting_writer_sees_the_end() {
    for whole_session in [false, true] {
        let (client, server) = good_pair().await;
        let (opened, accepted) =
            tokio::join!(server.open(("localhost", 0), originator()), client.accept());
        let (opened, accepted) = (opened.expect("opened"), accepted.expect("accepted"));
        let writing = write_until_told(opened);
        let ending = async {
            // Enough turns for the writer to fill what it may.
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
            drop(accepted);
            if whole_session {
                client.close("going away").await;
            }
        };
        tokio::join!(writing, ending);
    }
}

/// A client that proves an RSA certificate with SHA-1.
struct OldClient;

struct OldSigner(PrivateKey);

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Old(#[from] russh::SendError);

impl russh::Signer for OldSigner {
    type Error = Old;

    async fn auth_sign(
        &mut self,
        _: &russh::keys::agent::AgentIdentity,
        _: Option<ssh_key::HashAlg>,
        mut data: Vec<u8>,
    ) -> Result<Vec<u8>, Old> {
        data.extend(sign_with_sha_1(&self.0, &data));
        Ok(data)
    }
}

/// The signature as an SSH `string` (RFC 4253 §6.6).
fn sign_with_sha_1(key: &PrivateKey, data: &[u8]) -> Vec<u8> {
    use russh::keys::signature::Signer as _;
    let rsa = key.key_data().rsa().expect("an RSA key");
    let signature: ssh_key::Signature = (rsa, None).try_sign(data).expect("signed");
    let blob = Vec::<u8>::try_from(signature).expect("encoded");
    let length = u32::try_from(blob.len()).expect("short");
    [&length.to_be_bytes(), blob.as_slice()].concat()
}

impl russh::client::Handler for OldClient {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        _: &russh::keys::PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

#[tokio::test]
async fn a_signature_with_sha_1_proves_nothing() {
    let mut rng = ssh_key::rand_core::UnwrapErr(ssh_key::getrandom::SysRng);
    let key = PrivateKey::random(&mut rng, ssh_key::Algorithm::Rsa { hash: None }).expect("a key");
    let mut builder =
        Builder::new([7; 16], key.public_key().clone(), 0, u64::MAX - 1).expect("a builder");
    builder.cert_type(CertType::User).expect("a type");
    builder.key_id("client-relay-1").expect("a key id");
    builder.valid_principal(USER).expect("a principal");
    let certificate = builder.sign(&self::key(2)).expect("signed");

    // The same key and certificate are believed with SHA-2.
    let identity = CertifiedKey::try_new(&key, certificate.clone()).expect("a pair");
    let modern = client::Config {
        identity,
        ..client_config()
    };
    let (client, server) = pair(&modern, &server_config()).await;
    assert_eq!(server.expect("a server").subject(), USER);
    drop(client);

    let (near, far) = tokio::io::duplex(64 * 1024);
    let engine = russh::client::Config {
        preferred: russh::Preferred {
            host_key_certificates: vec![ssh_key::Algorithm::Ed25519].into(),
            ..russh::Preferred::DEFAULT
        },
        ..Default::default()
    };
    let old = async {
        let mut handle = russh::client::connect_stream(engine.into(), near, OldClient)
            .await
            .expect("a key exchange");
        let outcome = handle
            .authenticate_certificate_with(USER, certificate, None, &mut OldSigner(key))
            .await;
        assert!(!outcome.is_ok_and(|outcome| outcome.success()));
    };
    let config = server_config();
    let (reader, writer) = tokio::io::split(far);
    let ((), server) = tokio::join!(old, server::accept(reader, writer, &config));
    let error = server.expect_err("refused");
    assert!(matches!(error, Error::NotAuthenticated), "{error:?}");
}

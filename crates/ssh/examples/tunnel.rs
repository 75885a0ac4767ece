//! A client and a server in one process, and one channel between them.

use std::error::Error;
use std::net::SocketAddr;

use infisical_ssh::cert::{HostPolicy, UserPolicy};
use infisical_ssh::keys::CertifiedKey;
use infisical_ssh::{client, server};
use ssh_key::PrivateKey;
use ssh_key::certificate::{Builder, CertType};
use ssh_key::private::Ed25519Keypair;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A key for this example; a program reads its keys from files.
fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

/// A key with the certificate that `ca` signed for `principal`.
fn certified(
    key: &PrivateKey,
    ca: &PrivateKey,
    kind: CertType,
    principal: &str,
) -> Result<CertifiedKey, Box<dyn Error>> {
    let mut builder = Builder::new([7; 16], key.public_key().clone(), 0, u64::MAX - 1)?;
    builder.cert_type(kind)?;
    builder.key_id("example")?;
    builder.valid_principal(principal)?;
    Ok(CertifiedKey::try_new(key, builder.sign(ca)?)?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let ca = key(1);
    let host = certified(&key(2), &ca, CertType::Host, "server.example")?;
    let user = certified(&key(3), &ca, CertType::User, "alice")?;
    let client = client::Config::new(
        "alice".to_owned(),
        user,
        HostPolicy {
            ca: ca.public_key().clone(),
            principal: "server.example".to_owned(),
        },
    );
    let server = server::Config::new(
        host,
        UserPolicy {
            ca: ca.public_key().clone(),
            key_id: "example".to_owned(),
        },
    );

    // A TCP connection in a real program.
    let (near, far) = tokio::io::duplex(64 * 1024);
    let ((near_in, near_out), (far_in, far_out)) = (tokio::io::split(near), tokio::io::split(far));
    let (client, server) = tokio::join!(
        client::connect(near_in, near_out, &client),
        server::accept(far_in, far_out, &server)
    );
    let (client, server) = (client?, server?);

    // Either side opens channels; here the server does, and the client accepts.
    let originator = SocketAddr::from(([192, 0, 2, 1], 40_000));
    let (opened, accepted) = tokio::join!(
        server.open(("db.internal", 5432), originator),
        client.accept()
    );
    let (mut opened, mut accepted) = (opened?, accepted.ok_or("the session ended")?);
    opened.write_all(b"hello").await?;
    opened.shutdown().await?;
    let mut received = String::new();
    accepted.read_to_string(&mut received).await?;
    assert_eq!(received, "hello");
    Ok(())
}

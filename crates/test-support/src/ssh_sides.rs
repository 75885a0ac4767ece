//! Our engine's two roles in the test's own process, with keys, authorities and certificates of any
//! kind, so that a foreign peer can be set against either.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use infisical_runtime::secret::Secret;
use infisical_ssh::cert::{HostPolicy, UserPolicy};
use infisical_ssh::keys::{self, CertifiedKey};
use infisical_ssh::{Error, Keepalive, client, server};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

use super::openssh::current_user;
use super::ssh_ca::{SshCa, SshCert, SshKey};
use super::{PATIENCE, loopback, soon};

/// The relay of these tests; user certificates are for it.
const RELAY: &str = "peer-relay";
/// A dead peer is not what these tests are about: a busy machine must not make one.
pub const PATIENT: Keepalive = Keepalive {
    interval: Duration::from_secs(7),
    unanswered: 30,
};

/// Our client's side over a connection.
pub async fn connect(stream: TcpStream, config: &client::Config) -> Result<client::Session, Error> {
    let (reader, writer) = stream.into_split();
    client::connect(reader, writer, config).await
}

/// Our server's side over a connection.
pub async fn accept(stream: TcpStream, config: &server::Config) -> Result<server::Session, Error> {
    let (reader, writer) = stream.into_split();
    server::accept(reader, writer, config).await
}

/// A kind of key and of the signatures made with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// What `ssh-keygen -t` makes.
    pub key: &'static str,
    /// How an authority signs with it, where there is a choice.
    pub signature: Option<&'static str>,
    /// What the two sides agree on when a certificate of such a key proves itself.
    pub algorithm: &'static str,
}

/// Everything that protocol.md §2 accepts.
pub const KINDS: [Kind; 6] = [
    Kind {
        key: "ed25519",
        signature: None,
        algorithm: "ssh-ed25519-cert-v01@openssh.com",
    },
    Kind {
        key: "ecdsa-sha2-nistp256",
        signature: None,
        algorithm: "ecdsa-sha2-nistp256-cert-v01@openssh.com",
    },
    Kind {
        key: "ecdsa-sha2-nistp384",
        signature: None,
        algorithm: "ecdsa-sha2-nistp384-cert-v01@openssh.com",
    },
    Kind {
        key: "ecdsa-sha2-nistp521",
        signature: None,
        algorithm: "ecdsa-sha2-nistp521-cert-v01@openssh.com",
    },
    Kind {
        key: "rsa",
        signature: Some("rsa-sha2-256"),
        algorithm: "rsa-sha2-256-cert-v01@openssh.com",
    },
    Kind {
        key: "rsa",
        signature: Some("rsa-sha2-512"),
        algorithm: "rsa-sha2-512-cert-v01@openssh.com",
    },
];

/// A key and its certificate, in files.
#[derive(Debug, Clone)]
pub struct Certified {
    pub key: SshKey,
    pub certificate: PathBuf,
}

impl Certified {
    fn identity(&self) -> CertifiedKey {
        let line = std::fs::read_to_string(&self.certificate).expect("a certificate");
        let certificate = keys::parse_certificate(&line).expect("a certificate of ours");
        let key = keys::parse_private_key(&Secret::new(self.key.private())).expect("a key");
        CertifiedKey::try_new(&key, certificate).expect("a pair")
    }
}

/// Makes the keys of one test, each once, on an address that is the test's own.
pub struct Keyring {
    dir: TempDir,
    pub host: Ipv4Addr,
}

impl Default for Keyring {
    fn default() -> Self {
        Self::new()
    }
}

impl Keyring {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a directory"),
            host: loopback::address(),
        }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Listens where `ssh_as_gateway` dials.
    pub async fn listen(&self) -> TcpListener {
        let listener = TcpListener::bind((self.host, 2222)).await;
        listener.expect("the test's own address")
    }

    /// Two certified sides with keys and authorities of the given kinds.
    pub fn sides(&self, kinds: &Kinds) -> Sides {
        let host_ca = self.authority("host-ca", kinds.host_ca);
        let user_ca = self.authority("user-ca", kinds.user_ca);
        let user = current_user();
        let server = self.key("host", kinds.host);
        let certificate = SshCert::host(&format!("{}:2222", self.host));
        let host = host_ca.certify(&server, &certificate.signed_with(kinds.host_ca.signature));
        let client = self.key("user", kinds.user);
        let certificate = SshCert::user(RELAY, &user);
        let certified = user_ca.certify(&client, &certificate.signed_with(kinds.user_ca.signature));
        Sides {
            server: Certified {
                key: server,
                certificate: host,
            },
            client: Certified {
                key: client,
                certificate: certified,
            },
            host_ca: host_ca.key.public,
            user_ca: user_ca.key.public,
            principal: format!("{}:2222", self.host),
            user,
        }
    }

    fn authority(&self, name: &str, kind: Kind) -> SshCa {
        SshCa::with_key(self.dir(), self.key(name, kind))
    }

    fn key(&self, name: &str, kind: Kind) -> SshKey {
        let name = format!("{name}-{}", kind.key);
        let file = self.dir().join(&name);
        if !file.exists() {
            return SshKey::generate(self.dir(), &name, kind.key);
        }
        let public = std::fs::read_to_string(file.with_extension("pub")).expect("a public key");
        let public = public.trim().to_owned();
        SshKey { file, public }
    }
}

/// Which keys and authorities the two sides have.
#[derive(Debug, Clone, Copy)]
pub struct Kinds {
    pub host: Kind,
    pub host_ca: Kind,
    pub user: Kind,
    pub user_ca: Kind,
}

impl Default for Kinds {
    fn default() -> Self {
        let kind = KINDS[0];
        Self {
            host: kind,
            host_ca: kind,
            user: kind,
            user_ca: kind,
        }
    }
}

/// What the two sides of a connection need, whichever of them is ours.
#[derive(Debug, Clone)]
pub struct Sides {
    pub server: Certified,
    pub client: Certified,
    pub host_ca: String,
    pub user_ca: String,
    /// The principal of the host certificate.
    pub principal: String,
    /// The SSH user name: an unprivileged `sshd` knows only the user that runs the tests.
    pub user: String,
}

impl Sides {
    /// Our client.
    pub fn client_config(&self) -> client::Config {
        client::Config {
            keepalive: PATIENT,
            handshake: PATIENCE,
            ..client::Config::new(
                self.user.clone(),
                self.client.identity(),
                HostPolicy {
                    ca: keys::parse_public_key(&self.host_ca).expect("an authority"),
                    principal: self.principal.clone(),
                },
            )
        }
    }

    /// Our server.
    pub fn server_config(&self) -> server::Config {
        server::Config {
            keepalive: PATIENT,
            handshake: PATIENCE,
            ..server::Config::new(
                self.server.identity(),
                UserPolicy {
                    ca: keys::parse_public_key(&self.user_ca).expect("an authority"),
                    key_id: format!("client-{RELAY}"),
                },
            )
        }
    }
}

/// The next connection.
pub async fn next(listener: &TcpListener) -> TcpStream {
    let (stream, _) = soon("a connection", listener.accept())
        .await
        .expect("accepted");
    stream
}

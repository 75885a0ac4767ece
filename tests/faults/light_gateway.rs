//! Many gateways in one process: each an SSH peer of the relay with credentials of its own, which
//! ends TLS 2 itself and talks in place of a target. So two hundred of them cost the test little,
//! and the relay what it owes to two hundred.

use std::sync::Arc;

use infisical_runtime::scope::Scope;
use infisical_runtime::secret::Secret;
use infisical_ssh as ssh;
use infisical_ssh::cert::HostPolicy;
use infisical_ssh::client;
use infisical_ssh::keys::{self, CertifiedKey};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::fake_relay::acceptor;
use crate::support::soon;
use crate::support::x509::Pem;
use crate::talk;

/// Connected until dropped.
pub(crate) struct LightGateway {
    session: Arc<client::Session>,
    _task: JoinSet<()>,
}

impl LightGateway {
    /// Dials the relay that credentials G name.
    pub(crate) async fn connect(credentials: &Value) -> Self {
        let text = |pointer: &str| {
            let found = credentials.pointer(pointer).and_then(Value::as_str);
            found.unwrap_or_else(|| panic!("{pointer} is missing"))
        };
        let certificate = keys::parse_certificate(text("/ssh/clientCertificate"));
        let key = keys::parse_private_key(&Secret::new(text("/ssh/clientPrivateKey")));
        let identity = CertifiedKey::try_new(
            &key.expect("a key"),
            certificate.expect("a certificate of the platform"),
        );
        let ca = keys::parse_public_key(text("/ssh/serverCAPublicKey"));
        let host = text("/relayHost");
        let policy = HostPolicy {
            ca: ca.expect("a key"),
            principal: format!("{host}:2222"),
        };
        let config = client::Config::new(
            text("/gatewayId").to_owned(),
            identity.expect("a pair"),
            policy,
        );
        let dialled = async {
            let stream = TcpStream::connect((host, 2222)).await.expect("the relay");
            ssh::prepare(&stream);
            let (reader, writer) = stream.into_split();
            client::connect(reader, writer, &config).await
        };
        let session = soon("a tunnel", dialled).await.expect("a tunnel");
        let session = Arc::new(session);
        let leaf = Pem {
            certificate: text("/pki/serverCertificate").to_owned(),
            key: text("/pki/serverPrivateKey").to_owned(),
        };
        let tls = acceptor(
            (&leaf, text("/pki/clientCertificateChain")),
            &["infisical-tcp-proxy"],
        );
        let mut task = JoinSet::new();
        let accepting = Arc::clone(&session);
        task.spawn(async move {
            let sessions = Scope::new("sessions");
            while let Some(channel) = accepting.accept().await {
                let tls = tls.clone();
                sessions.spawn("session", async move {
                    // What goes wrong is the client's to report.
                    if let Ok(stream) = tls.accept(channel).await {
                        let _ = talk::answer(stream).await;
                    }
                });
            }
        });
        Self {
            session,
            _task: task,
        }
    }

    /// The relay still has it.
    pub(crate) fn is_connected(&self) -> bool {
        !self.session.is_ended()
    }
}

//! A relay and a gateway under a fake platform: every authority is the case's own, so every
//! certificate that they meet can be forged.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use infisical_runtime::secret::Secret;
use infisical_ssh::cert::HostPolicy;
use infisical_ssh::client;
use infisical_ssh::keys::{self, CertifiedKey};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::daemon::{GatewayCommand, RelayCommand};
use super::fake_platform::{Answer, FakePlatform};
use super::loopback;
use super::process::Process;
use super::session::Way;
use super::ssh_ca::{SshCa, SshCert, SshKey};
use super::x509::{GatewayPki, Leaf, RelayPki};

/// Name of the lab's relay.
pub const RELAY: &str = "lab-relay";
/// Name of the lab's gateway.
pub const GATEWAY: &str = "lab-gateway";
/// Id of the lab's gateway.
pub const GATEWAY_ID: &str = "6d1f0a3e-5c1b-4a53-9d57-3b7a0e1f2c4d";
/// The identity token of both; only the fake platform sees it.
pub const TOKEN: &str = "lab-identity-token-0123456789";

/// The relay's line once it can send clients to a gateway; the gateway's own may be a moment
/// earlier.
pub const GATEWAY_CONNECTED: &str = "gateway connected";

/// What the gateway asks for when it registers.
pub const REGISTER_GATEWAY: &str = "POST /api/v2/gateways";
/// What the relay asks for when it registers.
pub const REGISTER_RELAY: &str = "POST /api/v1/relays/register-org-relay";
/// The gateway's heartbeat.
pub const GATEWAY_HEARTBEAT: &str = "POST /api/v2/gateways/heartbeat";
/// The relay's heartbeat.
pub const RELAY_HEARTBEAT: &str = "POST /api/v1/relays/heartbeat-org-relay";

/// Authorities, a fake platform, and an address.
pub struct Lab {
    pub platform: FakePlatform,
    pub host: Ipv4Addr,
    /// Signs gateways' user certificates.
    pub user_ca: SshCa,
    /// Signs relays' host certificates.
    pub host_ca: SshCa,
    /// An authority that no one named.
    pub stranger: SshCa,
    pub relay_pki: RelayPki,
    pub gateway_pki: GatewayPki,
    pub gateway_id: String,
    /// The gateway's key.
    pub client_key: SshKey,
    /// The relay's key.
    pub server_key: SshKey,
    dir: TempDir,
}

impl Lab {
    /// Makes the authorities and lets the platform issue good credentials.
    pub async fn new() -> Self {
        Self::with_gateway_id(GATEWAY_ID).await
    }

    /// The same, with a gateway id of the case's choice.
    pub async fn with_gateway_id(gateway_id: &str) -> Self {
        Self::build(loopback::address(), gateway_id).await
    }

    /// The same at a given address.
    pub async fn at(host: Ipv4Addr) -> Self {
        Self::build(host, GATEWAY_ID).await
    }

    async fn build(host: Ipv4Addr, gateway_id: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let platform = FakePlatform::start(SocketAddr::from((host, 0))).await;
        let path = dir.path();
        let lab = Self {
            platform,
            host,
            user_ca: SshCa::new(path, "user-ca", "ed25519"),
            host_ca: SshCa::new(path, "host-ca", "ed25519"),
            stranger: SshCa::new(path, "stranger-ca", "ed25519"),
            relay_pki: RelayPki::new(),
            gateway_pki: GatewayPki::new(),
            gateway_id: gateway_id.to_owned(),
            client_key: SshKey::generate(path, "client", "ed25519"),
            server_key: SshKey::generate(path, "server", "ecdsa"),
            dir,
        };
        let answer = |what: &str, body: &Value| lab.platform.always(what, Answer::ok(body));
        answer(REGISTER_RELAY, &lab.relay_credentials());
        answer(REGISTER_GATEWAY, &lab.gateway_credentials());
        answer(GATEWAY_HEARTBEAT, &json!({"message": "ok"}));
        answer(RELAY_HEARTBEAT, &json!({"message": "ok"}));
        lab
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The principal of this lab's relay.
    pub fn principal(&self) -> String {
        format!("{}:2222", self.host)
    }

    /// Good credentials R.
    pub fn relay_credentials(&self) -> Value {
        let certificate = SshCert::host(&self.principal());
        json!({
            "pki": self.relay_pki.credentials(self.host),
            "ssh": {
                "serverCertificate": self.host_ca.certificate_line(&self.server_key, &certificate),
                "serverPrivateKey": self.server_key.private(),
                "clientCAPublicKey": self.user_ca.key.public,
            },
        })
    }

    /// Good credentials G.
    pub fn gateway_credentials(&self) -> Value {
        let certificate = SshCert::user(RELAY, &self.gateway_id);
        json!({
            "gatewayId": self.gateway_id,
            "relayHost": self.host.to_string(),
            "pki": self.gateway_pki.credentials(),
            "ssh": {
                "clientCertificate": self.user_ca.certificate_line(&self.client_key, &certificate),
                "clientPrivateKey": self.client_key.private(),
                "serverCAPublicKey": self.host_ca.key.public,
            },
        })
    }

    /// The relay's command line, with the token in its file.
    pub fn relay_command(&self) -> RelayCommand {
        let keys = format!("INFISICAL_TOKEN={TOKEN}\n");
        let url = self.platform.url();
        let mut command = RelayCommand::new(self.dir(), RELAY, self.host, &url, &keys);
        command.more.push("--log-level=debug".to_owned());
        command
    }

    /// The gateway's command line, with the token in its file.
    pub fn gateway_command(&self) -> GatewayCommand {
        let keys = format!("INFISICAL_TOKEN={TOKEN}\n");
        let url = self.platform.url();
        let mut command = GatewayCommand::new(self.dir(), GATEWAY, &url, RELAY, &keys);
        command.more.push("--log-level=debug".to_owned());
        command
    }

    /// A relay that serves.
    pub async fn relay(&self) -> Process {
        let relay = self.relay_command().spawn(self.dir());
        relay
            .wait_for_line("Relay server started successfully")
            .await;
        relay
    }

    /// A gateway whose tunnel is up, as `relay` sees it too.
    pub async fn gateway(&self, relay: &Process) -> Process {
        let mark = relay.mark();
        let gateway = self.gateway_command().spawn(self.dir());
        gateway.wait_for_line("Gateway started successfully").await;
        relay.wait_for_line_after(mark, GATEWAY_CONNECTED).await;
        gateway
    }

    /// A gateway called `id` that is nothing but its session with the relay.
    pub async fn bare_gateway(&self, id: &str) -> client::Session {
        let key = keys::parse_private_key(&Secret::new(self.client_key.private())).expect("a key");
        let certificate = SshCert::user(RELAY, id);
        let line = self
            .user_ca
            .certificate_line(&self.client_key, &certificate);
        let certificate = keys::parse_certificate(&line).expect("a certificate");
        let policy = HostPolicy {
            ca: keys::parse_public_key(&self.host_ca.key.public).expect("an authority"),
            principal: self.principal(),
        };
        let pair = CertifiedKey::try_new(&key, certificate).expect("a pair");
        let config = client::Config::new(id.to_owned(), pair, policy);
        let tcp = TcpStream::connect((self.host, 2222)).await;
        let (reader, writer) = tcp.expect("the port").into_split();
        let session = client::connect(reader, writer, &config).await;
        session.expect("a session")
    }

    /// A way to a target of another gateway, for a client of `organization`.
    pub fn way_of(&self, organization: &str, gateway_id: &str, to: (&str, u16)) -> Way {
        let relay = Leaf::relay_client(gateway_id).of(organization);
        let gateway = Leaf::gateway_client(gateway_id, to);
        Way {
            relay: self.relay_pki.clients.sign(&relay),
            gateway: self.gateway_pki.clients.sign(&gateway),
            ..self.way_by_name(to.0, to.1)
        }
    }

    /// A good way to `target`.
    pub fn way(&self, target: SocketAddr) -> Way {
        self.way_by_name(&target.ip().to_string(), target.port())
    }

    /// A good way to a target by name.
    pub fn way_by_name(&self, host: &str, port: u16) -> Way {
        let relay = Leaf::relay_client(&self.gateway_id);
        let gateway = Leaf::gateway_client(&self.gateway_id, (host, port));
        Way {
            relay_host: self.host,
            relay: self.relay_pki.clients.sign(&relay),
            relay_anchors: self.relay_pki.server_anchors(),
            gateway: self.gateway_pki.clients.sign(&gateway),
            gateway_anchors: self.gateway_pki.server_anchors(),
        }
    }
}

//! Platform, relay and gateway as processes, and the client's credentials to reach a target through
//! them.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use infisical_api::Client;
use infisical_api::types::{GatewayCredentials, OpenSession, RegisterGateway, SessionCredentials};
use infisical_config::proxy::Proxies;
use infisical_config::settings::{ApiBase, CustomHeaders};
use infisical_pki::dial::{GatewayDialer, RelayDialer};
use infisical_runtime::names::{GatewayName, RelayName, SSH_PORT, TLS_PORT};
use infisical_runtime::secret::Secret;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use crate::entrance::Entrance;
use crate::peers::wait_until_listens;
use crate::process::Process;
use crate::target::Target;
use crate::{delay, within};

/// Limit for each step of the start.
const DEADLINE: Duration = Duration::from_secs(30);
/// Where a relay is looked for.
const PORTS: [u16; 2] = [SSH_PORT, TLS_PORT];

/// What lies between gateway and relay.
#[derive(Clone, Copy)]
pub(crate) enum Between {
    Nothing,
    /// A delay of so much in each direction.
    Delay(Duration),
}

/// Platform, relay and gateway, as processes.
pub(crate) struct Stack {
    pub(crate) gateway: Process,
    pub(crate) relay: Process,
    relay_flags: Vec<(&'static str, String)>,
    relay_ssh: SocketAddr,
    _platform: Process,
    client: Client,
    token: Secret,
    _dir: tempfile::TempDir,
}

impl Stack {
    pub(crate) async fn start(between: Between) -> anyhow::Result<Self> {
        Self::start_with(between, &[]).await
    }

    /// The same with more flags of the relay.
    pub(crate) async fn start_with(
        between: Between,
        more_of_relay: &[(&'static str, &str)],
    ) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let path = |name: &str| dir.path().join(name).display().to_string();
        let host = free_loopback(&PORTS)?;
        let mut ssh = SocketAddr::new(host, SSH_PORT);
        if let Between::Delay(delay) = between {
            // Gateways know no other port: the line has the relay's address, and the relay another
            // one.
            let line = TcpListener::bind(ssh).await?;
            ssh.set_ip(free_loopback(&PORTS)?);
            delay::serve(line, ssh, delay);
        }
        let platform = program(
            &["platform", "start", "--listen", "127.0.0.1:0"],
            &[
                ("--state-dir", &path("platform")),
                ("--ready-file", &path("url")),
            ],
        )?;
        let url = wait_for_file(&dir.path().join("url")).await?;
        let url = url.trim();
        let client = Client::try_new(
            &ApiBase::parse(url)?,
            &CustomHeaders(Vec::new()),
            &Proxies::default(),
        )?;
        let token =
            Secret::new(fs::read_to_string(dir.path().join("platform/admin-token"))?.trim());
        let access = identity_token(&client, &token, "bench", &["gateway", "relay"]).await?;
        write_secret(&dir.path().join("token"), &access)?;
        let mut relay_flags = vec![
            ("--name", "bench".to_owned()),
            ("--host", host.to_string()),
            ("--ssh-listen", ssh.to_string()),
            ("--tls-listen", SocketAddr::new(host, TLS_PORT).to_string()),
            ("--domain", url.to_owned()),
            ("--token-file", path("token")),
        ];
        let more = more_of_relay.iter();
        relay_flags.extend(more.map(|(flag, value)| (*flag, (*value).to_owned())));
        let relay = start_relay(&relay_flags)?;
        wait_for_relay(&client, &token).await?;
        let gateway = program(
            &["gateway", "start", "bench"],
            &[
                ("--target-relay-name", "bench"),
                ("--domain", url),
                ("--token-file", &path("token")),
            ],
        )?;
        let stack = Self {
            gateway,
            relay,
            relay_flags,
            relay_ssh: ssh,
            _platform: platform,
            client,
            token,
            _dir: dir,
        };
        stack.wait_until_reachable().await?;
        Ok(stack)
    }

    /// The way to `target`, byte for byte.
    pub(crate) async fn entrance(&self, target: &Target) -> anyhow::Result<Entrance> {
        self.entrance_to(target.address).await
    }

    /// The same for a target that is another process.
    pub(crate) async fn entrance_to(&self, target: SocketAddr) -> anyhow::Result<Entrance> {
        let dialer = self.dialer(target, "infisical-tcp-proxy").await?;
        Ok(Entrance::Tunnel(Box::new(dialer)))
    }

    /// The way to the gateway's own answer to a ping.
    pub(crate) async fn pings(&self) -> anyhow::Result<GatewayDialer> {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        self.dialer(nowhere, "infisical-ping").await
    }

    async fn dialer(&self, target: SocketAddr, alpn: &str) -> anyhow::Result<GatewayDialer> {
        let credentials = self.credentials(target).await?;
        Ok(GatewayDialer::try_new(
            &credentials,
            &[alpn],
            self.client.clock(),
        )?)
    }

    /// A client's certificates for `target`.
    pub(crate) async fn credentials(
        &self,
        target: SocketAddr,
    ) -> anyhow::Result<SessionCredentials> {
        self.session(&GatewayName::try_new("bench")?, target).await
    }

    /// The way to the relay for clients of `gateway`, TLS 1 only.
    pub(crate) async fn relay_dialer(&self, gateway: &GatewayName) -> anyhow::Result<RelayDialer> {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let credentials = self.session(gateway, nowhere).await?;
        let (host, pki) = (&credentials.relay_host, &credentials.relay);
        Ok(RelayDialer::try_new(host, pki, self.client.clock())?)
    }

    async fn session(
        &self,
        gateway: &GatewayName,
        target: SocketAddr,
    ) -> anyhow::Result<SessionCredentials> {
        let request = OpenSession {
            target_host: target.ip().to_string(),
            target_port: target.port(),
        };
        let session = self.client.open_session(&self.token, gateway, &request);
        Ok(session.await?)
    }

    /// Credentials of one more gateway of the relay, which this bench plays.
    pub(crate) async fn register_gateway(
        &self,
        name: String,
    ) -> anyhow::Result<GatewayCredentials> {
        let token = identity_token(&self.client, &self.token, &name, &["gateway"]).await?;
        let request = RegisterGateway {
            relay_name: RelayName::try_new("bench")?,
            name: GatewayName::try_new(&name)?,
        };
        let token = Secret::new(token);
        let mut credentials = self.client.register_gateway(&token, &request).await?;
        credentials.name = Some(request.name);
        Ok(credentials)
    }

    /// Kills the relay and starts it again; returns once it listens.
    pub(crate) async fn restart_relay(&mut self) -> anyhow::Result<()> {
        self.relay.end();
        self.relay = start_relay(&self.relay_flags)?;
        wait_until_listens(self.relay_ssh).await
    }

    async fn wait_until_reachable(&self) -> anyhow::Result<()> {
        let end = Instant::now() + DEADLINE;
        loop {
            let attempt = async {
                let mut answer = String::new();
                let mut stream = self.pings().await?.dial(DEADLINE).await?;
                stream.read_to_string(&mut answer).await?;
                anyhow::Ok(())
            };
            match within("the first session", DEADLINE, attempt).await {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > end => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

/// The program that is measured.
fn program(command: &[&str], flags: &[(&str, &str)]) -> anyhow::Result<Process> {
    let mut program = Command::new(env!("CARGO_BIN_EXE_infisical"));
    program.args(command).arg("--log-level=error");
    for (flag, value) in flags {
        program.args([flag, value]);
    }
    Process::start(program)
}

fn start_relay(flags: &[(&'static str, String)]) -> anyhow::Result<Process> {
    let flags: Vec<_> = flags
        .iter()
        .map(|(flag, value)| (*flag, value.as_str()))
        .collect();
    program(&["relay", "start"], &flags)
}

/// A new identity's access token.
async fn identity_token(
    client: &Client,
    admin: &Secret,
    name: &str,
    roles: &[&str],
) -> anyhow::Result<String> {
    let identity: serde_json::Value = client
        .post(
            "creating an identity",
            "/v1/embedded/identities",
            Some(admin),
            &json!({"name": name, "method": "token", "roles": roles}),
        )
        .await?;
    let access = identity.get("accessToken").and_then(|token| token.as_str());
    Ok(access.context("no token")?.to_owned())
}

/// A gateway is refused for good when its relay is not known.
async fn wait_for_relay(client: &Client, token: &Secret) -> anyhow::Result<()> {
    let end = Instant::now() + DEADLINE;
    loop {
        let relays: Vec<infisical_api::types::Relay> = client
            .get("listing the relays", "/v1/embedded/relays", token)
            .await?;
        if !relays.is_empty() {
            return Ok(());
        }
        if Instant::now() > end {
            bail!("the relay did not register");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn wait_for_file(path: &Path) -> anyhow::Result<String> {
    let end = Instant::now() + DEADLINE;
    loop {
        match fs::read_to_string(path) {
            Ok(text) if !text.is_empty() => return Ok(text),
            _ if Instant::now() > end => bail!("{} did not appear", path.display()),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

pub(crate) fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

/// A loopback address of this bench alone, with these ports free.
pub(crate) fn free_loopback(ports: &[u16]) -> anyhow::Result<IpAddr> {
    let [_, _, a, b] = std::process::id().to_be_bytes();
    for c in 1..250_u8 {
        let host = IpAddr::from([127, a.wrapping_add(64), b.max(1), c]);
        let free = |port: &u16| std::net::TcpListener::bind((host, *port)).is_ok();
        if ports.iter().all(free) {
            return Ok(host);
        }
    }
    bail!("no loopback address has the ports {ports:?} free")
}

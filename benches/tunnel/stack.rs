//! Platform, relay and gateway as processes, and the client's credentials to reach a target through them.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use infisical::api::Client;
use infisical::api::types::OpenSession;
use infisical::config::proxy::Proxies;
use infisical::config::settings::{ApiBase, CustomHeaders};
use infisical::names::{GatewayName, SSH_PORT, TLS_PORT};
use infisical::pki::dial::GatewayDialer;
use infisical::secret::Secret;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use crate::entrance::Entrance;
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
    _platform: Process,
    client: Client,
    token: Secret,
    _dir: tempfile::TempDir,
}

impl Stack {
    pub(crate) async fn start(between: Between) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let path = |name: &str| dir.path().join(name).display().to_string();
        let host = free_loopback(&PORTS)?;
        let mut ssh = SocketAddr::new(host, SSH_PORT);
        if let Between::Delay(delay) = between {
            // Gateways know no other port: the line has the relay's address, and the relay another one.
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
        let identity: serde_json::Value = client
            .post(
                "creating an identity",
                "/v1/embedded/identities",
                Some(&token),
                &json!({"name": "bench", "method": "token", "roles": ["gateway", "relay"]}),
            )
            .await?;
        let access = identity
            .get("accessToken")
            .and_then(|token| token.as_str())
            .context("no token")?;
        write_secret(&dir.path().join("token"), access)?;
        let relay = program(
            &["relay", "start"],
            &[
                ("--name", "bench"),
                ("--host", &host.to_string()),
                ("--ssh-listen", &ssh.to_string()),
                ("--tls-listen", &SocketAddr::new(host, TLS_PORT).to_string()),
                ("--domain", url),
                ("--token-file", &path("token")),
            ],
        )?;
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
        let dialer = self.dialer(target.address, "infisical-tcp-proxy").await?;
        Ok(Entrance::Tunnel(Box::new(dialer)))
    }

    /// The way to the gateway's own answer to a ping.
    pub(crate) async fn pings(&self) -> anyhow::Result<GatewayDialer> {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        self.dialer(nowhere, "infisical-ping").await
    }

    async fn dialer(&self, target: SocketAddr, alpn: &str) -> anyhow::Result<GatewayDialer> {
        let request = OpenSession {
            target_host: target.ip().to_string(),
            target_port: target.port(),
        };
        let name = GatewayName::try_new("bench")?;
        let credentials = self
            .client
            .open_session(&self.token, &name, &request)
            .await?;
        Ok(GatewayDialer::try_new(
            &credentials,
            &[alpn],
            self.client.clock(),
        )?)
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

/// A gateway is refused for good when its relay is not known.
async fn wait_for_relay(client: &Client, token: &Secret) -> anyhow::Result<()> {
    let end = Instant::now() + DEADLINE;
    loop {
        let relays: Vec<infisical::api::types::Relay> = client
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

fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
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

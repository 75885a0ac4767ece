//! The three roles, started one after the other and stopped in reverse.
//!
//! Each step waits for what it proves: the platform answers, the relay has its certificates and
//! listens, the platform has reached the gateway through the relay. Secrets go from one to the
//! other in files.

use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;

use super::console::Console;
use super::directory::Directory;
use super::process::{self, Process};
use super::{Error, address};
use crate::api;
use crate::config::env::TOKEN;
use crate::config::file;
use crate::config::proxy::Proxies;
use crate::config::settings::{ApiBase, CustomHeaders};
use crate::events;
use crate::names::{SSH_PORT, TLS_PORT};
use crate::secret::Secret;

/// The gateway's name on the platform.
pub(super) const GATEWAY: &str = "demo-gateway";
/// The relay's name on the platform.
const RELAY: &str = "demo-relay";
/// Limit for a child to get ready. The slowest is a gateway that waits for its first heartbeat.
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(25);
/// Relays started, each on another address, while someone else takes the ports of the one before.
const RELAY_ATTEMPTS: usize = 8;
/// Exit code of a program that lacks something on this machine, such as a free port (sysexits.h).
const EX_UNAVAILABLE: i32 = 69;

/// The children, in the order in which they were started.
#[derive(Debug)]
pub(super) struct Stack {
    directory: Directory,
    children: Vec<Process>,
}

/// What a client needs.
#[derive(Debug, Clone)]
pub(super) struct ClientAccess {
    /// The platform's address, as `--domain` takes it.
    pub(super) domain: String,
    /// The administrator's token.
    pub(super) token_file: PathBuf,
}

/// `POST /v1/embedded/identities`, the part used here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    access_token: Secret,
}

/// `POST /v1/embedded/enrollment-tokens`.
#[derive(Debug, Deserialize)]
struct EnrollmentToken {
    token: Secret,
}

/// A command line, each part an argument.
macro_rules! arguments {
    ($($argument:expr),+ $(,)?) => { [$(OsString::from($argument)),+] };
}

impl Stack {
    pub(super) fn new(directory: Directory) -> Self {
        Self {
            directory,
            children: Vec::new(),
        }
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    pub(super) fn children(&self) -> &[Process] {
        &self.children
    }

    /// Starts platform, relay and gateway.
    pub(super) async fn start(&mut self, console: &mut Console) -> Result<ClientAccess, Error> {
        let access = self.start_platform(console).await?;
        let admin = Admin::try_new(&access)?;
        self.start_relay(console, &access, &admin).await?;
        self.start_gateway(console, &access, &admin).await?;
        Ok(access)
    }

    async fn start_platform(&mut self, console: &mut Console) -> Result<ClientAccess, Error> {
        let since = Instant::now();
        let state = self.directory.file("platform");
        let ready = self.directory.file("platform.url");
        self.directory.remove("platform.url")?;
        let arguments = arguments![
            "platform",
            "start",
            "--listen",
            "127.0.0.1:0",
            "--state-dir",
            &state,
            "--ready-file",
            &ready,
        ];
        let pid = self.launch("platform", &arguments)?;
        let domain = self.until("serve", || written(&ready)).await?;
        console.done("platform", format_args!("{domain}, pid {pid}"), since);
        Ok(ClientAccess {
            domain,
            token_file: state.join("admin-token"),
        })
    }

    async fn start_relay(
        &mut self,
        console: &mut Console,
        access: &ClientAccess,
        admin: &Admin,
    ) -> Result<(), Error> {
        let since = Instant::now();
        // A kept directory holds the identity that owns the relay's name.
        let config = self.directory.file("relay.conf");
        if !config.exists() {
            let identity = admin.identity(RELAY).await?;
            let changes = [(&TOKEN, &identity.access_token)];
            file::update(&config, &changes).map_err(Error::Config)?;
        }
        let mut skipped = 0;
        for _ in 0..RELAY_ATTEMPTS {
            let Some(address) = address::free([SSH_PORT, TLS_PORT], skipped) else {
                break;
            };
            match self.try_relay(access, &config, address).await {
                Ok(pid) => {
                    let where_ = format_args!(
                        "{address}, ports {SSH_PORT} (SSH) and {TLS_PORT} (TLS), pid {pid}"
                    );
                    console.done("relay", where_, since);
                    return Ok(());
                }
                // Someone else was faster.
                Err(Error::Process(process::Error::Died { status, .. }))
                    if status.code() == Some(EX_UNAVAILABLE) =>
                {
                    tracing::debug!(%address, "the relay could not listen");
                    self.children.pop();
                    skipped = address::elsewhere();
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::NoAddress)
    }

    async fn try_relay(
        &mut self,
        access: &ClientAccess,
        config: &Path,
        address: IpAddr,
    ) -> Result<u32, Error> {
        let listen = |port| SocketAddr::new(address, port).to_string();
        let arguments = arguments![
            "relay",
            "start",
            "--name",
            RELAY,
            "--type=org",
            "--host",
            address.to_string(),
            "--ssh-listen",
            listen(SSH_PORT),
            "--tls-listen",
            listen(TLS_PORT),
            "--domain",
            &access.domain,
            "--config",
            config,
        ];
        let pid = self.launch("relay", &arguments)?;
        let log = self.log_of("relay");
        self.until("start", || logged(&log, events::RELAY_STARTED.text))
            .await?;
        Ok(pid)
    }

    async fn start_gateway(
        &mut self,
        console: &mut Console,
        access: &ClientAccess,
        admin: &Admin,
    ) -> Result<(), Error> {
        let since = Instant::now();
        // In a kept directory, the same token starts what it enrolled.
        let token_file = self.directory.file("gateway.token");
        if !token_file.exists() {
            let created = admin.enrollment_token(GATEWAY).await?;
            self.directory
                .write_secret("gateway.token", &created.token)?;
        }
        let arguments = arguments![
            "gateway",
            "start",
            GATEWAY,
            "--target-relay-name",
            RELAY,
            "--domain",
            &access.domain,
            "--enroll-method=token",
            "--token-file",
            &token_file,
            "--config",
            self.directory.file("gateway.conf"),
        ];
        let pid = self.launch("gateway", &arguments)?;
        let log = self.log_of("gateway");
        self.until("start", || logged(&log, events::GATEWAY_STARTED.text))
            .await?;
        let what = format_args!("{GATEWAY}, connected to the relay, pid {pid}");
        console.done("gateway", what, since);

        let since = Instant::now();
        console.remark("the first heartbeat follows a second after the gateway's start");
        self.until("be reached by the platform", || {
            logged(&log, events::GATEWAY_REACHABLE.text)
        })
        .await?;
        let what = "the platform has reached the gateway through the relay";
        console.done("heartbeat", what, since);
        Ok(())
    }

    /// Starts `infisical connect` to `target` and gives the local address that leads there.
    pub(super) async fn connect(
        &mut self,
        access: &ClientAccess,
        name: &'static str,
        target: SocketAddr,
    ) -> Result<SocketAddr, Error> {
        let file = format!("{name}.address");
        let ready = self.directory.file(&file);
        self.directory.remove(&file)?;
        let arguments = arguments![
            "connect",
            GATEWAY,
            "--to",
            target.to_string(),
            "--listen",
            "127.0.0.1:0",
            "--ready-file",
            &ready,
            "--domain",
            &access.domain,
            "--token-file",
            &access.token_file,
        ];
        self.launch(name, &arguments)?;
        self.until("listen", || written(&ready)?.parse().ok()).await
    }

    fn launch(&mut self, name: &'static str, arguments: &[OsString]) -> Result<u32, Error> {
        let log = self.directory.log(&format!("{name}.log"))?;
        let child = Process::start(name, arguments, log)?;
        let pid = child.pid();
        self.children.push(child);
        Ok(pid)
    }

    fn log_of(&self, name: &str) -> PathBuf {
        self.directory.file(&format!("{name}.log"))
    }

    /// Waits until the youngest child has fulfilled `condition`, and sees to it that all live
    /// meanwhile.
    async fn until<T>(
        &mut self,
        what: &'static str,
        mut condition: impl FnMut() -> Option<T>,
    ) -> Result<T, Error> {
        let end = Instant::now() + READY_DEADLINE;
        loop {
            if let Some(value) = condition() {
                return Ok(value);
            }
            self.all_alive()?;
            if Instant::now() >= end
                && let Some(youngest) = self.children.last()
            {
                return Err(youngest.too_slow(what, READY_DEADLINE).into());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    pub(super) fn all_alive(&mut self) -> Result<(), Error> {
        match self.children.iter_mut().find_map(Process::gone) {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// Waits until a child has ended by itself. Cancel-safe.
    pub(super) async fn died(&mut self) -> Error {
        let all = self.children.iter_mut().map(|child| Box::pin(child.died()));
        let (error, _, _) = futures_util::future::select_all(all).await;
        error.into()
    }

    /// Stops the children, youngest first, and removes a temporary directory.
    pub(super) async fn stop(mut self) {
        while let Some(child) = self.children.pop() {
            child.stop().await;
        }
    }
}

/// The administrator's requests.
struct Admin {
    platform: api::Client,
    token: Secret,
}

impl Admin {
    fn try_new(access: &ClientAccess) -> Result<Self, Error> {
        let domain = ApiBase::parse(&access.domain).map_err(Error::Domain)?;
        let text = fs::read_to_string(&access.token_file).map_err(Error::AdminToken)?;
        Ok(Self {
            platform: api::Client::try_new(
                &domain,
                &CustomHeaders::default(),
                &Proxies::default(),
            )?,
            token: Secret::new(text.trim()),
        })
    }

    async fn identity(&self, name: &str) -> Result<Identity, Error> {
        let request = json!({ "name": name, "method": "token", "roles": ["relay"] });
        let path = "/v1/embedded/identities";
        let token = Some(&self.token);
        let answer = self
            .platform
            .post("creating an identity", path, token, &request);
        Ok(answer.await?)
    }

    async fn enrollment_token(&self, gateway: &str) -> Result<EnrollmentToken, Error> {
        let request = json!({ "kind": "gateway", "name": gateway });
        let path = "/v1/embedded/enrollment-tokens";
        let token = Some(&self.token);
        let answer = self
            .platform
            .post("creating an enrollment token", path, token, &request);
        Ok(answer.await?)
    }
}

/// The content of a ready file, once it is there.
fn written(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Whether a log holds `line`.
fn logged(log: &Path, line: &str) -> Option<()> {
    let text = fs::read(log).ok()?;
    String::from_utf8_lossy(&text).contains(line).then_some(())
}

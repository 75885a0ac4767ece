//! The whole of it: embedded platform, relay and gateway as three real processes.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::admin::Platform;
use super::daemon::{GatewayCommand, RelayCommand};
use super::lab::GATEWAY_CONNECTED;
use super::process::{Process, infisical};
use super::session::Way;
use super::targets::Target;
use super::{loopback, ready_file, soon};

/// How a gateway or relay proves itself to the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// A machine identity's plain access token.
    Token,
    /// A machine identity's client id and secret.
    UniversalAuth,
    /// A one-time enrollment token.
    Enrollment,
    /// The relay auth secret (relays of the instance only).
    Instance,
}

/// What to start.
pub struct Plan {
    pub algorithm: &'static str,
    pub relay: Credential,
    pub gateway: Credential,
    pub log_level: &'static str,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            algorithm: "ecdsa-p256",
            relay: Credential::Token,
            gateway: Credential::Token,
            log_level: "debug",
        }
    }
}

/// Name of the stack's relay.
pub const RELAY: &str = "relay-one";
/// Name of the stack's gateway.
pub const GATEWAY: &str = "gateway-one";

/// Three processes that work together. Fields are dropped in this order, the directory last.
pub struct Stack {
    pub gateway: Process,
    pub relay: Process,
    pub platform: Platform,
    pub gateway_command: GatewayCommand,
    pub relay_command: RelayCommand,
    /// The address of this case alone.
    pub host: Ipv4Addr,
    /// Every secret that was handed to a process.
    pub secrets: Vec<String>,
    dir: TempDir,
}

impl Stack {
    /// The usual one.
    pub async fn start() -> Self {
        Self::plan(&Plan::default()).await
    }

    /// Starts the three and waits until a tunnel is up.
    pub async fn plan(plan: &Plan) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let host = loopback::address();
        let levels = ["--log-level", plan.log_level];
        let options = [&levels[..], &["--key-algorithm", plan.algorithm]].concat();
        let platform = Platform::start(dir.path(), host, 0, &options).await;
        let mut secrets = vec![platform.token.clone()];

        let keys = credential(&platform, plan.relay, "relay", RELAY, host, &mut secrets).await;
        let mut relay_command = RelayCommand::new(dir.path(), RELAY, host, &platform.url, &keys);
        relay_command.more.extend(levels.map(str::to_owned));
        match plan.relay {
            Credential::Instance => relay_command.kind = "instance",
            Credential::Enrollment => relay_command.more.push("--enroll-method=token".to_owned()),
            Credential::Token | Credential::UniversalAuth => {}
        }
        let relay = relay_command.spawn(dir.path());
        relay
            .wait_for_line("Relay server started successfully")
            .await;

        let keys = credential(
            &platform,
            plan.gateway,
            "gateway",
            GATEWAY,
            host,
            &mut secrets,
        )
        .await;
        let mut gateway_command =
            GatewayCommand::new(dir.path(), GATEWAY, &platform.url, RELAY, &keys);
        gateway_command.more.extend(levels.map(str::to_owned));
        if plan.gateway == Credential::Enrollment {
            let more = &mut gateway_command.more;
            more.push("--enroll-method=token".to_owned());
        }
        let gateway = gateway_command.spawn(dir.path());
        gateway.wait_for_line("Gateway started successfully").await;
        relay.wait_for_line(GATEWAY_CONNECTED).await;
        Self {
            gateway,
            relay,
            platform,
            gateway_command,
            relay_command,
            host,
            secrets,
            dir,
        }
    }

    /// The case's directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A way to `target` through the stack's gateway.
    pub async fn way(&self, target: &Target) -> Way {
        let ip = target.address.ip().to_string();
        self.platform.way(GATEWAY, &ip, target.address.port()).await
    }

    /// `infisical connect` to `to`, on a free local port; gives the process and where it listens.
    pub async fn connect(&self, to: &str) -> (Process, SocketAddr) {
        self.connect_through(GATEWAY, to).await
    }

    /// The same, through any gateway of the platform.
    pub async fn connect_through(&self, gateway: &str, to: &str) -> (Process, SocketAddr) {
        let ready = self.dir().join("connect-ready");
        let _ = std::fs::remove_file(&ready);
        let mut command = infisical(self.dir());
        command.args(["connect", gateway, "--to", to]);
        command.args(["--listen", &format!("{}:0", self.host)]);
        command.args(["--domain", &self.platform.url, "--log-level", "debug"]);
        command.arg("--token-file").arg(self.platform.token_file());
        command.arg("--ready-file").arg(&ready);
        let process = Process::spawn("connect", command);
        process.wait_for_line("Listening on").await;
        let address = ready_file(&ready).await.parse().expect("an address");
        (process, address)
    }

    /// Starts the relay again, after the old one ended.
    pub async fn restart_relay(&mut self) {
        self.relay = self.relay_command.spawn(self.dir.path());
        self.relay
            .wait_for_line("Relay server started successfully")
            .await;
    }

    /// Starts one more process of the same gateway, from the same configuration file.
    pub fn spawn_gateway(&self) -> Process {
        self.gateway_command.spawn(self.dir())
    }

    /// Starts a process of another gateway at the same relay, and waits until its tunnel is up.
    pub async fn spawn_another_gateway(&self, name: &str) -> Process {
        let token = self
            .platform
            .identity_token(&format!("{name}-identity"))
            .await;
        let keys = format!("INFISICAL_TOKEN={token}\n");
        let mark = self.relay.mark();
        let command = GatewayCommand::new(self.dir(), name, &self.platform.url, RELAY, &keys);
        let gateway = command.spawn(self.dir());
        gateway.wait_for_line("Gateway started successfully").await;
        let connected = self.relay.wait_for_line_after(mark, GATEWAY_CONNECTED);
        connected.await;
        gateway
    }

    /// Registers one more gateway, as an API client of its own; gives credentials G.
    pub async fn register_gateway(&self, name: &str) -> Value {
        let identity = format!("{name}-identity");
        let token = self.platform.identity_token(&identity).await;
        let body = json!({"relayName": RELAY, "name": name});
        let post = reqwest::Method::POST;
        let answer = self.platform.api(post, "v2/gateways", &token, Some(&body));
        let (status, credentials) = answer.await;
        assert_eq!(status, 200, "{credentials}");
        credentials
    }

    /// Fails if a secret is in what the daemons wrote or in what the system shows of them.
    pub fn assert_no_secret_shows(&self) {
        for (name, process) in [
            ("platform", &self.platform.process),
            ("relay", &self.relay),
            ("gateway", &self.gateway),
        ] {
            let log = process.output();
            let shown = process.command_line_and_environment();
            for secret in &self.secrets {
                assert!(!secret.is_empty(), "an empty secret proves nothing");
                assert!(!log.contains(secret), "{name} logs a secret");
                assert!(!shown.contains(secret), "{name} shows a secret to ps");
            }
            assert!(!log.contains("PRIVATE KEY"), "{name} logs a private key");
        }
    }

    /// Ends the whole: every daemon must answer SIGTERM with exit code 0.
    pub async fn stop(self) {
        let daemons = [&self.gateway, &self.relay, &self.platform.process];
        for process in daemons {
            process.signal(nix::sys::signal::Signal::SIGTERM);
            let code = soon("a clean end", process.exit_code()).await;
            assert_eq!(code, 0);
        }
    }
}

/// `KEY=value` lines that carry a credential of this kind.
async fn credential(
    platform: &Platform,
    kind: Credential,
    role: &str,
    name: &str,
    host: Ipv4Addr,
    secrets: &mut Vec<String>,
) -> String {
    let (lines, secret) = match kind {
        Credential::Token => {
            let token = platform.identity_token(&format!("{name}-identity")).await;
            (format!("INFISICAL_TOKEN={token}\n"), token)
        }
        Credential::UniversalAuth => {
            let (id, secret) = platform.universal_auth(&format!("{name}-identity")).await;
            let lines = format!(
                "INFISICAL_AUTH_METHOD=universal-auth\n\
                 INFISICAL_UNIVERSAL_AUTH_CLIENT_ID={id}\n\
                 INFISICAL_UNIVERSAL_AUTH_CLIENT_SECRET={secret}\n"
            );
            (lines, secret)
        }
        Credential::Enrollment => {
            let host = (role == "relay").then_some(host);
            let token = platform.enrollment_token(role, name, host).await;
            (format!("INFISICAL_TOKEN={token}\n"), token)
        }
        Credential::Instance => {
            let secret = platform.relay_auth_secret().await;
            (format!("INFISICAL_RELAY_AUTH_SECRET={secret}\n"), secret)
        }
    };
    secrets.push(secret);
    lines
}

//! The deployed relay and gateway as peers that are not ours: the programs of `tests/interop/go`,
//! which have the deployed programs' SSH library and their settings. Where they cannot be built,
//! their cases are skipped visibly.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::admin::Platform;
use super::daemon::GatewayCommand;
use super::lab::GATEWAY_CONNECTED;
use super::process::{Process, clean};
use super::session::Way;
use super::stack::{GATEWAY, Plan, RELAY, Stack};
use super::targets::Target;
use super::{loopback, write_private};

/// What the deployed platform issues.
const ALGORITHM: &str = "rsa-2048";
/// Name of the gateway that the Go program plays.
const DEPLOYED: &str = "deployed-gateway";

/// The program; built once in a run. `None` where there is no Go or none of its modules: the case
/// is skipped.
pub fn program() -> Option<&'static Path> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match BUILT.get_or_init(build) {
        Ok(program) => Some(program),
        Err(why) => {
            eprintln!("SKIPPED: there is no deployed peer: {why}");
            None
        }
    }
}

/// Only what the machine lacks is an `Err`; a program that does not compile is a failure.
fn build() -> Result<PathBuf, String> {
    let go = |arguments: &[&str]| {
        let mut command = Command::new("go");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/interop/go");
        command.current_dir(source).args(arguments);
        command
            .output()
            .map_err(|error| format!("go cannot be started: {error}"))
    };
    let modules = go(&["mod", "download"])?;
    if !modules.status.success() {
        let why = String::from_utf8_lossy(&modules.stderr);
        return Err(format!("its modules cannot be had: {}", why.trim()));
    }
    let directory = crate::built::scratch();
    let program = directory.join("go-peer");
    // Moved to its place whole: another run may be starting the old one.
    let fresh = directory.join(format!("go-peer-{}", std::process::id()));
    let path = fresh.to_str().expect("UTF-8");
    let built = go(&["build", "-buildvcs=false", "-o", path, "."])?;
    let complaints = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "the Go peer: {complaints}");
    std::fs::rename(&fresh, &program).expect("the program is moved to its place");
    Ok(program)
}

async fn spawn(role: &str, program: &Path, dir: &Path, issued: &Value, flags: &[&str]) -> Process {
    let credentials = dir.join(format!("deployed-{role}.json"));
    write_private(&credentials, &issued.to_string());
    let mut command = clean(program, dir);
    command.arg(role).arg("-credentials").arg(&credentials);
    command.args(flags);
    let process = Process::spawn(&format!("deployed {role}"), command);
    process.wait_for_line("ready ").await;
    process
}

/// The deployed relay in the place of ours: embedded platform, Go relay, and our gateway behind it.
/// Fields are dropped in this order, the directory last.
pub struct DeployedRelay {
    pub gateway: Process,
    pub relay: Process,
    pub platform: Platform,
    pub host: Ipv4Addr,
    gateway_command: GatewayCommand,
    dir: TempDir,
}

impl DeployedRelay {
    /// Starts the three, the relay with these flags more, and waits until a tunnel is up.
    pub async fn start(program: &Path, flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let host = loopback::address();
        let options = ["--log-level", "debug", "--key-algorithm", ALGORITHM];
        let platform = Platform::start(dir.path(), host, 0, &options).await;
        let token = platform.identity_token("relay-identity").await;
        let body = json!({"host": host.to_string(), "name": RELAY});
        let (status, issued) = platform
            .api(
                reqwest::Method::POST,
                "v1/relays/register-org-relay",
                &token,
                Some(&body),
            )
            .await;
        assert_eq!(status, 200, "{issued}");
        let (ssh, tls) = (format!("{host}:2222"), format!("{host}:8443"));
        let places = ["-name", RELAY, "-ssh-listen", &ssh, "-tls-listen", &tls];
        let flags = [&places[..], flags].concat();
        let relay = spawn("relay", program, dir.path(), &issued, &flags).await;

        let token = platform.identity_token("gateway-identity").await;
        let keys = format!("INFISICAL_TOKEN={token}\n");
        let mut gateway_command =
            GatewayCommand::new(dir.path(), GATEWAY, &platform.url, RELAY, &keys);
        gateway_command.more.push("--log-level=debug".to_owned());
        let gateway = gateway_command.spawn(dir.path());
        relay.wait_for_line("tunnel of").await;
        Self {
            gateway,
            relay,
            platform,
            host,
            gateway_command,
            dir,
        }
    }

    /// A way to `target` through our gateway.
    pub async fn way(&self, target: &Target) -> Way {
        let ip = target.address.ip().to_string();
        self.platform.way(GATEWAY, &ip, target.address.port()).await
    }

    /// Starts one more process of the same gateway.
    pub fn spawn_gateway(&self) -> Process {
        self.gateway_command.spawn(self.dir.path())
    }

    /// The command of that process.
    pub fn gateway_command(&self) -> Command {
        self.gateway_command.command(self.dir.path())
    }

    /// Where all of them keep their files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// The deployed gateway behind our relay.
pub struct DeployedGateway {
    pub gateway: Process,
    pub stack: Stack,
    issued: Value,
}

impl DeployedGateway {
    /// Starts it with these flags more, and waits until its tunnel is up.
    pub async fn start(program: &Path, flags: &[&str]) -> Self {
        let stack = Stack::plan(&Plan {
            algorithm: ALGORITHM,
            ..Plan::default()
        })
        .await;
        let issued = stack.register_gateway(DEPLOYED).await;
        let gateway = Self::dial(program, &stack, &issued, flags).await;
        let id = issued["gatewayId"].as_str().expect("an id");
        // The relay may take a moment more than the gateway to see it.
        let seen = |line: &&String| line.contains(GATEWAY_CONNECTED) && line.contains(id);
        let find = |lines: &[String]| lines.iter().find(seen).cloned();
        stack
            .relay
            .wait_for("the deployed gateway's line", find)
            .await;
        Self {
            gateway,
            stack,
            issued,
        }
    }

    async fn dial(program: &Path, stack: &Stack, issued: &Value, flags: &[&str]) -> Process {
        let relay = format!("{}:2222", stack.host);
        let flags = [&["-relay", &relay][..], flags].concat();
        spawn("gateway", program, stack.dir(), issued, &flags).await
    }

    /// One more connection of the same gateway.
    pub async fn again(&self, program: &Path) -> Process {
        Self::dial(program, &self.stack, &self.issued, &[]).await
    }

    /// `infisical connect` to `target` through the Go gateway; gives the process and where it
    /// listens.
    pub async fn connect(&self, target: &Target) -> (Process, SocketAddr) {
        let to = target.address.to_string();
        self.stack.connect_through(DEPLOYED, &to).await
    }

    /// A way to `target` through the Go gateway.
    pub async fn way(&self, target: &Target) -> Way {
        let ip = target.address.ip().to_string();
        let platform = &self.stack.platform;
        platform.way(DEPLOYED, &ip, target.address.port()).await
    }
}

/// How often a peer has exchanged keys so far, the first time included.
pub fn key_exchanges(peer: &Process) -> usize {
    peer.output().matches("key exchange ").count()
}

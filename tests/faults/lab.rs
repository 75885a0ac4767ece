//! What every case begins with: machines, and on them this build's platform, relay and gateway as
//! their users run them, with a target to reach behind the gateway. The case itself is on the
//! client's machine.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::runtime::Runtime;

use crate::net::{Line, Machine, Net, PROXY_PORT};
use crate::peer::ECHO_PORT;
use crate::peer::bulk::BULK_PORT;
use crate::probe::{self, Probe};
use crate::steer::Proxy;
use crate::support::admin::Platform;
use crate::support::daemon::{GatewayCommand, RelayCommand};
use crate::support::lab::GATEWAY_CONNECTED;
use crate::support::process::{Process, clean, infisical};
use crate::support::session::Way;
use crate::support::stack::{GATEWAY, RELAY};
use crate::support::{ready_file, write_private};
use crate::wait;

/// How long anything may take that is not measured.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// A session that is to work at once, on a busy machine.
const ATTEMPT: Duration = Duration::from_secs(10);
/// The platform's name, which only the DNS server knows.
pub(crate) const PLATFORM_NAME: &str = "platform.example.org";
/// Name of the second relay.
pub(crate) const RELAY_TWO: &str = "relay-two";
/// What is printed of a failed case's process at most, from its end.
const SHOWN_LINES: usize = 120;
const SHOWN_WIDTH: usize = 600;
/// Lines that each attempt of a probe makes, and which no one wants to read a thousand times.
const PROBING: &[&str] = &[
    "session opened",
    "session ended",
    "client sent away",
    "bridge ended",
];

/// How a gateway is to be started.
#[derive(Default, Clone)]
pub(crate) struct GatewayPlan {
    /// The relay that is named; none is chosen.
    pub(crate) relay: Option<&'static str>,
    /// `KEY=value` lines with its credential; a new identity's token if there are none.
    pub(crate) keys: Option<String>,
    /// The platform's name instead of its address.
    pub(crate) by_name: bool,
    /// More arguments.
    pub(crate) more: Vec<String>,
    /// Its environment, beside what it needs.
    pub(crate) environment: Vec<(&'static str, String)>,
}

impl GatewayPlan {
    pub(crate) fn pinned() -> Self {
        Self {
            relay: Some(RELAY),
            ..Self::default()
        }
    }
}

/// Fields are dropped in this order: processes before their network and their directory.
pub(crate) struct Lab {
    platform: Option<Platform>,
    processes: RefCell<Vec<Rc<Process>>>,
    pub(crate) net: Net,
    runtime: Runtime,
    /// What the platform's certificate is checked against, and the certificate.
    root: String,
    dir: TempDir,
    begin: Instant,
}

impl Lab {
    /// The machines alone; the calling thread is on the client's from now on.
    pub(crate) fn build() -> Self {
        let begin = Instant::now();
        let dir = tempfile::tempdir().expect("a directory");
        let net = Net::build();
        net.enter(Machine::Client);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let root = certify(dir.path());
        Self {
            platform: None,
            processes: RefCell::default(),
            net,
            runtime: runtime.expect("a runtime"),
            root,
            dir,
            begin,
        }
    }

    /// Platform, relay, gateway with this plan, and an echo, all of it working. Gives relay and
    /// gateway.
    pub(crate) fn start(&mut self, plan: &GatewayPlan) -> (Rc<Process>, Rc<Process>) {
        self.start_platform();
        self.start_echo(Machine::Gateway);
        let relay = self.start_relay(Machine::Relay);
        let gateway = self.start_gateway(Machine::Gateway, plan);
        self.wait_up(&gateway);
        self.wait_line(&relay, 0, GATEWAY_CONNECTED, PATIENCE);
        (relay, gateway)
    }

    /// Where everything of this case lies.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A directory of this machine alone.
    pub(crate) fn home(&self, machine: Machine) -> PathBuf {
        let home = self.dir().join(format!("{machine:?}"));
        std::fs::create_dir_all(&home).expect("a directory");
        home
    }

    pub(crate) fn root_file(&self) -> PathBuf {
        self.dir().join("root.pem")
    }

    pub(crate) fn platform(&self) -> &Platform {
        self.platform.as_ref().expect("it was started")
    }

    /// The platform, for the first time or again, and waits until it serves.
    pub(crate) fn start_platform(&mut self) {
        self.start_platform_with(&[]);
    }

    /// The same, with arguments more.
    pub(crate) fn start_platform_with(&mut self, more: &[&str]) {
        let home = self.home(Machine::Platform);
        let address = Machine::Platform.address();
        let mut command = infisical(&home);
        command.args(["platform", "start", "--listen", &format!("{address}:443")]);
        command.arg("--state-dir").arg(home.join("state"));
        command
            .arg("--tls-cert")
            .arg(self.dir().join("platform.pem"));
        command
            .arg("--tls-key")
            .arg(self.dir().join("platform.key"));
        command.args(["--log-level", "debug"]).args(more);
        let process = Process::spawn("platform", self.net.on(Machine::Platform, &command));
        let line = process.wait_for_line("Platform started successfully");
        self.runtime.block_on(line);
        let url = format!("https://{address}");
        let state = home.join("state");
        self.platform = Some(Platform::known(process, url, state, Some(&self.root)));
    }

    /// Kills the platform.
    pub(crate) fn kill_platform(&self) {
        self.kill(&self.platform().process);
    }

    /// A relay of the organization, and waits until it serves.
    pub(crate) fn start_relay(&self, machine: Machine) -> Rc<Process> {
        let relay = self.spawn_relay(machine);
        self.wait_line(&relay, 0, "Relay server started successfully", PATIENCE);
        relay
    }

    /// The same without waiting.
    pub(crate) fn spawn_relay(&self, machine: Machine) -> Rc<Process> {
        let name = if machine == Machine::Relay {
            RELAY
        } else {
            RELAY_TWO
        };
        let home = self.home(machine);
        let keys = home.join("keys");
        if !keys.exists() {
            let identity = format!("{name}-identity");
            let token = self.platform().identity_token(&identity);
            let token = self.runtime.block_on(token);
            write_private(&keys, &format!("INFISICAL_TOKEN={token}\n"));
        }
        let keys = std::fs::read_to_string(&keys).expect("the keys");
        let url = &self.platform().url;
        let mut relay = RelayCommand::new(&home, name, machine.address(), url, &keys);
        relay.more.push("--log-level=debug".to_owned());
        let mut command = relay.command(&home);
        command.env("SSL_CERT_FILE", self.root_file());
        self.spawn(name, &self.net.on(machine, &command))
    }

    /// Starts a gateway and waits for nothing.
    pub(crate) fn start_gateway(&self, machine: Machine, plan: &GatewayPlan) -> Rc<Process> {
        let command = self.gateway_command(machine, plan);
        self.spawn("gateway", &command)
    }

    /// The command that starts a gateway on this machine.
    pub(crate) fn gateway_command(&self, machine: Machine, plan: &GatewayPlan) -> Command {
        let home = self.home(machine);
        let keys = plan.keys.clone().unwrap_or_else(|| self.gateway_keys());
        let url = match plan.by_name {
            true => format!("https://{PLATFORM_NAME}"),
            false => format!("https://{}", Machine::Platform.address()),
        };
        let kept = home.join("gateway.conf");
        if !kept.exists() {
            write_private(&kept, &keys);
        }
        let mut gateway = GatewayCommand {
            name: GATEWAY.to_owned(),
            domain: url,
            relay: plan.relay.map(str::to_owned),
            // What it keeps there is for its next start.
            config: kept,
            more: Vec::new(),
        };
        gateway.more.push("--log-level=debug".to_owned());
        gateway.more.extend(plan.more.iter().cloned());
        let mut command = gateway.command(&home);
        command.env("SSL_CERT_FILE", self.root_file());
        command.envs(plan.environment.iter().map(|(name, value)| (name, value)));
        self.net.on(machine, &command)
    }

    /// The gateway's identity as a token: made once, the same for each machine.
    pub(crate) fn gateway_keys(&self) -> String {
        let keys = self.dir().join("gateway-keys");
        if !keys.exists() {
            let token = self.platform().identity_token("gateway-identity");
            let token = self.runtime.block_on(token);
            write_private(&keys, &format!("INFISICAL_TOKEN={token}\n"));
        }
        std::fs::read_to_string(&keys).expect("the keys")
    }

    /// A target that sends back what it gets, on this machine.
    pub(crate) fn start_echo(&self, machine: Machine) -> Rc<Process> {
        let command = self.net.on(machine, &self.peer(&["echo"]));
        self.spawn_ready("echo", &command)
    }

    /// A DNS server that knows the platform, on the gateway's router; the gateway's machine asks
    /// it.
    pub(crate) fn start_dns(&self) -> Rc<Process> {
        let address = SocketAddr::from((Machine::Gateway.router(), 53)).to_string();
        let name = format!("{PLATFORM_NAME}={}", Machine::Platform.address());
        let command = self.net.on_router(&self.peer(&["dns", &address, &name]));
        self.spawn_ready("dns", &command)
    }

    /// A DNS server in its place that answers every query with `code`.
    pub(crate) fn start_failing_dns(&self, code: u8) -> Rc<Process> {
        let address = SocketAddr::from((Machine::Gateway.router(), 53)).to_string();
        let command = self.peer(&["failing-dns", &address, &code.to_string()]);
        self.spawn_ready("failing dns", &self.net.on_router(&command))
    }

    /// The gateway's machine asks the DNS server on its router, which need not be there.
    pub(crate) fn use_dns(&self) {
        let resolver = format!("nameserver {}\n", Machine::Gateway.router());
        self.net.etc(Machine::Gateway, "resolv.conf", &resolver);
    }

    /// A proxy on the router, and through it all connections to the relay that the gateway begins
    /// from now on.
    pub(crate) fn start_proxy(&mut self) -> Proxy {
        let listen = format!("0.0.0.0:{PROXY_PORT}");
        let to = SocketAddr::from((Machine::Relay.address(), 2222)).to_string();
        let command = self.net.on_router(&self.peer(&["proxy", &listen, &to]));
        let mut process = Process::spawn("proxy", command);
        let stdin = process.take_stdin();
        let process = self.keep(process);
        self.wait_line(&process, 0, "ready", PATIENCE);
        self.net.detour(Machine::Gateway, true);
        Proxy::new(process, stdin)
    }

    /// A long line between gateway and relay from now on; connections that there are go on through
    /// it.
    pub(crate) fn start_line(&self, line: &Line) -> Rc<Process> {
        let words = line.words();
        let mut role = vec!["line"];
        role.extend(words.iter().map(String::as_str));
        let command = self.net.on_router(&self.peer(&role));
        let process = self.spawn_ready("line", &command);
        self.net
            .through_line(Machine::Gateway, Machine::Relay, line);
        process
    }

    /// A target for bulk data on this machine.
    pub(crate) fn start_bulk(&self, machine: Machine) -> Rc<Process> {
        let command = self.net.on(machine, &self.peer(&["bulk"]));
        self.spawn_ready("bulk", &command)
    }

    /// A way to it through the gateway; good for five minutes.
    pub(crate) fn bulk_way(&self) -> Way {
        let way = self.platform().way(GATEWAY, "127.0.0.1", BULK_PORT);
        self.runtime.block_on(way)
    }

    fn peer(&self, role: &[&str]) -> Command {
        let this = std::env::current_exe().expect("this binary's path");
        let mut command = clean(this, self.dir());
        command.arg("peer").args(role);
        command
    }

    fn spawn_ready(&self, name: &str, command: &Command) -> Rc<Process> {
        let process = self.spawn(name, command);
        self.wait_line(&process, 0, "ready", PATIENCE);
        process
    }

    /// Starts a process whose output is shown if the case fails.
    pub(crate) fn spawn(&self, name: &str, command: &Command) -> Rc<Process> {
        // Commands cannot be cloned.
        let mut copy = Command::new(command.get_program());
        copy.args(command.get_args()).env_clear();
        for (key, value) in command.get_envs() {
            if let Some(value) = value {
                copy.env(key, value);
            }
        }
        if let Some(folder) = command.get_current_dir() {
            copy.current_dir(folder);
        }
        self.keep(Process::spawn(name, copy))
    }

    fn keep(&self, process: Process) -> Rc<Process> {
        let process = Rc::new(process);
        self.processes.borrow_mut().push(Rc::clone(&process));
        process
    }

    /// Kills the process and waits for its end.
    pub(crate) fn kill(&self, process: &Process) {
        self.runtime.block_on(process.kill());
    }

    /// Asks the process to end and waits for it; gives its exit code.
    pub(crate) fn stop(&self, process: &Process) -> i32 {
        process.signal(Signal::SIGTERM);
        self.runtime.block_on(process.exit_code())
    }

    /// Runs `future`, which speaks to the platform as its administrator.
    pub(crate) fn ask<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// `infisical connect` to a port of the gateway's machine, on the client's machine; gives the
    /// process and where it listens.
    pub(crate) fn start_connect(&self, port: u16) -> (Rc<Process>, SocketAddr) {
        let home = self.home(Machine::Client);
        let (token, ready) = (home.join("token"), home.join("ready"));
        write_private(&token, &self.platform().token);
        let mut command = infisical(&home);
        command.args(["connect", GATEWAY, "--to", &format!("127.0.0.1:{port}")]);
        command.args(["--listen", "127.0.0.1:0", "--log-level", "debug"]);
        command.args(["--domain", &self.platform().url]);
        command.arg("--token-file").arg(token);
        command.arg("--ready-file").arg(&ready);
        command.env("SSL_CERT_FILE", self.root_file());
        let process = self.spawn("connect", &self.net.on(Machine::Client, &command));
        self.wait_line(&process, 0, "Listening on", PATIENCE);
        let address = self.runtime.block_on(ready_file(&ready));
        (process, address.parse().expect("an address"))
    }

    /// A way to the echo through the gateway; good for five minutes.
    pub(crate) fn way(&self) -> Way {
        let way = self.platform().way(GATEWAY, "127.0.0.1", ECHO_PORT);
        self.runtime.block_on(way)
    }

    /// The same, if the platform knows the gateway.
    pub(crate) fn try_way(&self) -> Result<Way, String> {
        let session = self.platform().session(GATEWAY, "127.0.0.1", ECHO_PORT);
        match self.runtime.block_on(session) {
            (200..300, answer) => Ok(Way::from_json(&answer)),
            (status, answer) => Err(format!("{status} {answer}")),
        }
    }

    /// Begins to try for a session.
    pub(crate) fn probe(way: &Way) -> Probe {
        Probe::start(way)
    }

    /// Fails unless a session works now.
    #[track_caller]
    pub(crate) fn assert_works(&self, way: &Way) {
        if let Err(error) = probe::once(way, ATTEMPT) {
            panic!("a session does not work: {error}");
        }
    }

    /// Waits until the gateway has a tunnel.
    #[track_caller]
    pub(crate) fn wait_up(&self, gateway: &Process) {
        self.wait_line(gateway, 0, "Gateway started successfully", PATIENCE);
    }

    /// Waits for a line with `part` in it after the first `mark`.
    #[track_caller]
    pub(crate) fn wait_line(
        &self,
        process: &Process,
        mark: usize,
        part: &str,
        limit: Duration,
    ) -> String {
        wait::until(&format!("a line with {part:?}"), limit, || {
            let lines = lines_after(process, mark);
            let found = lines.iter().find(|line| line.contains(part));
            found
                .cloned()
                .ok_or_else(|| lines.last().cloned().unwrap_or_default())
        })
    }

    /// What all processes said, from the end of it.
    pub(crate) fn account(&self) -> String {
        let mut account = format!("---- after {:.1} s\n", self.begin.elapsed().as_secs_f64());
        let processes = self.processes.borrow();
        let platform = self.platform.as_ref().map(|platform| &platform.process);
        for process in platform.into_iter().chain(processes.iter().map(Rc::as_ref)) {
            let mut lines = lines_after(process, 0);
            lines.retain(|line| !PROBING.iter().any(|part| line.contains(part)));
            let skipped = lines.len().saturating_sub(SHOWN_LINES);
            let _ = writeln!(account, "---- {} ({skipped} lines skipped)", process.name());
            for line in lines.iter().skip(skipped) {
                let cut: String = line.chars().take(SHOWN_WIDTH).collect();
                let _ = writeln!(account, "{cut}");
            }
        }
        account
    }
}

/// The lines after the first `mark`.
pub(crate) fn lines_after(process: &Process, mark: usize) -> Vec<String> {
    let output = process.output();
    output.lines().skip(mark).map(str::to_owned).collect()
}

/// A certificate for the platform that is good for a month in either direction, so that a wrong
/// clock is not all that is needed to refuse it; gives the root that signed it.
fn certify(dir: &Path) -> String {
    const MONTH: Duration = Duration::from_secs(30 * 86_400);
    let key = || KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let now = OffsetDateTime::now_utc();
    let params = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = now - MONTH;
        params.not_after = now + MONTH;
        params
    };
    let mut root = params("Faults Root CA");
    root.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = CertifiedIssuer::self_signed(root, key()).expect("a root");
    let mut leaf = params("platform");
    leaf.subject_alt_names = vec![
        SanType::IpAddress(Machine::Platform.address().into()),
        SanType::DnsName(PLATFORM_NAME.try_into().expect("a name")),
    ];
    let leaf_key = key();
    let leaf = leaf.signed_by(&leaf_key, &root).expect("a leaf");
    write_private(&dir.join("root.pem"), &root.pem());
    write_private(&dir.join("platform.pem"), &leaf.pem());
    write_private(&dir.join("platform.key"), &leaf_key.serialize_pem());
    root.pem()
}

//! What the tunnel costs: throughput, CPU per GiB, new sessions, memory. One run, real processes, loopback.
//!
//! `make bench` prints a table; figures of one run may be compared with each other and, as ratios, with those
//! of another run. This process holds the clients and the targets; its own CPU is not counted.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(missing_docs, reason = "nothing outside uses a bench")]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use infisical::api::Client;
use infisical::api::types::OpenSession;
use infisical::config::settings::{ApiBase, CustomHeaders};
use infisical::names::GatewayName;
use infisical::pki::dial::{GatewayDialer, GatewayStream};
use infisical::secret::Secret;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const MIB: u64 = 1 << 20;
/// Moved in each measurement of throughput, over all streams together.
const BYTES: u64 = 512 * MIB;
/// Each figure is the median of so many runs.
const RUNS: usize = 3;
const NEW_SESSIONS: usize = 400;
const NEW_AT_ONCE: usize = 8;
const IDLE_SESSIONS: usize = 500;
const DEADLINE: Duration = Duration::from_secs(30);
const BUFFER: usize = 64 * 1024;

fn main() -> anyhow::Result<()> {
    // `cargo test --benches` only wants to know that it starts.
    if std::env::args().any(|arg| arg == "--test") {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run())
}

async fn run() -> anyhow::Result<()> {
    let stack = Stack::start().await?;
    let target = serve_targets().await?;
    let tcp = stack.dialer(target, "infisical-tcp-proxy").await?;
    let ping = stack.dialer(target, "infisical-ping").await?;

    println!("idle, before any session:");
    println!(
        "  RSS gateway {:.1} MiB, relay {:.1} MiB",
        stack.gateway.rss()?,
        stack.relay.rss()?
    );

    println!(
        "{:<26} {:>8} {:>16} {:>16}",
        "", "MiB/s", "gateway s/GiB", "relay s/GiB"
    );
    for streams in [1, 8] {
        for (name, upload) in [("download", false), ("upload", true)] {
            let mut runs = Vec::new();
            for _ in 0..RUNS {
                runs.push(throughput(&stack, &tcp, streams, upload).await?);
            }
            let [rate, gateway, relay] = medians(&runs);
            let label = format!("{name}, {streams} stream(s)");
            println!("{label:<26} {rate:>8.0} {gateway:>16.2} {relay:>16.2}");
        }
    }

    let [rate, gateway, relay] = new_sessions(&stack, &ping).await?;
    println!("new sessions: {rate:.0}/s, CPU ms each: gateway {gateway:.2}, relay {relay:.2}");

    let [gateway, relay] = idle_sessions(&stack, &tcp).await?;
    println!("per idle session: gateway {gateway:.0} KiB, relay {relay:.0} KiB");
    println!(
        "RSS at the end: gateway {:.1} MiB, relay {:.1} MiB",
        stack.gateway.rss()?,
        stack.relay.rss()?
    );
    Ok(())
}

/// MiB/s, and CPU seconds per GiB of gateway and relay.
async fn throughput(
    stack: &Stack,
    dialer: &GatewayDialer,
    streams: u64,
    upload: bool,
) -> anyhow::Result<[f64; 3]> {
    let share = BYTES / streams;
    let mut ready = Vec::new();
    for _ in 0..streams {
        ready.push(dialer.dial(DEADLINE).await?);
    }
    let (gateway, relay) = (stack.gateway.cpu()?, stack.relay.cpu()?);
    let begin = Instant::now();
    let mut moving = JoinSet::new();
    for stream in ready {
        moving.spawn(async move {
            if upload {
                send(stream, share).await
            } else {
                receive(stream, share).await
            }
        });
    }
    while let Some(moved) = moving.join_next().await {
        moved??;
    }
    let seconds = begin.elapsed().as_secs_f64();
    let gib = to_f64(BYTES) / to_f64(1 << 30);
    Ok([
        to_f64(BYTES / MIB) / seconds,
        (stack.gateway.cpu()? - gateway) / gib,
        (stack.relay.cpu()? - relay) / gib,
    ])
}

async fn receive(mut stream: GatewayStream, bytes: u64) -> anyhow::Result<()> {
    stream.write_u64(bytes).await?;
    stream.flush().await?;
    let mut buffer = vec![0; BUFFER];
    let mut left = bytes;
    while left > 0 {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            bail!("the stream ended {left} bytes early");
        }
        left = left.saturating_sub(n as u64);
    }
    Ok(())
}

async fn send(mut stream: GatewayStream, bytes: u64) -> anyhow::Result<()> {
    // 0: nothing to send back but the number of bytes received.
    stream.write_u64(0).await?;
    let block = vec![0x5a; BUFFER];
    for _ in 0..bytes / BUFFER as u64 {
        stream.write_all(&block).await?;
    }
    stream.shutdown().await?;
    let received = stream.read_u64().await?;
    if received != bytes {
        bail!("{received} of {bytes} bytes arrived")
    } else {
        Ok(())
    }
}

/// Sessions per second, and CPU milliseconds per session of gateway and relay.
async fn new_sessions(stack: &Stack, dialer: &GatewayDialer) -> anyhow::Result<[f64; 3]> {
    let (gateway, relay) = (stack.gateway.cpu()?, stack.relay.cpu()?);
    let begin = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..NEW_AT_ONCE {
        let dialer = dialer.clone();
        workers.spawn(async move {
            for _ in 0..NEW_SESSIONS / NEW_AT_ONCE {
                let mut answer = String::new();
                dialer
                    .dial(DEADLINE)
                    .await?
                    .read_to_string(&mut answer)
                    .await?;
                if answer != "PONG\n" {
                    bail!("the answer to a ping was {answer:?}");
                }
            }
            Ok(())
        });
    }
    while let Some(done) = workers.join_next().await {
        done??;
    }
    let sessions = to_f64(NEW_SESSIONS as u64);
    Ok([
        sessions / begin.elapsed().as_secs_f64(),
        (stack.gateway.cpu()? - gateway) * 1000.0 / sessions,
        (stack.relay.cpu()? - relay) * 1000.0 / sessions,
    ])
}

/// KiB per idle session of gateway and relay.
async fn idle_sessions(stack: &Stack, dialer: &GatewayDialer) -> anyhow::Result<[f64; 2]> {
    let (gateway, relay) = (stack.gateway.rss()?, stack.relay.rss()?);
    let mut open = Vec::new();
    for _ in 0..IDLE_SESSIONS {
        let mut stream = dialer.dial(DEADLINE).await?;
        // One byte of data has gone through: the session is complete, then idle.
        stream.write_u64(1).await?;
        stream.flush().await?;
        stream.read_u8().await?;
        open.push(stream);
    }
    let sessions = to_f64(IDLE_SESSIONS as u64);
    let gateway = (stack.gateway.rss()? - gateway) * 1024.0 / sessions;
    let relay = (stack.relay.rss()? - relay) * 1024.0 / sessions;
    drop(open);
    Ok([gateway, relay])
}

/// A target that reads how much to send, sends it, then counts what it receives and answers the count.
async fn serve_targets() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    #[expect(clippy::disallowed_methods, reason = "ends with the bench")]
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move { target(stream).await.ok() });
        }
    });
    Ok(address)
}

async fn target(mut stream: TcpStream) -> std::io::Result<()> {
    let mut left = stream.read_u64().await?;
    let mut buffer = vec![0x5a; BUFFER];
    while left > 0 {
        let n = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
        stream
            .write_all(buffer.get(..n).unwrap_or_default())
            .await?;
        left = left.saturating_sub(n as u64);
    }
    let mut received = 0_u64;
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            break;
        }
        received = received.saturating_add(n as u64);
    }
    stream.write_u64(received).await
}

/// Platform, relay and gateway, as processes.
struct Stack {
    gateway: Process,
    relay: Process,
    _platform: Process,
    client: Client,
    token: Secret,
    _dir: tempfile::TempDir,
}

impl Stack {
    async fn start() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let path = |name: &str| dir.path().join(name).display().to_string();
        let host = free_loopback()?;
        let platform = Process::start(&[
            "platform",
            "start",
            "--listen",
            "127.0.0.1:0",
            "--state-dir",
            &path("platform"),
            "--ready-file",
            &path("url"),
        ])?;
        let url = wait_for_file(&dir.path().join("url")).await?;
        let client = Client::try_new(&ApiBase::parse(url.trim())?, &CustomHeaders(Vec::new()))?;
        let token =
            Secret::new(fs::read_to_string(dir.path().join("platform/admin-token"))?.trim());
        let identity: serde_json::Value = client
            .post(
                "creating an identity",
                "/v1/embedded/identities",
                Some(&token),
                &json!({"name": "bench", "method": "token"}),
            )
            .await?;
        let access = identity
            .get("accessToken")
            .and_then(|t| t.as_str())
            .context("no token")?;
        write_secret(&dir.path().join("token"), access)?;
        let common = ["--domain", url.trim(), "--token-file", &path("token")];
        let (ssh, tls) = (format!("{host}:2222"), format!("{host}:8443"));
        let relay = Process::start(
            &[
                &[
                    "relay",
                    "start",
                    "--name",
                    "bench",
                    "--host",
                    &host,
                    "--ssh-listen",
                    &ssh,
                    "--tls-listen",
                    &tls,
                ][..],
                &common,
            ]
            .concat(),
        )?;
        wait_for_relay(&client, &token).await?;
        let gateway = Process::start(
            &[
                &["gateway", "start", "bench", "--target-relay-name", "bench"][..],
                &common,
            ]
            .concat(),
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
        Ok(GatewayDialer::try_new(&credentials, alpn)?)
    }

    async fn wait_until_reachable(&self) -> anyhow::Result<()> {
        let end = Instant::now() + DEADLINE;
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        loop {
            let attempt = async {
                let mut answer = String::new();
                let mut stream = self
                    .dialer(nowhere, "infisical-ping")
                    .await?
                    .dial(DEADLINE)
                    .await?;
                stream.read_to_string(&mut answer).await?;
                anyhow::Ok(())
            };
            match attempt.await {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > end => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

/// A child of the bench, killed with it.
struct Process(Child);

impl Process {
    fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        let child = Command::new(env!("CARGO_BIN_EXE_infisical"))
            .args(arguments)
            .arg("--log-level=warn")
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Self(child))
    }

    /// CPU seconds used so far (proc_pid_stat(5), fields 14 and 15).
    fn cpu(&self) -> anyhow::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let (_, fields) = stat.rsplit_once(')').context("no name")?;
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|n| n.parse().unwrap_or(0_u64))
            .sum();
        // The unit of these fields is 1/100 s on every Linux that this runs on (USER_HZ).
        Ok(to_f64(ticks) / 100.0)
    }

    /// Resident memory in MiB.
    fn rss(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status
            .lines()
            .find(|l| l.starts_with("VmRSS:"))
            .context("no VmRSS")?;
        let kib: u64 = line
            .split_whitespace()
            .nth(1)
            .context("no number")?
            .parse()?;
        Ok(to_f64(kib) / 1024.0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
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

/// A loopback address with both of a relay's ports free.
fn free_loopback() -> anyhow::Result<String> {
    let [a, b, ..] = std::process::id().to_be_bytes().map(|byte| byte.max(1));
    for c in 1..250_u8 {
        let host = format!("127.{}.{}.{c}", a.wrapping_add(64), b);
        let free = |port: u16| std::net::TcpListener::bind((host.as_str(), port)).is_ok();
        if free(2222) && free(8443) {
            return Ok(host);
        }
    }
    bail!("no loopback address has ports 2222 and 8443 free")
}

fn medians(runs: &[[f64; 3]]) -> [f64; 3] {
    std::array::from_fn(|column| {
        let mut values: Vec<f64> = runs
            .iter()
            .filter_map(|run| run.get(column).copied())
            .collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    })
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn to_f64(n: u64) -> f64 {
    n as f64
}

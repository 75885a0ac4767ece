//! What one relay and one gateway carry: memory for each gateway and each session, the time until
//! all gateways are back after a restart of the relay, and the CPU of keepalives. Three sizes of
//! each, so that a cost that grows faster than their number shows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use infisical_api::types::GatewayCredentials;
use infisical_host::limits;
use infisical_pki::dial::RelayDialer;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::entrance::{Entrance, Stream};
use crate::light_gateway::Crowd;
use crate::peers::{free_address, wait_until_listens};
use crate::process::Process;
use crate::report::{Report, Row, to_f64};
use crate::stack::{Between, Stack};
use crate::target::{self, Ask};
use crate::within;

/// Gateways of the one relay.
const GATEWAYS: [usize; 3] = [200, 700, 2000];
/// Idle sessions of the one relay, beside the most gateways.
const RELAY_SESSIONS: [usize; 3] = [2000, 7000, 20_000];
/// Idle sessions of the one gateway.
const GATEWAY_SESSIONS: [usize; 3] = [1000, 3000, 10_000];
/// Descriptors that a relay and this process need at most, each.
const DESCRIPTORS: u64 = 24_000;
/// Of these, for all but gateways and sessions.
const SPARE: usize = 500;

/// All clients here come from one address and belong to one organization.
const RELAY_LIMITS: [(&str, &str); 3] = [
    ("--max-connections-per-source", "65536"),
    ("--max-clients", "65536"),
    ("--max-clients-per-gateway", "65536"),
];
/// Gateways that carry all sessions of the one relay.
const WAYS: usize = 100;

/// Opened and closed before: what a process sets up once is no cost of a session.
const WARM_UP: usize = 16;
/// Gateways that register at once, and sessions that are opened at once.
const REGISTERING: usize = 8;
const OPENING: usize = 64;
/// Below what a relay grants to one source.
const HANDSHAKES: usize = 200;
/// Attempts of one session: a relay that is busy may refuse a newcomer.
const ATTEMPTS: u32 = 20;
const AGAIN: Duration = Duration::from_millis(250);
/// Over which the CPU of keepalives is counted.
const MINUTE: Duration = Duration::from_secs(60);
/// Limit for the memory to become what it will be.
const SETTLE: Duration = Duration::from_secs(5);
/// Limit for each step with all gateways or sessions.
const LONGEST: Duration = Duration::from_secs(180);
/// Limit for one session.
const DIAL: Duration = Duration::from_secs(20);

/// Lets this process and those that it starts open enough descriptors, if the system does.
pub(crate) fn raise_limits() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && hard < DESCRIPTORS
    {
        // Only root may raise the hard limit.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS, DESCRIPTORS);
    }
    limits::raise_descriptors();
}

pub(crate) async fn measure(report: &mut Report) -> anyhow::Result<()> {
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let limit = usize::try_from(limit)?.saturating_sub(SPARE);
    one_gateway(limit, report).await?;
    one_relay(limit, report).await
}

/// These sizes, the largest as small as it must be for the descriptors that each program may have.
fn possible(sizes: [usize; 3], limit: usize, report: &Report) -> Vec<usize> {
    let mut sizes: Vec<usize> = sizes.map(|size| size.min(limit)).to_vec();
    sizes.dedup();
    if sizes.last() == Some(&limit) {
        report.note(&format!("no more than {limit} descriptors are allowed"));
    }
    sizes
}

async fn one_gateway(limit: usize, report: &mut Report) -> anyhow::Result<()> {
    report.section("idle sessions in one gateway and its relay");
    let stack = Stack::start_with(Between::Nothing, &RELAY_LIMITS).await?;
    let processes = [("gateway", &stack.gateway), ("relay", &stack.relay)];
    // In a process of its own, which has descriptors of its own.
    let address = free_address()?;
    let _target = Process::start_self(&[target::NAME, &address.to_string()])?;
    wait_until_listens(address).await?;
    let way = Way::Target(stack.entrance_to(address).await?);
    drop(open_all(vec![way.clone(); WARM_UP]).await?);
    let before = settled(&processes).await?;
    let mut open = Vec::new();
    for size in possible(GATEWAY_SESSIONS, limit, report) {
        let (more, rate) = open_all(vec![way.clone(); size.saturating_sub(open.len())]).await?;
        open.extend(more);
        report.row(&Row::new(format!("{size}: opened"), "1/s", rate));
        let now = settled(&processes).await?;
        for (((name, _), before), now) in processes.iter().zip(&before).zip(now) {
            per_piece(report, &format!("{size}: {name}"), (*before, now), size);
        }
    }
    Ok(())
}

async fn one_relay(limit: usize, report: &mut Report) -> anyhow::Result<()> {
    report.section("gateways of one relay");
    let mut stack = Stack::start_with(Between::Nothing, &RELAY_LIMITS).await?;
    let before = stack.relay.settled_rss(SETTLE).await?;
    let mut crowd = Crowd::new(HANDSHAKES);
    let mut known = Vec::new();
    for size in possible(GATEWAYS, limit, report) {
        for credentials in register(&stack, known.len()..size).await? {
            crowd.add(&credentials)?;
            known.push(credentials);
        }
        all_connected(&crowd).await?;
        stack.restart_relay().await?;
        let begin = Instant::now();
        all_connected(&crowd).await?;
        let seconds = begin.elapsed().as_secs_f64();
        let back = format!("{size}: all back after a restart");
        report.row(&Row::new(back, "s", seconds));
        let cpu = stack.relay.cpu()? * 1000.0 / to_f64(size as u64);
        report.row(&Row::new("  CPU of it, each", "ms", cpu));
        let now = stack.relay.settled_rss(SETTLE).await?;
        per_piece(report, &format!("{size}: relay"), (before, now), size);
        let cpu = stack.relay.cpu()?;
        tokio::time::sleep(MINUTE).await;
        let minute = (stack.relay.cpu()? - cpu) * 1000.0 / to_f64(size as u64);
        let what = format!("{size}: CPU a minute, 1,000 idle gateways");
        report.row(&Row::new(what, "s", minute));
    }
    report.section("idle sessions in one relay, through 100 of its gateways");
    // The platform bounds how often one client may ask.
    let some = known.get(..WAYS).unwrap_or(&known);
    let ways = within("credentials", LONGEST, ask_all(&stack, some)).await?;
    let before = stack.relay.settled_rss(SETTLE).await?;
    let mut open = Vec::new();
    for size in possible(RELAY_SESSIONS, limit.saturating_sub(known.len()), report) {
        let more = ways.iter().cycle().skip(open.len());
        let more = more.take(size.saturating_sub(open.len())).cloned();
        let (more, rate) = open_all(more.collect()).await?;
        open.extend(more);
        report.row(&Row::new(format!("{size}: opened"), "1/s", rate));
        let now = stack.relay.settled_rss(SETTLE).await?;
        per_piece(report, &format!("{size}: relay"), (before, now), size);
    }
    Ok(())
}

/// RSS in all, and what each of `size` costs.
fn per_piece(report: &mut Report, what: &str, (before, now): (f64, f64), size: usize) {
    report.row(&Row::new(format!("{what}, RSS"), "MiB", now));
    let each = (now - before) * 1024.0 / to_f64(size as u64);
    report.row(&Row::new("  each", "KiB", each));
}

async fn settled(processes: &[(&str, &Process); 2]) -> anyhow::Result<Vec<f64>> {
    let mut all = Vec::new();
    for (_, process) in processes {
        all.push(process.settled_rss(SETTLE).await?);
    }
    Ok(all)
}

/// Registers gateways of these numbers.
async fn register(
    stack: &Stack,
    numbers: std::ops::Range<usize>,
) -> anyhow::Result<Vec<GatewayCredentials>> {
    use futures_util::{StreamExt as _, TryStreamExt as _};
    let registering = futures_util::stream::iter(numbers)
        .map(|number| stack.register_gateway(name(number)))
        .buffer_unordered(REGISTERING)
        .try_collect();
    within("registering gateways", LONGEST, registering).await
}

fn name(number: usize) -> String {
    format!("light-{number}")
}

/// A way to each gateway: TLS 1 only, for a light gateway has no TLS 2.
async fn ask_all(stack: &Stack, gateways: &[GatewayCredentials]) -> anyhow::Result<Vec<Way>> {
    let mut ways = Vec::new();
    for credentials in gateways {
        let name = credentials.name.clone().context("a gateway has no name")?;
        ways.push(Way::Relay(stack.relay_dialer(&name).await?));
    }
    Ok(ways)
}

async fn all_connected(crowd: &Crowd) -> anyhow::Result<()> {
    let connected = async {
        while crowd.connected() < crowd.len() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        anyhow::Ok(())
    };
    let all = within("all gateways", LONGEST, connected).await;
    all.with_context(|| format!("{} of {} are connected", crowd.connected(), crowd.len()))
}

/// How a session is opened.
#[derive(Clone)]
enum Way {
    /// Through gateway and target.
    Target(Entrance),
    /// Through the relay to a light gateway.
    Relay(RelayDialer),
}

impl Way {
    /// A session that is idle after one byte both ways.
    async fn open(self) -> anyhow::Result<Stream> {
        let mut attempts = 1;
        loop {
            match within("a session", DIAL, Box::pin(self.try_open())).await {
                Err(_) if attempts < ATTEMPTS => attempts += 1,
                done => return done,
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn try_open(&self) -> anyhow::Result<Stream> {
        let mut stream: Stream = match self {
            Self::Target(entrance) => entrance.ask(Ask::Echo).await?,
            Self::Relay(dialer) => Box::new(dialer.dial(DIAL).await?),
        };
        stream.write_u8(1).await?;
        stream.flush().await?;
        stream.read_u8().await?;
        Ok(stream)
    }
}

/// Opens one session by each of `ways`, and tells how many a second.
async fn open_all(ways: Vec<Way>) -> anyhow::Result<(Vec<Stream>, f64)> {
    let permits = Arc::new(Semaphore::new(OPENING));
    let (count, begin) = (to_f64(ways.len() as u64), Instant::now());
    let mut opening = JoinSet::new();
    for way in ways {
        let permits = Arc::clone(&permits);
        opening.spawn(async move {
            let _permit = permits.acquire_owned().await?;
            way.open().await
        });
    }
    let all = async {
        let mut sessions = Vec::new();
        while let Some(session) = opening.join_next().await {
            sessions.push(session??);
        }
        anyhow::Ok(sessions)
    };
    let sessions = within("idle sessions", LONGEST, all).await?;
    Ok((sessions, count / begin.elapsed().as_secs_f64()))
}

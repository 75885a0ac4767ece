//! Much at once: two thousand sessions through one gateway, and two hundred gateways on one relay.
//! Nothing may be lost, and what it costs is printed.

use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use tokio::sync::{Barrier, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::figures::{Figures, descriptors};
use crate::light_gateway::LightGateway;
use crate::runner::{Case, Outcome};
use crate::support::process::Process;
use crate::support::session::Way;
use crate::support::stack::{Plan, Stack};
use crate::support::tls::Inner;
use crate::support::{PATIENCE, eventually};
use crate::talk::{self, Talk};

/// For all of it.
const LIMIT: Duration = Duration::from_secs(90);
/// Sessions of the one real gateway.
const SESSIONS: usize = 2000;
/// Gateways beside it, and the sessions of each.
const GATEWAYS: usize = 200;
const TUNNELS_PER_GATEWAY: usize = 2;
/// Opened and closed before anything is measured: what a process sets up once is no cost of a
/// session.
const WARM_UP: usize = 32;
/// Gateways that register at once.
const REGISTERING: usize = 8;
/// Round trips of each session, and the time over which they are spread: 2400 a second in all.
const ROUND_TRIPS: u32 = 8;
const SPREAD: Duration = Duration::from_secs(8);
/// Bytes of one round trip.
const MESSAGE: u16 = 256;
/// Bytes that every session then sends each way, all at once.
const BULK: u64 = 64 << 10;

pub(super) const CASES: &[Case] = &[Case {
    name: "many_sessions_and_gateways_lose_nothing",
    row: "2 000 sessions with data through one gateway, beside 200 gateways on the same relay",
    bound: None,
    labs: 1,
    run: |_| {
        let needed = (SESSIONS + GATEWAYS) * 2 + 1000;
        infisical_host::limits::raise_descriptors();
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("limits");
        if most < needed as u64 {
            return Outcome::skipped(&format!("{needed} descriptors are needed, {most} allowed"));
        }
        // Of this thread's network, as all its threads.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async {
            let all = tokio::time::timeout(LIMIT, load());
            Outcome::happened().with_figures(all.await.expect("all of it in time"))
        })
    },
}];

/// Does it all, and tells what it cost; panics when a byte is lost or a session fails.
async fn load() -> String {
    let plan = Plan {
        log_level: "info",
        ..Plan::default()
    };
    let stack = Stack::plan(&plan).await;
    let target = talk::target(stack.host).await;
    let way = stack.way(&target).await;
    let daemons = [&stack.relay, &stack.gateway];

    let idle = daemons.map(|daemon| descriptors(daemon.pid()));
    drop(talk::open_all(vec![way.clone(); WARM_UP], 0).await);
    given_back(&daemons, idle).await;
    let before = daemons.map(|daemon| Figures::of(daemon.pid()));

    let light = light_gateways(&stack).await;
    let with_gateways = daemons.map(|daemon| Figures::of(daemon.pid()));

    let begin = Instant::now();
    let mut sessions = talk::open_all(vec![way; SESSIONS], 1_000_000).await;
    let opening = begin.elapsed();
    let with_sessions = daemons.map(|daemon| Figures::of(daemon.pid()));
    let ways = light
        .iter()
        .flat_map(|(_, way)| vec![way.clone(); TUNNELS_PER_GATEWAY]);
    sessions.extend(talk::open_all(ways.collect(), 2_000_000).await);
    let all = sessions.len();
    assert_eq!(all, SESSIONS + GATEWAYS * TUNNELS_PER_GATEWAY);

    let begin = Instant::now();
    let (sessions, mut times) = round_trips(sessions).await;
    let spread = begin.elapsed();
    times.sort_unstable();
    let part = |permille: usize| times[(times.len() * permille / 1000).min(times.len() - 1)];
    let round_trip = [part(500), part(990)];

    let begin = Instant::now();
    let sessions = exchanges(sessions).await;
    let bulk = begin.elapsed();
    let busiest = daemons.map(|daemon| Figures::of(daemon.pid()));

    assert_eq!(target.accepted(), WARM_UP + SESSIONS);
    let gone = light.iter().filter(|(gateway, _)| !gateway.is_connected());
    assert_eq!(gone.count(), 0, "gateways have lost their tunnel");
    let mut ending = JoinSet::new();
    for talk in sessions {
        ending.spawn(async move { talk.end().await.expect("a clean end") });
    }
    while let Some(ended) = ending.join_next().await {
        ended.expect("a session");
    }
    // One for each of the light gateways is still the relay's.
    given_back(&daemons, [idle[0] + GATEWAYS, idle[1]]).await;

    let each = |more: &Figures, before: &Figures, count: usize| {
        let kib = more.memory.saturating_sub(before.memory) >> 10;
        kib as f64 / count as f64
    };
    format!(
        "{SESSIONS} sessions through one gateway (opened in {:.1} s) and {} through {GATEWAYS} others on one relay: {} round \
         trips of {MESSAGE} bytes in {:.1} s, half within {:.2} ms, 99 of 100 within {:.1} ms, the slowest {:.1} ms; then \
         {} KiB each way by all at once in {:.1} s; nothing lost. RSS: relay {:.1} KiB a gateway, {:.1} KiB a session; \
         gateway {:.1} KiB a session; at the end {} and {} MiB",
        opening.as_secs_f64(),
        GATEWAYS * TUNNELS_PER_GATEWAY,
        times.len(),
        spread.as_secs_f64(),
        milliseconds(round_trip[0]),
        milliseconds(round_trip[1]),
        milliseconds(part(1000)),
        BULK >> 10,
        bulk.as_secs_f64(),
        each(&with_gateways[0], &before[0], GATEWAYS),
        each(&with_sessions[0], &with_gateways[0], SESSIONS),
        each(&with_sessions[1], &with_gateways[1], SESSIONS),
        busiest[0].memory >> 20,
        busiest[1].memory >> 20,
    )
}

/// Waits until the daemons have no more descriptors than they should.
async fn given_back(daemons: &[&Process; 2], due: [usize; 2]) {
    for (daemon, due) in daemons.iter().zip(due) {
        eventually("the descriptors are given back", || async {
            let now = descriptors(daemon.pid());
            if now <= due {
                Ok(())
            } else {
                Err(format!("{now} open, {due} due"))
            }
        })
        .await;
    }
}

/// So many gateways more, each with a way to it.
async fn light_gateways(stack: &Stack) -> Vec<(LightGateway, Way)> {
    let places = Semaphore::new(REGISTERING);
    let one = async |number: usize| {
        let _place = places.acquire().await.expect("never closed");
        let name = format!("light-{number}");
        let credentials = stack.register_gateway(&name).await;
        let gateway = LightGateway::connect(&credentials).await;
        // It is its own target, whatever it is asked for.
        let way = stack.platform.way(&name, "localhost", 1).await;
        (gateway, way)
    };
    futures_util::future::join_all((0..GATEWAYS).map(one)).await
}

/// Each session makes its round trips, spread over the time and against each other.
async fn round_trips(sessions: Vec<Talk<Inner>>) -> (Vec<Talk<Inner>>, Vec<Duration>) {
    let begin = Instant::now();
    let every = SPREAD / ROUND_TRIPS;
    let all = u32::try_from(sessions.len()).expect("few");
    let mut talking = JoinSet::new();
    for (number, mut talk) in (0..).zip(sessions) {
        let first = every * number / all;
        talking.spawn(async move {
            let mut times = Vec::new();
            for turn in 0..ROUND_TRIPS {
                tokio::time::sleep_until(begin + first + every * turn).await;
                times.push(talk.round_trip(MESSAGE).await.expect("a round trip"));
            }
            (talk, times)
        });
    }
    let (sessions, times): (Vec<_>, Vec<_>) = all_of(talking).await.into_iter().unzip();
    (sessions, times.concat())
}

/// Every session sends and receives at once, and no one begins before all are ready.
async fn exchanges(sessions: Vec<Talk<Inner>>) -> Vec<Talk<Inner>> {
    let ready = Arc::new(Barrier::new(sessions.len()));
    let mut talking = JoinSet::new();
    for mut talk in sessions {
        let ready = Arc::clone(&ready);
        talking.spawn(async move {
            ready.wait().await;
            talk.exchange(BULK).await.expect("every byte both ways");
            talk
        });
    }
    all_of(talking).await
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

async fn all_of<T: 'static>(mut tasks: JoinSet<T>) -> Vec<T> {
    let all = async {
        let mut results = Vec::new();
        while let Some(result) = tasks.join_next().await {
            results.push(result.expect("a task"));
        }
        results
    };
    tokio::time::timeout(PATIENCE, all)
        .await
        .expect("all of them in time")
}

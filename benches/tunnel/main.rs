//! What the tunnel costs, beside its goals, the deployed programs and other tunnels: throughput,
//! CPU per GiB, round trips, new sessions, memory. One run, real processes, loopback.
//!
//! `make bench` prints a table; `make bench ROWS="throughput peers"` only those rows. Figures of
//! one run may be compared with each other and, as ratios, with those of another run. This process
//! holds the clients and the targets; its own CPU is not counted. Every wait has a deadline, and
//! what missed it is printed as `stalled`.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(missing_docs, reason = "nothing outside uses a bench")]

mod compare;
mod delay;
mod entrance;
mod go_client;
mod light_gateway;
mod measure;
mod peers;
mod process;
mod report;
mod stack;
mod target;

use std::future::Future;
use std::time::Duration;

use anyhow::{Context as _, bail};

use measure::{delayed, go, memory, round_trip, scale, sequences, sessions, stalled, throughput};
use report::Report;
use stack::{Between, Stack};
use target::Target;

/// What `cargo bench` adds to the arguments.
const BENCH: &str = "--bench";
const MIB: u64 = 1 << 20;
/// Each read and write of the bench.
const BUFFER: usize = 64 * 1024;

/// What can be asked for, in the order in which it is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rows {
    Memory,
    Throughput,
    Go,
    RoundTrip,
    Sessions,
    Delay,
    Sequences,
    Stalled,
    Peers,
    Scale,
}

impl Rows {
    const ALL: [(&'static str, Self); 10] = [
        ("memory", Self::Memory),
        ("throughput", Self::Throughput),
        ("go", Self::Go),
        ("round-trip", Self::RoundTrip),
        ("sessions", Self::Sessions),
        ("delay", Self::Delay),
        ("sequences", Self::Sequences),
        ("stalled", Self::Stalled),
        ("peers", Self::Peers),
        ("scale", Self::Scale),
    ];

    /// Those that the arguments name; without any all but `scale`, which takes ten minutes.
    fn parse(arguments: &[String]) -> anyhow::Result<Vec<Self>> {
        let mut wanted = Vec::new();
        for name in arguments.iter().filter(|name| *name != BENCH) {
            let known = Self::ALL.iter().find(|(known, _)| known == name);
            let Some((_, rows)) = known else {
                let known = Self::ALL.map(|(name, _)| name).join(", ");
                bail!("there are no rows {name:?}; there are: {known}");
            };
            wanted.push(*rows);
        }
        if wanted.is_empty() {
            wanted = Self::ALL.map(|(_, rows)| rows).to_vec();
            wanted.retain(|rows| *rows != Self::Scale);
        }
        Ok(wanted)
    }
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    match arguments.split_first() {
        Some((first, peer)) if first == peers::SERVE => runtime.block_on(peers::serve(peer)),
        _ if arguments.iter().any(|argument| argument == BENCH) => {
            runtime.block_on(run(&Rows::parse(&arguments)?))
        }
        // `cargo test --benches` only wants to know that it starts.
        _ => Ok(()),
    }
}

async fn run(wanted: &[Rows]) -> anyhow::Result<()> {
    let mut report = Report::default();
    let cores = std::thread::available_parallelism()?;
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or_default();
    println!("cores: {cores}; load before the start: {load}");
    let target = Target::serve().await?;
    if wanted.contains(&Rows::Scale) {
        // Before the first program starts: it inherits the limit.
        scale::raise_limits();
    }
    // For everything that does not ask for one of its own.
    let stack = Stack::start(Between::Nothing).await?;
    for (_, rows) in Rows::ALL.iter().filter(|(_, rows)| wanted.contains(rows)) {
        let measured = match rows {
            Rows::Memory => memory::measure(&target, &mut report).await,
            Rows::Throughput => throughput::measure(&stack, &target, &mut report).await,
            Rows::Go => go::measure(&stack, &target, &mut report).await,
            Rows::RoundTrip => round_trip::measure(&stack, &target, &mut report).await,
            Rows::Sessions => sessions::measure(&stack, &mut report).await,
            Rows::Delay => delayed::measure(&target, &mut report).await,
            Rows::Sequences => sequences::measure(&target, &mut report).await,
            Rows::Stalled => stalled::measure(&stack, &target, &mut report).await,
            Rows::Peers => peers::measure(&stack, &target, &mut report).await,
            Rows::Scale => scale::measure(&mut report).await,
        };
        // The other rows are still of interest.
        if let Err(error) = measured {
            report.failed(&error);
        }
    }
    report.end();
    Ok(())
}

/// Waits for `work`, but not forever.
async fn within<T, E: Into<anyhow::Error>>(
    what: &str,
    limit: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> anyhow::Result<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done.map_err(Into::into).with_context(|| what.to_owned()),
        Err(_) => bail!("{what}: stalled, nothing came within {limit:?}"),
    }
}

/// Something that ends with the bench, or with its connection.
fn in_background<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) {
    #[expect(clippy::disallowed_methods, reason = "a bench has no scopes")]
    drop(tokio::spawn(work));
}

//! Clients that stop reading, and targets that do: the memory they hold, and what others notice of
//! them.

use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::round_trip::round_trips;
use super::{Direction, moved};
use crate::entrance::Entrance;
use crate::report::{Goal, Report, Row, median, quantile};
use crate::stack::{Between, Stack};
use crate::target::{Ask, Target};
use crate::{MIB, within};

const CLIENTS: usize = 32;
/// A client reads so much of its download, then nothing more; an upload moves at least so much.
const SOME: usize = 64 * 1024;
/// More than any buffer on the way holds.
const DOWNLOAD: u64 = 1024 * MIB;
/// Limit for the next of them to get so far.
const STALL: Duration = Duration::from_secs(5);
/// Limit for the memory to become what it will be.
const SETTLE: Duration = Duration::from_secs(5);
/// Limit for all round trips beside them, and for all downloads.
const BESIDE: Duration = Duration::from_secs(10);
/// A download beside them.
const BYTES: u64 = 256 * MIB;
const RUNS: usize = 3;

/// The deployed programs, MiB of relay and gateway.
const DEPLOYED: [f64; 2] = [216.0, 67.0];
const GOAL: Goal = Goal::AtMost(48.0);

pub(crate) async fn measure(
    idle: &Stack,
    target: &Target,
    report: &mut Report,
) -> anyhow::Result<()> {
    let alone = bulk(&idle.entrance(target).await?).await?;
    for (direction, title) in [
        (Direction::Download, "32 clients that stopped reading"),
        (Direction::Upload, "32 uploads that no one reads"),
    ] {
        report.section(title);
        // One that has served no one: memory that was in use once says nothing.
        let stack = Stack::start(Between::Nothing).await?;
        let entrance = stack.entrance(target).await?;
        let stalled = Stalled::start(&entrance, direction).await;
        let processes = [("relay", &stack.relay), ("gateway", &stack.gateway)];
        for ((name, process), deployed) in processes.iter().zip(DEPLOYED) {
            let rss = process.settled_rss(SETTLE).await?;
            // If not all could begin, their memory is not what was asked for.
            let row = Row::new(
                format!("RSS {name}"),
                "MiB",
                stalled.complete.is_ok().then_some(rss),
            );
            report.row(&row.goal(GOAL).deployed(deployed));
        }
        if let Err(error) = &stalled.complete {
            report.note(&format!("{error:#}"));
        }
        let trips = within("round trips", BESIDE, round_trips(&entrance)).await;
        let of = |share| trips.as_ref().ok().and_then(|all| quantile(all, share));
        report.row(&Row::new("round trip beside them, median", "ms", of(0.5)));
        report.row(&Row::new("  99 of 100", "ms", of(0.99)));
        let beside = within("downloads", BESIDE, bulk(&entrance)).await.ok();
        report.row(&Row::new("download beside them", "MiB/s", beside));
        let share = beside.map(|beside| beside / alone);
        report.row(&Row::new("  compared with one alone", "x", share));
    }
    Ok(())
}

/// MiB/s of one download.
async fn bulk(entrance: &Entrance) -> anyhow::Result<f64> {
    let mut rates = Vec::new();
    for _ in 0..RUNS {
        let one = (1, Direction::Download);
        rates.push(moved(entrance, &[], one, BYTES).await?.rate);
    }
    median(&rates).context("no runs")
}

/// Streams that are stuck, or try to be. They end with this.
struct Stalled {
    _streams: JoinSet<anyhow::Result<()>>,
    /// Whether all of them got as far as they should.
    complete: anyhow::Result<()>,
}

impl Stalled {
    async fn start(entrance: &Entrance, direction: Direction) -> Self {
        let mut streams = JoinSet::new();
        let (there, mut arrivals) = mpsc::channel(CLIENTS);
        for _ in 0..CLIENTS {
            let (entrance, there) = (entrance.clone(), there.clone());
            streams.spawn(async move {
                let mut stream = entrance.dial().await?;
                match direction {
                    Direction::Download => {
                        Ask::Send(DOWNLOAD).write(&mut stream).await?;
                        let mut some = vec![0; SOME];
                        stream.read_exact(&mut some).await?;
                        there.send(()).await?;
                        std::future::pending().await
                    }
                    Direction::Upload => {
                        Ask::Stall.write(&mut stream).await?;
                        let block = vec![0x5a; SOME];
                        stream.write_all(&block).await?;
                        there.send(()).await?;
                        loop {
                            stream.write_all(&block).await?;
                        }
                    }
                }
            });
        }
        drop(there);
        let all = async {
            for arrived in 0..CLIENTS {
                let next = tokio::time::timeout(STALL, arrivals.recv()).await;
                if !matches!(next, Ok(Some(()))) {
                    bail!("stalled: {arrived} of {CLIENTS} streams moved {SOME} bytes");
                }
            }
            Ok(())
        };
        let complete = all.await;
        Self {
            _streams: streams,
            complete,
        }
    }
}

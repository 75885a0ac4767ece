//! One stream over a long way: 80 ms there and back between gateway and relay, and no other limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::Direction;
use super::round_trip::round_trips;
use crate::entrance::Entrance;
use crate::report::{Goal, Report, Row, quantile, to_f64};
use crate::stack::{Between, Stack};
use crate::target::{Ask, Target};
use crate::{BUFFER, MIB, delay};

/// In each direction.
const ONE_WAY: Duration = Duration::from_millis(40);
/// A stream is over after so many bytes, or so much time.
const BYTES: u64 = 1024 * MIB;
const LONGEST: Duration = Duration::from_secs(10);
/// How often the progress is read.
const SAMPLE: Duration = Duration::from_millis(20);

const GOAL: Goal = Goal::AtLeast(200.0);
/// The deployed programs, MiB/s.
const DEPLOYED: f64 = 23.0;

pub(crate) async fn measure(target: &Target, report: &mut Report) -> anyhow::Result<()> {
    report.section("one stream, 80 ms between gateway and relay");
    // What the line itself can carry.
    let line = Entrance::Tcp(delay::start(target.address, ONE_WAY).await?);
    let bare = rates(&line, target, Direction::Download).await?;
    let bare = bare.map(|rates| rates.second_half);
    report.row(&Row::new("TCP over the line, no tunnel", "MiB/s", bare));
    let stack = Stack::start(Between::Delay(ONE_WAY)).await?;
    let entrance = stack.entrance(target).await?;
    let trips = round_trips(&entrance).await?;
    // That the line is there at all.
    report.row(&Row::new("round trip", "ms", quantile(&trips, 0.5)));
    for direction in [Direction::Download, Direction::Upload] {
        let name = direction.name();
        let rates = rates(&entrance, target, direction).await?;
        let settled = rates.map(|rates| rates.second_half);
        let row = Row::new(format!("{name}, second half"), "MiB/s", settled);
        report.row(&row.goal(GOAL).deployed(DEPLOYED));
        let whole = rates.map(|rates| rates.whole);
        let what = format!("{name}, from the first byte");
        report.row(&Row::new(what, "MiB/s", whole));
    }
    Ok(())
}

/// MiB/s where the bytes arrive.
#[derive(Clone, Copy)]
struct Rates {
    whole: f64,
    /// Of the bytes: windows have then grown to what they will be.
    second_half: f64,
}

/// `None` if nothing arrived.
async fn rates(
    entrance: &Entrance,
    target: &Target,
    direction: Direction,
) -> anyhow::Result<Option<Rates>> {
    let (counter, before, mut stream) = match direction {
        Direction::Download => {
            let stream = entrance.ask(Ask::Send(BYTES)).await?;
            (Arc::default(), 0, stream)
        }
        Direction::Upload => {
            let stream = entrance.ask(Ask::Count).await?;
            let counter = Arc::clone(&target.received);
            let before = counter.load(Ordering::Relaxed);
            (counter, before, stream)
        }
    };
    let arrived: Arc<AtomicU64> = Arc::clone(&counter);
    let moving = async {
        let mut buffer = vec![0x5a; BUFFER];
        match direction {
            Direction::Download => loop {
                let n = stream.read(&mut buffer).await? as u64;
                if n == 0 {
                    return std::io::Result::Ok(());
                }
                arrived.fetch_add(n, Ordering::Relaxed);
            },
            Direction::Upload => {
                for _ in 0..BYTES / BUFFER as u64 {
                    stream.write_all(&buffer).await?;
                }
                stream.shutdown().await?;
                // The number comes once everything has arrived.
                stream.read_u64().await.map(drop)
            }
        }
    };
    let begin = Instant::now();
    let watching = async {
        let mut samples = vec![(Duration::ZERO, 0)];
        while begin.elapsed() < LONGEST {
            let bytes = counter.load(Ordering::Relaxed).saturating_sub(before);
            samples.push((begin.elapsed(), bytes));
            if bytes >= BYTES {
                break;
            }
            tokio::time::sleep(SAMPLE).await;
        }
        samples
    };
    tokio::pin!(watching);
    let samples = tokio::select! {
        samples = &mut watching => samples,
        done = moving => {
            done?;
            watching.await
        }
    };
    Ok(summary(&samples))
}

fn summary(samples: &[(Duration, u64)]) -> Option<Rates> {
    let (end, total) = *samples.last()?;
    let (half_time, half) = *samples.iter().find(|(_, bytes)| *bytes >= total / 2)?;
    let rate = |bytes: u64, time: Duration| to_f64(bytes) / to_f64(MIB) / time.as_secs_f64();
    (total > 0).then(|| Rates {
        whole: rate(total, end),
        second_half: rate(total - half, end.saturating_sub(half_time)),
    })
}

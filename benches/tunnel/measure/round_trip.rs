//! A small message there and back through the tcp-proxy: alone, and beside a stream that takes all
//! it can get.

use std::time::{Duration, Instant};

use anyhow::bail;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;

use crate::entrance::{Entrance, Stream};
use crate::report::{Goal, Report, Row, quantile};
use crate::stack::Stack;
use crate::target::{Ask, Target};
use crate::{BUFFER, MIB, in_background, within};

/// Bytes of the message.
const MESSAGE: usize = 64;
/// Messages that are not counted: caches, buffers and windows are then as they will be.
const WARM_UP: usize = 100;
const MESSAGES: usize = 2000;
/// The most time for all messages; a slow tunnel is judged by fewer.
const LONGEST: Duration = Duration::from_secs(5);
/// A message that takes longer has stalled.
const STALLED: Duration = Duration::from_secs(5);
/// What the bulk stream has moved before messages are sent beside it.
const BULK_WARM_UP: u64 = 64 * MIB;

/// The deployed programs, milliseconds.
const DEPLOYED_IDLE: f64 = 0.24;
const DEPLOYED_BULK: f64 = 17.0;

pub(crate) async fn measure(
    stack: &Stack,
    target: &Target,
    report: &mut Report,
) -> anyhow::Result<()> {
    report.section("round trip of 64 bytes to the target");
    let entrance = stack.entrance(target).await?;
    let idle = round_trips(&entrance).await?;
    let row = Row::new("idle, median", "ms", quantile(&idle, 0.5));
    report.row(&row.goal(Goal::AtMost(0.15)).deployed(DEPLOYED_IDLE));
    report.row(&Row::new("idle, 99 of 100", "ms", quantile(&idle, 0.99)));

    let bulk = Bulk::start(&entrance).await?;
    let beside = round_trips(&entrance).await.ok();
    drop(bulk);
    let of = |share| beside.as_deref().and_then(|all| quantile(all, share));
    report.row(&Row::new("beside a download, median", "ms", of(0.5)));
    let row = Row::new("beside a download, 99 of 100", "ms", of(0.99));
    report.row(&row.goal(Goal::AtMost(3.0)).deployed(DEPLOYED_BULK));
    Ok(())
}

/// Milliseconds of each round trip, on one stream.
pub(crate) async fn round_trips(entrance: &Entrance) -> anyhow::Result<Vec<f64>> {
    let mut stream = entrance.ask(Ask::Echo).await?;
    let mut all = Vec::new();
    let begin = Instant::now();
    for count in 0..WARM_UP + MESSAGES {
        let sent = Instant::now();
        within("a round trip", STALLED, there_and_back(&mut stream)).await?;
        if count >= WARM_UP {
            all.push(sent.elapsed().as_secs_f64() * 1000.0);
        }
        // Before that there is nothing to judge by.
        if begin.elapsed() > LONGEST && !all.is_empty() {
            break;
        }
    }
    Ok(all)
}

async fn there_and_back(stream: &mut Stream) -> anyhow::Result<()> {
    let message = [0xa5; MESSAGE];
    stream.write_all(&message).await?;
    stream.flush().await?;
    let mut answer = [0; MESSAGE];
    stream.read_exact(&mut answer).await?;
    if answer != message {
        bail!("the answer is not what was sent");
    }
    Ok(())
}

/// A download that goes on until this is dropped.
struct Bulk {
    /// The other end is the stream's reader.
    _stop: watch::Sender<()>,
}

impl Bulk {
    async fn start(entrance: &Entrance) -> anyhow::Result<Self> {
        let mut stream = entrance.ask(Ask::Send(u64::MAX)).await?;
        let mut buffer = vec![0; BUFFER];
        let warm_up = async {
            let mut left = BULK_WARM_UP;
            while left > 0 {
                left = left.saturating_sub(stream.read(&mut buffer).await? as u64);
            }
            anyhow::Ok(())
        };
        within("a bulk download", STALLED, warm_up).await?;
        let (stop, mut stopped) = watch::channel(());
        in_background(async move {
            let reading = async { while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {} };
            tokio::select! {
                () = reading => {}
                _ = stopped.changed() => {}
            }
        });
        Ok(Self { _stop: stop })
    }
}

//! The rows, one file each, and moving bytes, which most of them do.

pub(crate) mod delayed;
pub(crate) mod go;
pub(crate) mod memory;
pub(crate) mod round_trip;
pub(crate) mod scale;
pub(crate) mod sequences;
pub(crate) mod sessions;
pub(crate) mod stalled;
pub(crate) mod throughput;

use std::time::{Duration, Instant};

use anyhow::bail;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use crate::entrance::{Entrance, Stream};
use crate::process::Process;
use crate::report::to_f64;
use crate::target::Ask;
use crate::{BUFFER, MIB, within};

/// Limit for one measurement of throughput.
pub(crate) const LONGEST: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Download,
    Upload,
}

impl Direction {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Download => "download",
            Self::Upload => "upload",
        }
    }
}

/// What one measurement of throughput found.
pub(crate) struct Transferred {
    /// MiB/s, all streams together.
    pub(crate) rate: f64,
    /// CPU seconds per GiB of each process.
    pub(crate) cpu: Vec<f64>,
}

/// Moves so many bytes over so many streams at once.
pub(crate) async fn moved(
    entrance: &Entrance,
    processes: &[&Process],
    (streams, direction): (u64, Direction),
    bytes: u64,
) -> anyhow::Result<Transferred> {
    let share = bytes / streams;
    let mut ready = Vec::new();
    for _ in 0..streams {
        ready.push(entrance.dial().await?);
    }
    let before = cpu_seconds(processes)?;
    let begin = Instant::now();
    let mut moving = JoinSet::new();
    for stream in ready {
        moving.spawn(async move {
            match direction {
                Direction::Download => receive(stream, share).await,
                Direction::Upload => send(stream, share).await,
            }
        });
    }
    let all = async {
        while let Some(moved) = moving.join_next().await {
            moved??;
        }
        anyhow::Ok(())
    };
    within(direction.name(), LONGEST, all).await?;
    let seconds = begin.elapsed().as_secs_f64();
    Ok(Transferred {
        rate: to_f64(bytes) / to_f64(MIB) / seconds,
        cpu: cpu_per_gib(&before, &cpu_seconds(processes)?, bytes),
    })
}

/// What each process has used so far.
pub(crate) fn cpu_seconds(processes: &[&Process]) -> anyhow::Result<Vec<f64>> {
    processes.iter().map(|process| process.cpu()).collect()
}

/// CPU seconds per GiB between two looks.
pub(crate) fn cpu_per_gib(before: &[f64], after: &[f64], bytes: u64) -> Vec<f64> {
    let gib = to_f64(bytes) / to_f64(1 << 30);
    let used = after.iter().zip(before);
    used.map(|(after, before)| (after - before) / gib).collect()
}

async fn receive(mut stream: Stream, bytes: u64) -> anyhow::Result<()> {
    Ask::Send(bytes).write(&mut stream).await?;
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

async fn send(mut stream: Stream, bytes: u64) -> anyhow::Result<()> {
    Ask::Count.write(&mut stream).await?;
    let block = vec![0x5a; BUFFER];
    for _ in 0..bytes / BUFFER as u64 {
        stream.write_all(&block).await?;
    }
    stream.shutdown().await?;
    let received = stream.read_u64().await?;
    if received != bytes {
        bail!("{received} of {bytes} bytes arrived");
    }
    Ok(())
}

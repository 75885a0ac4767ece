//! Transfers one after another in one tunnel over long paths: what came before must not make a
//! transfer slow. Never one hand-picked row: several numbers of streams and delays stand beside
//! each other.

use std::time::Duration;

use super::{Direction, moved};
use crate::MIB;
use crate::entrance::Entrance;
use crate::peers::{Peer, direct, openssh, ready_peer};
use crate::report::{Report, Row};
use crate::stack::{Between, Stack};
use crate::target::Target;

/// There and back between gateway and relay, in milliseconds.
const ROUND_TRIPS: [u64; 3] = [20, 80, 200];
/// Streams of each transfer, in the order of the transfers.
const STREAMS: [u64; 7] = [1, 8, 3, 24, 8, 1, 1];
/// Moved by each transfer, over all its streams together.
const BYTES: u64 = 384 * MIB;

/// The deployed programs at 80 ms, MiB/s: streams, download, upload.
const DEPLOYED: [(u64, f64, f64); 2] = [(1, 23.0, 23.0), (8, 136.0, 122.0)];

pub(crate) async fn measure(target: &Target, report: &mut Report) -> anyhow::Result<()> {
    for round_trip in ROUND_TRIPS {
        let between = Between::Delay(Duration::from_millis(round_trip / 2));
        for direction in [Direction::Download, Direction::Upload] {
            let name = direction.name();
            report.section(&format!("{name}s of one tunnel, {round_trip} ms"));
            let stack = Stack::start(between).await?;
            let entrance = stack.entrance(target).await?;
            let others = others(target, between, report).await;
            for (number, streams) in STREAMS.iter().enumerate() {
                let what = format!("transfer {}: {streams} stream(s)", number + 1);
                let one = (*streams, direction);
                let mut row = Row::new(what, "MiB/s", rate(&entrance, one, BYTES, report).await);
                let known = DEPLOYED.iter().find(|(of, ..)| of == streams);
                if let Some((_, down, up)) = known.filter(|_| round_trip == 80) {
                    row = row.deployed(match direction {
                        Direction::Download => *down,
                        Direction::Upload => *up,
                    });
                }
                report.row(&row);
                // Each number of streams once.
                let is_new = !STREAMS.iter().take(number).any(|other| other == streams);
                for (name, bytes, peer) in others.iter().filter(|_| is_new) {
                    let rate = rate(&peer.entrance, one, *bytes, report).await;
                    report.row(&Row::new(format!("  {name}"), "MiB/s", rate));
                }
            }
        }
    }
    Ok(())
}

/// Other ways over the same line, and how much each moves in a transfer.
async fn others(
    target: &Target,
    between: Between,
    report: &Report,
) -> Vec<(&'static str, u64, Peer)> {
    let address = target.address;
    let started = [
        // Its channels have a window of 2 MiB, and so it takes long.
        (
            "OpenSSH, no TLS",
            BYTES / 8,
            openssh::start(address, between).await,
        ),
        (
            "TLS in TLS, no tunnel",
            BYTES,
            direct::start(address, between).await,
        ),
    ];
    let mut ready = Vec::new();
    for (name, bytes, start) in started {
        if let Some(peer) = ready_peer(name, start, report).await {
            ready.push((name, bytes, peer));
        }
    }
    ready
}

/// MiB/s; `None` if it stalled.
async fn rate(
    entrance: &Entrance,
    one: (u64, Direction),
    bytes: u64,
    report: &Report,
) -> Option<f64> {
    match moved(entrance, &[], one, bytes).await {
        Ok(run) => Some(run.rate),
        Err(error) => {
            report.note(&format!("{error:#}"));
            None
        }
    }
}

//! Transfers one after another in one tunnel over long paths: what came before must not make a transfer
//! slow. Never one hand-picked row: several numbers of streams and delays stand beside each other.

use std::time::Duration;

use super::{Direction, moved};
use crate::MIB;
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
        for direction in [Direction::Download, Direction::Upload] {
            let name = direction.name();
            report.section(&format!("{name}s of one tunnel, {round_trip} ms"));
            let one_way = Duration::from_millis(round_trip / 2);
            let stack = Stack::start(Between::Delay(one_way)).await?;
            let entrance = stack.entrance(target).await?;
            for (number, streams) in STREAMS.iter().enumerate() {
                let run = moved(&entrance, &[], (*streams, direction), BYTES).await;
                let rate = match run {
                    Ok(run) => Some(run.rate),
                    Err(error) => {
                        report.note(&format!("{error:#}"));
                        None
                    }
                };
                let what = format!("transfer {}: {streams} stream(s)", number + 1);
                let mut row = Row::new(what, "MiB/s", rate);
                let known = DEPLOYED.iter().find(|(of, ..)| of == streams);
                if let Some((_, down, up)) = known.filter(|_| round_trip == 80) {
                    row = row.deployed(match direction {
                        Direction::Download => *down,
                        Direction::Upload => *up,
                    });
                }
                report.row(&row);
            }
        }
    }
    Ok(())
}

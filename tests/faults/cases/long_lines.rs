//! Bulk data over a long line with a limited rate and a shallow queue, beside a plain TCP
//! connection over the same line: the tunnel must not be the limit, and small messages must not
//! wait for it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::lab::{GatewayPlan, Lab, PATIENCE};
use crate::net::{Line, Machine};
use crate::peer::bulk::{self, BULK_PORT, Direction};
use crate::probe::block_on;
use crate::runner::{Case, Outcome};
use crate::support::session::{Way, echoes};

/// What makes the ends of the line.
const TUN: &str = "/dev/net/tun";
/// There and back.
const ROUND_TRIP: Duration = Duration::from_millis(50);
/// Less than half of what is on the way.
const QUEUE: Duration = Duration::from_millis(20);
/// Turns of each measurement; the median counts.
const TURNS: usize = 3;
/// How many seconds the line takes for one transfer.
const SECONDS: u64 = 4;
/// The share of a plain transfer that the tunnel must have, in percent.
const SHARE: u32 = 90;
/// Messages beside a transfer.
const MESSAGES: usize = 40;

pub(super) const CASES: &[Case] = &[Case {
    name: "many_streams_fill_a_100_megabit_line",
    row: "a line of 100 Mbit/s with 50 ms between gateway and relay, and a queue of 20 ms",
    bound: None,
    labs: 1,
    run: |lab| fill(lab, 100, 1500),
}];

fn fill(lab: &mut Lab, megabits: u64, mtu: u16) -> Outcome {
    if !Path::new(TUN).exists() {
        return Outcome::skipped(&format!("{TUN} is missing"));
    }
    let line = Line {
        megabits,
        one_way: ROUND_TRIP / 2,
        queue: QUEUE,
        lost_per_100_000: 0,
        mtu,
    };
    // Before the tunnel, so that its packets have the line's size.
    lab.start_line(&line);
    lab.start(&GatewayPlan::pinned());
    lab.start_bulk(Machine::Gateway);
    let (bulk, echo) = (lab.bulk_way(), lab.way());
    let bytes = megabits * 1_000_000 / 8 * SECONDS;

    let mut told = Vec::new();
    let mut slow = Vec::new();
    for direction in [Direction::Download, Direction::Upload] {
        let mut plain = Vec::new();
        let mut tunnel = [(1, Vec::new()), (8, Vec::new())];
        // In turns, so that a machine that is busy for a while is so for all of them.
        for _ in 0..TURNS {
            plain.push(plain_transfer(lab, direction, bytes));
            for (streams, rates) in &mut tunnel {
                rates.push(tunnel_transfer(&bulk, *streams, direction, bytes));
            }
        }
        let plain = median(plain);
        told.push(format!("{direction:?}: plain TCP {plain:.1} MiB/s"));
        for (streams, rates) in tunnel {
            let rate = median(rates);
            let figure = format!("{streams} stream(s) {rate:.1}");
            told.push(figure.clone());
            if rate < plain * f64::from(SHARE) / 100.0 {
                slow.push(format!("{direction:?}, {figure} of {plain:.1} MiB/s"));
            }
        }
    }
    let alone = median(block_on(round_trips(&echo)));
    let beside = median(block_on(async {
        let transfer = bulk.tcp().await.expect("a way");
        let transfer = bulk::transfer(transfer, Direction::Download, u64::MAX);
        tokio::select! {
            ended = transfer => panic!("the transfer ended: {ended:?}"),
            times = async {
                // The line is full by then.
                tokio::time::sleep(ROUND_TRIP * 20).await;
                round_trips(&echo).await
            } => times,
        }
    }));
    told.push(format!(
        "round trip alone {:.0} ms, beside a download {:.0} ms",
        alone * 1000.0,
        beside * 1000.0
    ));
    let told = told.join(", ");
    assert!(slow.is_empty(), "below {SHARE} %: {slow:?}; {told}");
    let most = (ROUND_TRIP * 2 + QUEUE).as_secs_f64();
    assert!(beside <= most, "round trips above {most} s; {told}");
    Outcome::happened().with_figures(told)
}

/// MiB/s of one connection from the relay's machine to the target, without any tunnel.
fn plain_transfer(lab: &Lab, direction: Direction, bytes: u64) -> f64 {
    let net = &lab.net;
    std::thread::scope(|scope| {
        let other_machine = scope.spawn(move || {
            net.enter(Machine::Relay);
            let target = SocketAddr::from((Machine::Gateway.address(), BULK_PORT));
            block_on(async {
                let stream = TcpStream::connect(target).await.expect("the target");
                rate_of(bytes, bulk::transfer(stream, direction, bytes)).await
            })
        });
        other_machine.join().expect("the plain transfer")
    })
}

/// MiB/s of so many streams together through the tunnel.
fn tunnel_transfer(way: &Way, streams: u64, direction: Direction, bytes: u64) -> f64 {
    block_on(async {
        let mut ready = Vec::new();
        for _ in 0..streams {
            ready.push(way.tcp().await.expect("a way"));
        }
        rate_of(bytes, async {
            let mut transfers = JoinSet::new();
            for stream in ready {
                transfers.spawn(bulk::transfer(stream, direction, bytes / streams));
            }
            while let Some(ended) = transfers.join_next().await {
                ended.expect("no panic")?;
            }
            Ok(())
        })
        .await
    })
}

async fn rate_of(bytes: u64, work: impl Future<Output = std::io::Result<()>>) -> f64 {
    let begin = Instant::now();
    let ended = tokio::time::timeout(PATIENCE, work).await;
    ended.expect("in time").expect("a whole transfer");
    bytes as f64 / f64::from(1 << 20) / begin.elapsed().as_secs_f64()
}

/// Seconds of each.
async fn round_trips(way: &Way) -> Vec<f64> {
    let mut stream = way.tcp().await.expect("a way");
    let mut times = Vec::new();
    for _ in 0..MESSAGES {
        let begin = Instant::now();
        echoes(&mut stream, &[0xa5; 64]).await.expect("an echo");
        times.push(begin.elapsed().as_secs_f64());
    }
    stream.shutdown().await.expect("a clean end");
    times
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

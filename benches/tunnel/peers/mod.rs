//! Other ways through, in the same run: the same bytes from the same target over other programs, each in
//! the roles of relay (the side that clients connect to) and gateway (the side next to the target).

mod bore;
mod direct;
mod openssh;
mod rathole;
mod russh;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use tokio::net::TcpStream;

use crate::entrance::Entrance;
use crate::measure::throughput::{BYTES, RUNS};
use crate::measure::{Direction, Moved, moved};
use crate::process::Process;
use crate::report::{Report, figure, median, times};
use crate::stack::Stack;
use crate::target::Target;
use crate::within;

/// The argument that makes this bench a peer of itself.
pub(crate) const SERVE: &str = "--peer";
/// A directory of programs that are not in PATH.
const DIRECTORY: &str = "INFISICAL_BENCH_PEERS";

/// Limit for a peer to listen.
const START: Duration = Duration::from_secs(5);

/// A way through that is ready.
pub(crate) struct Peer {
    entrance: Entrance,
    /// In the role of the relay.
    relay: Process,
    /// In the role of the gateway; a bare connection has none.
    gateway: Option<Process>,
    /// Its configuration.
    _dir: Option<tempfile::TempDir>,
}

/// What became of a peer's start.
enum Start {
    Ready(Peer),
    /// Its program is not there.
    Absent(&'static str),
}

/// Runs this process as a peer.
pub(crate) async fn serve(arguments: &[String]) -> anyhow::Result<()> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments.as_slice() {
        [direct::NAME, listen, target, directory] => {
            direct::serve(listen, target.parse()?, directory.as_ref()).await
        }
        [russh::RELAY, ssh, listen] => russh::relay(ssh, listen).await,
        [russh::GATEWAY, ssh, target] => russh::gateway(ssh, target.parse()?).await,
        _ => bail!("no such peer: {arguments:?}"),
    }
}

pub(crate) async fn measure(
    stack: &Stack,
    target: &Target,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut contenders = vec![Contender {
        name: "this program",
        entrance: stack.entrance(target).await?,
        processes: vec![&stack.relay, &stack.gateway],
    }];
    let address = target.address;
    let started = [
        ("TLS in TLS, no tunnel", direct::start(address)),
        ("russh", russh::start(address)),
        ("OpenSSH, ssh -R", openssh::start(address).await),
        ("rathole, noise", rathole::start(address, true)),
        ("rathole, in the clear", rathole::start(address, false)),
        ("bore, in the clear", bore::start(address).await),
    ];
    let mut ready = Vec::new();
    println!("\nother tunnels");
    for (name, start) in started {
        match start {
            Ok(Start::Ready(peer)) => match peer.entrance.wait_until_serves().await {
                Ok(()) => ready.push((name, peer)),
                Err(error) => report.note(&format!("FAILED: {name}: {error:#}")),
            },
            Ok(Start::Absent(program)) => {
                report.note(&format!("SKIPPED: {name}: {program} is not installed"));
            }
            Err(error) => report.note(&format!("FAILED: {name}: {error:#}")),
        }
    }
    contenders.extend(ready.iter().map(|(name, peer)| Contender {
        name,
        entrance: peer.entrance.clone(),
        processes: std::iter::once(&peer.relay).chain(&peer.gateway).collect(),
    }));
    for streams in [1, 8] {
        compare(&contenders, streams, report).await;
    }
    Ok(())
}

struct Contender<'a> {
    name: &'static str,
    entrance: Entrance,
    /// Relay, then gateway.
    processes: Vec<&'a Process>,
}

/// MiB/s, then CPU s/GiB of relay and gateway.
type Figures = [Option<f64>; 3];

/// The first is what the others are compared with.
async fn compare(contenders: &[Contender<'_>], streams: u64, report: &Report) {
    let mut runs: Vec<Vec<Moved>> = contenders.iter().map(|_| Vec::new()).collect();
    let mut failures = Vec::new();
    // In turns: a change of the machine's mood meets all of them.
    for _ in 0..RUNS {
        for (contender, runs) in contenders.iter().zip(&mut runs) {
            let one = (streams, Direction::Download);
            match moved(&contender.entrance, &contender.processes, one, BYTES).await {
                Ok(moved) => runs.push(moved),
                Err(error) => failures.push(format!("{}: {error:#}", contender.name)),
            }
        }
    }
    println!(
        "\n{:<28}{:>7}{:>10}{:>13}{:>10}{:>15}{:>10}",
        format!("download, {streams} stream(s)"),
        "MiB/s",
        "we/it",
        "relay s/GiB",
        "we/it",
        "gateway s/GiB",
        "we/it"
    );
    let figures: Vec<Figures> = runs.iter().map(|runs| figures(runs)).collect();
    let ours = figures.first().copied().unwrap_or_default();
    for (at, (contender, theirs)) in contenders.iter().zip(&figures).enumerate() {
        let mut line = format!("  {:<26}", contender.name);
        for ((width, ours), theirs) in [7, 13, 15].iter().zip(ours).zip(theirs) {
            let shown = theirs.map_or_else(|| "-".to_owned(), figure);
            let ratio = ours.zip(*theirs).filter(|_| at > 0);
            let ratio = ratio.map(|(ours, theirs)| times(ours / theirs));
            line += &format!("{shown:>width$}{:>10}", ratio.unwrap_or_default());
        }
        println!("{}", line.trim_end());
    }
    for failure in failures {
        report.note(&failure);
    }
}

fn figures(runs: &[Moved]) -> Figures {
    let rates: Vec<f64> = runs.iter().map(|run| run.rate).collect();
    let cpu = |at: usize| {
        let all: Vec<f64> = runs
            .iter()
            .filter_map(|run| run.cpu.get(at).copied())
            .collect();
        median(&all)
    };
    [median(&rates), cpu(0), cpu(1)]
}

/// Where a program is, if it is installed.
fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let extra = std::env::var_os(DIRECTORY).map(PathBuf::from);
    extra
        .into_iter()
        .chain(std::env::split_paths(&path))
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}

/// Waits for a peer that was just started.
async fn wait_until_listens(address: SocketAddr) -> anyhow::Result<()> {
    let connecting = async {
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    within("the first connection", START, connecting).await
}

/// An address that nobody listens at now.
fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

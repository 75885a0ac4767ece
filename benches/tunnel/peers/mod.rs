//! Other ways through, in the same run: the same bytes from the same target over other programs,
//! each in the roles of relay (the side that clients connect to) and gateway (the side next to the
//! target).

mod bore;
pub(crate) mod direct;
pub(crate) mod openssh;
mod rathole;
mod russh;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use tokio::net::TcpStream;

use crate::compare::{Client, Contender, compare};
use crate::entrance::Entrance;
use crate::measure::Direction;
use crate::process::Process;
use crate::report::Report;
use crate::stack::{Between, Stack};
use crate::target::{self, Target};
use crate::{delay, within};

/// The argument that makes this bench a peer of itself.
pub(crate) const SERVE: &str = "--peer";
/// A directory of programs that are not in PATH.
const DIRECTORY: &str = "INFISICAL_BENCH_PEERS";

/// Limit for a peer to listen.
const START: Duration = Duration::from_secs(5);

/// A way through that is ready.
pub(crate) struct Peer {
    pub(crate) entrance: Entrance,
    /// In the role of the relay.
    relay: Process,
    /// In the role of the gateway; a bare connection has none.
    gateway: Option<Process>,
    /// Its configuration.
    _dir: Option<tempfile::TempDir>,
}

impl Peer {
    /// Relay, then gateway.
    pub(crate) fn processes(&self) -> Vec<&Process> {
        std::iter::once(&self.relay).chain(&self.gateway).collect()
    }
}

/// What became of a peer's start.
pub(crate) enum Start {
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
        [target::NAME, listen] => target::serve_at(listen).await,
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
        client: Client::Own(stack.entrance(target).await?),
        processes: vec![&stack.relay, &stack.gateway],
    }];
    let address = target.address;
    let started = [
        (
            "TLS in TLS, no tunnel",
            direct::start(address, Between::Nothing).await,
        ),
        ("russh", russh::start(address)),
        (
            "OpenSSH, ssh -R",
            openssh::start(address, Between::Nothing).await,
        ),
        ("rathole, noise", rathole::start(address, true)),
        ("rathole, in the clear", rathole::start(address, false)),
        ("bore, in the clear", bore::start(address).await),
    ];
    let mut ready = Vec::new();
    println!("\nother tunnels");
    for (name, start) in started {
        if let Some(peer) = ready_peer(name, start, report).await {
            ready.push((name, peer));
        }
    }
    contenders.extend(ready.iter().map(|(name, peer)| Contender {
        name,
        client: Client::Own(peer.entrance.clone()),
        processes: peer.processes(),
    }));
    for streams in [1, 8] {
        compare(&contenders, (streams, Direction::Download), report).await;
    }
    Ok(())
}

/// The peer once it serves; else says why there is none.
pub(crate) async fn ready_peer(
    name: &str,
    start: anyhow::Result<Start>,
    report: &Report,
) -> Option<Peer> {
    let served = match start {
        Ok(Start::Ready(peer)) => peer.entrance.wait_until_serves().await.map(|()| peer),
        Ok(Start::Absent(program)) => {
            report.note(&format!("SKIPPED: {name}: {program} is not installed"));
            return None;
        }
        Err(error) => Err(error),
    };
    let failed = |error: &anyhow::Error| report.note(&format!("FAILED: {name}: {error:#}"));
    served.inspect_err(failed).ok()
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
pub(crate) async fn wait_until_listens(address: SocketAddr) -> anyhow::Result<()> {
    let connecting = async {
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    within("the first connection", START, connecting).await
}

/// Where to connect to reach `there` over what lies between.
async fn beyond(between: Between, there: SocketAddr) -> std::io::Result<SocketAddr> {
    match between {
        Between::Nothing => Ok(there),
        Between::Delay(delay) => delay::start(there, delay).await,
    }
}

/// An address that no one listens at now.
pub(crate) fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

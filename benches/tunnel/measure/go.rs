//! Throughput and cost per byte with a client that is not ours, beside our own client and OpenSSH.

use super::Direction;
use crate::compare::{Client, Contender, compare};
use crate::entrance::Entrance;
use crate::go_client::GoProgram;
use crate::peers::{openssh, ready_peer};
use crate::report::{Goal, Report, Row};
use crate::stack::{Between, Stack};
use crate::target::Target;

/// The deployed programs with this client, CPU s/GiB of relay and gateway.
const DEPLOYED: [(Direction, u64, [f64; 2]); 4] = [
    (Direction::Download, 1, [4.9, 3.8]),
    (Direction::Download, 8, [4.7, 3.3]),
    (Direction::Upload, 1, [3.8, 4.9]),
    (Direction::Upload, 8, [3.4, 4.6]),
];
const CPU: Goal = Goal::AtMost(0.95);

pub(crate) async fn measure(
    stack: &Stack,
    target: &Target,
    report: &mut Report,
) -> anyhow::Result<()> {
    let Some(program) = GoProgram::build().await? else {
        report.section("an independent client");
        report.note("SKIPPED: go is not installed");
        return Ok(());
    };
    let processes = vec![&stack.relay, &stack.gateway];
    let mut contenders = vec![
        Contender {
            name: "Go client",
            client: Client::Go(program.tunnel(&stack.credentials(target.address).await?)?),
            processes: processes.clone(),
        },
        Contender {
            name: "own client",
            client: Client::Own(stack.entrance(target).await?),
            processes,
        },
    ];
    let openssh = openssh::start(target.address, Between::Nothing).await;
    let openssh = ready_peer("OpenSSH", openssh, report).await;
    if let Some(peer) = &openssh
        && let Entrance::Tcp(address) = peer.entrance
    {
        contenders.push(Contender {
            name: "OpenSSH, Go client, no TLS",
            client: Client::Go(program.plain(address)),
            processes: peer.processes(),
        });
    }
    for (direction, streams, deployed) in DEPLOYED {
        let figures = compare(&contenders, (streams, direction), report).await;
        report.section(&format!(
            "Go client, {}, {streams} stream(s)",
            direction.name()
        ));
        let [rate, relay, gateway] = figures.first().copied().unwrap_or_default();
        report.row(&Row::new("throughput", "MiB/s", rate));
        let rows = [("CPU relay", relay), ("CPU gateway", gateway)];
        for ((what, ours), deployed) in rows.into_iter().zip(deployed) {
            report.row(&Row::new(what, "s/GiB", ours).goal(CPU).deployed(deployed));
        }
    }
    Ok(())
}

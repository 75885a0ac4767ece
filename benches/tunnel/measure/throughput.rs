//! End to end, both directions, one and several streams; and what a GiB costs each of the two
//! programs.

use super::{Direction, moved};
use crate::MIB;
use crate::report::{Goal, Report, Row, median};
use crate::stack::Stack;
use crate::target::Target;

/// Moved in each measurement, over all streams together.
pub(crate) const BYTES: u64 = 512 * MIB;
/// Each figure is the median of so many measurements.
pub(crate) const RUNS: usize = 3;

/// The deployed programs, MiB/s with two cores.
const DEPLOYED: [(Direction, u64, f64); 4] = [
    (Direction::Download, 1, 198.0),
    (Direction::Upload, 1, 164.0),
    (Direction::Download, 8, 225.0),
    (Direction::Upload, 8, 205.0),
];
/// How many times as fast this should be.
const TIMES: f64 = 2.2;
/// The deployed programs, CPU s/GiB: 3 to 5. The ratio is that to the better end.
const DEPLOYED_CPU: f64 = 3.0;
const CPU: Goal = Goal::AtMost(1.4);

pub(crate) async fn measure(
    stack: &Stack,
    target: &Target,
    report: &mut Report,
) -> anyhow::Result<()> {
    report.section("throughput, client to target");
    let entrance = stack.entrance(target).await?;
    let processes = [&stack.gateway, &stack.relay];
    for (direction, streams, deployed) in DEPLOYED {
        let mut runs = Vec::new();
        for _ in 0..RUNS {
            match moved(&entrance, &processes, (streams, direction), BYTES).await {
                Ok(run) => runs.push(run),
                Err(error) => {
                    report.note(&format!("{error:#}"));
                    break;
                }
            }
        }
        let what = format!("{}, {streams} stream(s)", direction.name());
        let rates: Vec<f64> = runs.iter().map(|run| run.rate).collect();
        let goal = Goal::AtLeast(TIMES * deployed);
        let row = Row::new(&what, "MiB/s", median(&rates));
        report.row(&row.goal(goal).deployed(deployed));
        for (at, name) in ["gateway", "relay"].iter().enumerate() {
            let cpu: Vec<f64> = runs
                .iter()
                .filter_map(|run| run.cpu.get(at).copied())
                .collect();
            let row = Row::new(format!("  CPU {name}"), "s/GiB", median(&cpu));
            report.row(&row.goal(CPU).deployed(DEPLOYED_CPU));
        }
    }
    Ok(())
}

//! New sessions: each with both handshakes of TLS, a channel, one answer, and its end.

use std::time::{Duration, Instant};

use anyhow::bail;
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinSet;

use crate::report::{Goal, Report, Row, to_f64};
use crate::stack::Stack;
use crate::within;

const SESSIONS: usize = 800;
const AT_ONCE: usize = 8;
/// Limit for all of them.
const LONGEST: Duration = Duration::from_secs(30);

/// The deployed programs: sessions a second, CPU milliseconds of gateway and relay.
const DEPLOYED: f64 = 135.0;
const DEPLOYED_CPU: [f64; 2] = [3.0, 3.5];
const CPU: Goal = Goal::AtMost(1.2);

pub(crate) async fn measure(stack: &Stack, report: &mut Report) -> anyhow::Result<()> {
    report.section("new sessions, 8 at once");
    let dialer = stack.pings().await?;
    let processes = [&stack.gateway, &stack.relay];
    let mut before = Vec::new();
    for process in processes {
        before.push(process.cpu()?);
    }
    let begin = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..AT_ONCE {
        let dialer = dialer.clone();
        workers.spawn(async move {
            for _ in 0..SESSIONS / AT_ONCE {
                let mut answer = String::new();
                dialer
                    .dial(LONGEST)
                    .await?
                    .read_to_string(&mut answer)
                    .await?;
                if answer != "PONG\n" {
                    bail!("the answer to a ping was {answer:?}");
                }
            }
            Ok(())
        });
    }
    let all = async {
        while let Some(done) = workers.join_next().await {
            done??;
        }
        anyhow::Ok(())
    };
    within("new sessions", LONGEST, all).await?;
    let sessions = to_f64(SESSIONS as u64);
    let rate = sessions / begin.elapsed().as_secs_f64();
    let row = Row::new("new sessions", "1/s", rate);
    report.row(&row.goal(Goal::AtLeast(2.0 * DEPLOYED)).deployed(DEPLOYED));
    let names = ["gateway", "relay"].iter().zip(DEPLOYED_CPU);
    for ((process, before), (name, deployed)) in processes.iter().zip(before).zip(names) {
        let each = (process.cpu()? - before) * 1000.0 / sessions;
        let row = Row::new(format!("  CPU {name}, each"), "ms", each);
        report.row(&row.goal(CPU).deployed(deployed));
    }
    Ok(())
}

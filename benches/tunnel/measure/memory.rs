//! Resident memory: of the idle programs, and of each session that has gone quiet.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::entrance::{Entrance, Stream};
use crate::report::{Goal, Report, Row, to_f64};
use crate::stack::{Between, Stack};
use crate::target::{Ask, Target};
use crate::within;

const SESSIONS: usize = 500;
/// Opened and closed before: what a process sets up once is no cost of a session.
const WARM_UP: usize = 16;
/// Limit for all sessions to be open.
const LONGEST: Duration = Duration::from_secs(30);
/// Limit for the memory to become what it will be.
const SETTLE: Duration = Duration::from_secs(3);

/// The deployed programs: MiB of the process, KiB of a session in gateway and relay.
const DEPLOYED_IDLE: f64 = 55.0;
const DEPLOYED_SESSION: [f64; 2] = [84.0, 7.0];
const IDLE: Goal = Goal::AtMost(12.0);
const SESSION: [Goal; 2] = [Goal::AtMost(32.0), Goal::AtMost(24.0)];

pub(crate) async fn measure(target: &Target, report: &mut Report) -> anyhow::Result<()> {
    report.section("resident memory");
    // One that has served no one yet.
    let stack = Stack::start(Between::Nothing).await?;
    let processes = [("gateway", &stack.gateway), ("relay", &stack.relay)];
    for (name, process) in processes {
        let rss = process.settled_rss(SETTLE).await?;
        let row = Row::new(format!("idle {name}"), "MiB", rss);
        report.row(&row.goal(IDLE).deployed(DEPLOYED_IDLE));
    }
    let entrance = stack.entrance(target).await?;
    drop(quiet(&entrance, WARM_UP).await?);
    let mut before = Vec::new();
    for (_, process) in processes {
        before.push(process.settled_rss(SETTLE).await?);
    }
    let open = quiet(&entrance, SESSIONS).await?;
    let figures = DEPLOYED_SESSION.iter().zip(SESSION);
    for (((name, process), before), (deployed, goal)) in processes.iter().zip(before).zip(figures) {
        let rss = process.settled_rss(SETTLE).await?;
        let each = (rss - before) * 1024.0 / to_f64(SESSIONS as u64);
        let row = Row::new(format!("each idle session, {name}"), "KiB", each);
        report.row(&row.goal(goal).deployed(*deployed));
        let what = format!("{SESSIONS} idle sessions, {name}");
        report.row(&Row::new(what, "MiB", rss));
    }
    drop(open);
    Ok(())
}

/// Sessions through which one byte has gone both ways: complete, then idle.
async fn quiet(entrance: &Entrance, sessions: usize) -> anyhow::Result<Vec<Stream>> {
    let opening = async {
        let mut open = Vec::new();
        for _ in 0..sessions {
            let mut stream = entrance.ask(Ask::Echo).await?;
            stream.write_u8(1).await?;
            stream.flush().await?;
            stream.read_u8().await?;
            open.push(stream);
        }
        anyhow::Ok(open)
    };
    within("idle sessions", LONGEST, opening).await
}

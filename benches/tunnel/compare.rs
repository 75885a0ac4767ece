//! Several ways to the target beside each other: the same transfer by each of them in turns, so
//! that a machine that is busy for a while is so for all of them.

use std::time::Instant;

use crate::MIB;
use crate::entrance::Entrance;
use crate::go_client::GoClient;
use crate::measure::throughput::{BYTES, RUNS};
use crate::measure::{Direction, Transferred, cpu_per_gib, cpu_seconds, moved};
use crate::process::Process;
use crate::report::{Report, figure, median, times, to_f64};

/// Who moves the bytes.
pub(crate) enum Client {
    /// This bench.
    Own(Entrance),
    /// A process of its own.
    Go(GoClient),
}

pub(crate) struct Contender<'a> {
    pub(crate) name: &'static str,
    pub(crate) client: Client,
    /// Relay, then gateway.
    pub(crate) processes: Vec<&'a Process>,
}

impl Contender<'_> {
    /// Moves so many bytes over so many streams at once.
    pub(crate) async fn moved(
        &self,
        one: (u64, Direction),
        bytes: u64,
    ) -> anyhow::Result<Transferred> {
        let client = match &self.client {
            Client::Own(entrance) => return moved(entrance, &self.processes, one, bytes).await,
            Client::Go(client) => client,
        };
        let transfer = client.open(one, bytes).await?;
        let before = cpu_seconds(&self.processes)?;
        let begin = Instant::now();
        let limit = crate::measure::LONGEST;
        let seconds = crate::within(one.1.name(), limit, transfer.run()).await?;
        // Whatever the bench itself waited for is no part of the transfer.
        let seconds = seconds.min(begin.elapsed().as_secs_f64());
        Ok(Transferred {
            rate: to_f64(bytes) / to_f64(MIB) / seconds,
            cpu: cpu_per_gib(&before, &cpu_seconds(&self.processes)?, bytes),
        })
    }
}

/// Medians: MiB/s, then CPU s/GiB of relay and gateway.
pub(crate) type Figures = [Option<f64>; 3];

/// Prints a table and returns its figures. The first contender is what the others are compared
/// with.
pub(crate) async fn compare(
    contenders: &[Contender<'_>],
    (streams, direction): (u64, Direction),
    report: &Report,
) -> Vec<Figures> {
    let mut runs: Vec<Vec<Transferred>> = contenders.iter().map(|_| Vec::new()).collect();
    let mut failures = Vec::new();
    for _ in 0..RUNS {
        for (contender, runs) in contenders.iter().zip(&mut runs) {
            match contender.moved((streams, direction), BYTES).await {
                Ok(moved) => runs.push(moved),
                Err(error) => failures.push(format!("{}: {error:#}", contender.name)),
            }
        }
    }
    println!(
        "\n{:<28}{:>7}{:>10}{:>13}{:>10}{:>15}{:>10}",
        format!("{}, {streams} stream(s)", direction.name()),
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
    figures
}

fn figures(runs: &[Transferred]) -> Figures {
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

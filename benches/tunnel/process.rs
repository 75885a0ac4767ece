//! Child processes of the bench: what they cost, and that they end with it.

use std::collections::HashMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use crate::report::to_f64;

/// How often memory is read until it has settled.
const SAMPLE: Duration = Duration::from_millis(200);
/// It has, once it was the same so many times: a busy machine makes pauses.
const UNCHANGED: u32 = 5;

/// A child, killed with its handle. What it starts counts as its own.
pub(crate) struct Process(Child);

impl Process {
    /// Starts a program of the bench, with nothing to read and no output of its own.
    pub(crate) fn start(mut command: Command) -> anyhow::Result<Self> {
        let program = command.get_program().display().to_string();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {program}"))?;
        Ok(Self(child))
    }

    /// Starts this bench again, as a peer (see [`crate::peers::serve`]).
    pub(crate) fn start_self(arguments: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(crate::peers::SERVE).args(arguments);
        Self::start(command)
    }

    /// CPU seconds that it and its descendants have used so far (proc_pid_stat(5), fields 14 to
    /// 17).
    pub(crate) fn cpu(&self) -> anyhow::Result<f64> {
        let mut ticks: u64 = 0;
        let family = family(self.0.id())?;
        for stat in family {
            // Of those that it waited for as well.
            ticks = ticks.saturating_add(stat.ticks);
        }
        // The unit of these fields is 1/100 s on every Linux that this runs on (USER_HZ).
        Ok(to_f64(ticks) / 100.0)
    }

    /// Resident memory in MiB, of the process alone.
    pub(crate) fn rss(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .context("no VmRSS")?;
        let kib: u64 = line
            .split_whitespace()
            .nth(1)
            .context("no number")?
            .parse()?;
        Ok(to_f64(kib) / 1024.0)
    }

    /// Resident memory in MiB, once it has stopped to change, or after `limit`.
    pub(crate) async fn settled_rss(&self, limit: Duration) -> anyhow::Result<f64> {
        let end = Instant::now() + limit;
        let mut last = self.rss()?;
        let mut unchanged = 0;
        while unchanged < UNCHANGED && Instant::now() < end {
            tokio::time::sleep(SAMPLE).await;
            let now = self.rss()?;
            let same = (now - last).abs() < 0.05;
            unchanged = if same { unchanged + 1 } else { 0 };
            last = now;
        }
        Ok(last)
    }
}

impl Process {
    /// Kills it and waits for its end.
    pub(crate) fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

struct Stat {
    parent: u32,
    ticks: u64,
}

/// The process and all that descend from it.
fn family(root: u32) -> anyhow::Result<Vec<Stat>> {
    let mut all = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // One may have ended meanwhile.
        if let Some(stat) = stat(id) {
            all.insert(id, stat);
        }
    }
    let mut found = vec![all.remove(&root).context("the process has ended")?];
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        let children: Vec<u32> = all
            .iter()
            .filter(|(_, stat)| stat.parent == parent)
            .map(|(id, _)| *id)
            .collect();
        for child in children {
            found.extend(all.remove(&child));
            parents.push(child);
        }
    }
    Ok(found)
}

fn stat(id: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name may contain anything, spaces and brackets included.
    let (_, fields) = text.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    let ticks = (11..=14).filter_map(number).sum();
    let parent = u32::try_from(number(1)?).ok()?;
    Some(Stat { parent, ticks })
}

//! `make soak`: one gateway, and for many minutes all that can happen to it. The relay is restarted
//! repeatedly, sessions are opened and closed by the thousand, and then random faults come for the
//! rest of the time. Meanwhile it is watched what the programs hold: what grows with the number of
//! restarts, sessions or faults is a leak.
//!
//! SOAK_MINUTES is how long all of it takes; SOAK_SEED repeats the faults of another run;
//! SOAK_LOOKS names a file that gets every look at the memory.

mod crowd;
mod random;
mod series;
mod status;
mod troubles;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::figures::{Figures, descriptors};
use crate::lab::{GatewayPlan, Lab, PATIENCE, lines_after};
use crate::net::Machine;
use crate::runner;
use crate::steer::Proxy;
use crate::support::lab::GATEWAY_CONNECTED;
use crate::support::process::Process;
use crate::talk;
use crate::wait;
use crowd::{Crowd, Tally};
use random::Random;
use series::{PROGRAMS, Program, Series};
use status::Status;
use troubles::Trouble;

/// Unless SOAK_MINUTES says otherwise.
const MINUTES: u64 = 20;
/// In each minute of the time: 500 restarts and 10 000 sessions in 20 minutes.
const RESTARTS: u64 = 25;
const SESSIONS: u64 = 500;
/// Before anything is counted.
const WARM_UP: (u64, u64) = (5, 300);
/// Sessions between two looks.
const BATCH: u64 = 100;
/// A restart or fault that takes longer ends the soak: far beyond every bound of the table.
const LIMIT: Duration = Duration::from_secs(90);
/// Growth that is no leak, in MiB for a thousand: of a restart or a session; of the platform for
/// each restart, whose database grows with what it has issued, and of which it keeps up to 2 MiB in
/// memory; and of a fault, where it is half of what one tunnel takes, should it stay behind.
const SMALL: f64 = 1.0;
const PAGES: f64 = 4.0;
const TUNNEL: f64 = 20.0;
/// Of what was said in the course of a recovery that came late.
const SHOWN_LINES: usize = 60;
/// How long what is idle may keep what it no longer needs: connections to the platform are kept for
/// the next call.
const SETTLE: Duration = Duration::from_secs(120);

/// What a person or a script asked for.
struct Plan {
    minutes: u64,
    seed: u64,
}

impl Plan {
    fn of_environment() -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
        Self {
            minutes: number("SOAK_MINUTES").unwrap_or(MINUTES).max(1),
            seed: number("SOAK_SEED").unwrap_or_else(Random::seed),
        }
    }
}

/// All of it; fails when a byte was wrong, when something does not come back, or when something
/// grows.
pub(crate) fn run() -> ExitCode {
    if let Some(why) = runner::impossible() {
        println!("SKIPPED: nothing is soaked, {why}");
        return ExitCode::SUCCESS;
    }
    crate::net::remove_stale();
    let plan = Plan::of_environment();
    println!("SOAK_MINUTES={} SOAK_SEED={}", plan.minutes, plan.seed);
    let mut lab = Lab::build();
    let end = Instant::now() + Duration::from_secs(60 * plan.minutes);
    let mut soak = Soak::begin(&mut lab, plan.seed);
    // What fails has said why; all relays that there ever were need not add what they said.
    let done = catch_unwind(AssertUnwindSafe(|| {
        soak.restarts(&mut lab, RESTARTS * plan.minutes);
        soak.sessions(&lab, SESSIONS * plan.minutes);
        soak.troubles(&mut lab, end);
        soak.report(&lab)
    }));
    done.unwrap_or_else(|_| {
        soak.show();
        println!("FAILED, to be repeated with SOAK_SEED={}", plan.seed);
        ExitCode::FAILURE
    })
}

/// What is watched.
struct Soak {
    random: Random,
    proxy: Proxy,
    relay: Rc<Process>,
    gateway: Rc<Process>,
    status: Status,
    /// What gateway, relay and platform have open when no one asks anything of them.
    idle: [usize; 3],
    threads: usize,
    series: Vec<Series>,
    tally: Tally,
    /// For the summary.
    told: Vec<String>,
}

impl Soak {
    /// Starts everything, and lets it become what it will be.
    fn begin(lab: &mut Lab, seed: u64) -> Self {
        lab.start_platform();
        lab.start_echo(Machine::Gateway);
        talk::start(lab, Machine::Gateway);
        let proxy = lab.start_proxy();
        let relay = lab.start_relay(Machine::Relay);
        let mut command = lab.gateway_command(Machine::Gateway, &GatewayPlan::pinned());
        let status = Status::listen(&lab.dir().join("notify"), &mut command);
        let gateway = lab.spawn("gateway", &command);
        lab.wait_up(&gateway);
        lab.wait_line(&relay, 0, GATEWAY_CONNECTED, PATIENCE);
        let mut soak = Self {
            random: Random::new(seed),
            proxy,
            relay,
            gateway,
            status,
            idle: [usize::MAX; 3],
            threads: usize::MAX,
            series: Vec::new(),
            tally: Tally::default(),
            told: Vec::new(),
        };
        soak.restarts(lab, WARM_UP.0);
        soak.sessions(lab, WARM_UP.1);
        soak.idle = soak.pids(lab).map(least_descriptors);
        soak.threads = Figures::of(soak.gateway.pid()).threads;
        soak.series.clear();
        soak.told.clear();
        soak.tally = Tally::default();
        soak
    }

    /// Gateway, relay, platform.
    fn pids(&self, lab: &Lab) -> [Pid; 3] {
        [
            self.gateway.pid(),
            self.relay.pid(),
            lab.platform().process.pid(),
        ]
    }

    /// The relay ends, killed or cleanly, and is started again at once.
    fn restarts(&mut self, lab: &mut Lab, times: u64) {
        let mut gateway = Series::new(Program::Gateway, "relay restart", SMALL);
        let mut platform = Series::new(Program::Platform, "relay restart", PAGES);
        let mut took = Vec::new();
        for turn in 1..=times {
            let mark = self.gateway.mark();
            if turn % 2 == 0 {
                lab.kill(&self.relay);
            } else {
                assert_eq!(lab.stop(&self.relay), 0, "a clean end");
            }
            let probe = Lab::probe(&lab.way());
            self.relay = lab.start_relay(Machine::Relay);
            took.push(probe.success_since(Instant::now(), LIMIT));
            // Only what proved useful resets the backoff, and a relay that is restarted every
            // second is not what is tried.
            let proof = self
                .gateway
                .wait_for_line_after(mark, "Gateway is reachable by Infisical");
            lab.ask(proof);
            let how = if turn % 2 == 0 { "killed" } else { "ended" };
            gateway.take(turn, how, self.gateway.pid());
            platform.take(turn, how, lab.platform().process.pid());
        }
        self.series.extend([gateway, platform]);
        self.tell("restarts of the relay", &took);
    }

    /// So many sessions with data, in batches.
    fn sessions(&mut self, lab: &Lab, times: u64) {
        let mut series = PROGRAMS.map(|program| Series::new(program, "session", SMALL));
        for batch in 1..=times.div_ceil(BATCH) {
            let way = talk::way(lab);
            let tally = lab.ask(crowd::batch(&way, BATCH, &mut self.random));
            assert_eq!(tally.failed, 0, "sessions fail without a fault");
            self.tally += tally;
            self.settle(lab);
            for (series, pid) in series.iter_mut().zip(self.pids(lab)) {
                series.take(batch * BATCH, "", pid);
            }
        }
        self.series.extend(series);
    }

    /// Random faults until the time is over, with a crowd that never stops trying.
    fn troubles(&mut self, lab: &mut Lab, end: Instant) {
        // The platform is a new one after some of them.
        let mut series =
            [Program::Gateway, Program::Relay].map(|program| Series::new(program, "fault", TUNNEL));
        let mut took: Vec<(&'static str, Vec<Duration>)> = Vec::new();
        let mut turn = 0;
        while Instant::now() < end {
            turn += 1;
            let crowd = Crowd::start(&talk::way(lab), self.random.next());
            let way = lab.way();
            let Trouble { name, over, bound } =
                troubles::strike(lab, &mut self.proxy, &self.gateway, &mut self.random);
            let back = Lab::probe(&way).success_since(over, LIMIT);
            if back > bound {
                println!("LATE: {:.2} s after: {name}", back.as_secs_f64());
                self.show();
            }
            let tally = crowd.stop();
            assert_eq!(tally.wrong, 0, "a wrong byte was delivered after: {name}");
            self.tally += tally;
            match took.iter_mut().find(|(known, _)| *known == name) {
                Some((_, times)) => times.push(back),
                None => took.push((name, vec![back])),
            }
            self.settle(lab);
            for (series, pid) in series.iter_mut().zip(self.pids(lab)) {
                series.take(turn, name, pid);
            }
        }
        self.series.extend(series);
        took.sort_unstable_by_key(|(name, _)| *name);
        for (name, times) in took {
            self.tell(name, &times);
        }
    }

    /// Waits until gateway and relay hold no more than when they were idle.
    fn settle(&self, lab: &Lab) {
        for (pid, due) in self.pids(lab).into_iter().zip(self.idle).take(2) {
            wait::until("the descriptors are given back", SETTLE, || {
                let now = descriptors(pid);
                if now <= due {
                    Ok(())
                } else {
                    Err(format!(
                        "{now} of process {pid}, {due} when it was idle: {}",
                        account(pid)
                    ))
                }
            });
        }
    }

    /// The last that was said.
    fn show(&self) {
        for process in [&self.gateway, &self.relay, &self.proxy.process] {
            let from = process.mark().saturating_sub(SHOWN_LINES);
            let lines = lines_after(process, from).join("\n");
            println!("---- {}\n{lines}", process.name());
        }
        println!("---- end");
    }

    fn tell(&mut self, what: &str, took: &[Duration]) {
        let mut took = took.to_vec();
        took.sort_unstable();
        if let (Some(median), Some(most)) = (took.get(took.len() / 2), took.last()) {
            let (median, most) = (median.as_secs_f64(), most.as_secs_f64());
            let times = took.len();
            let line = format!("| {what} | {times} | {median:.2} s | {most:.2} s |");
            println!("{line}");
            self.told.push(line);
        }
    }

    /// What it came to; the last looks are taken now.
    fn report(&self, lab: &Lab) -> ExitCode {
        self.settle(lab);
        let threads = wait::until("the threads end", SETTLE, || {
            let now = Figures::of(self.gateway.pid()).threads;
            if now <= self.threads {
                Ok(now)
            } else {
                Err(now)
            }
        });
        wait::until("no session is counted", PATIENCE, || {
            let status = self.status.last();
            if status.contains(" 0 sessions") {
                Ok(())
            } else {
                Err(status)
            }
        });
        let mut grows = false;
        println!(
            "\n| what happened | times | works again after, median | at most |\n| --- | --- | --- | --- |"
        );
        for line in &self.told {
            println!("{line}");
        }
        println!(
            "\n| program | for each | looks | RSS at first, at last | growth for 1000 |\n| --- | --- | --- | --- | --- |"
        );
        if let Some(path) = std::env::var_os("SOAK_LOOKS") {
            let lines: String = self.series.iter().map(Series::lines).collect();
            std::fs::write(path, lines).expect("the file for the looks");
        }
        for series in &self.series {
            println!("{series}");
            grows |= series.grows();
        }
        println!("\nDescriptors when idle, at the beginning and now:");
        for ((name, pid), idle) in PROGRAMS.into_iter().zip(self.pids(lab)).zip(self.idle) {
            println!("- {name}: {idle}, {}", descriptors(pid));
        }
        println!("\nThreads of the gateway: {}, {threads}.", self.threads);
        println!("{}", self.tally);
        if grows {
            println!("FAILED: something grows");
            return ExitCode::FAILURE;
        }
        ExitCode::SUCCESS
    }
}

/// What a process has open once it no longer changes.
fn least_descriptors(pid: Pid) -> usize {
    const UNCHANGED: Duration = Duration::from_secs(3);
    let mut last = (Instant::now(), descriptors(pid));
    wait::until("the descriptors no longer change", SETTLE, || {
        let now = descriptors(pid);
        if now != last.1 {
            last = (Instant::now(), now);
        }
        if last.0.elapsed() >= UNCHANGED {
            Ok(now)
        } else {
            Err(now)
        }
    })
}

/// What the descriptors of a process are, and how many of each kind.
fn account(pid: Pid) -> String {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd"));
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for entry in entries.into_iter().flatten().flatten() {
        // A pipe or a socket has its number after a colon.
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        let target = target.to_string_lossy().into_owned();
        let kind = target.split(":[").next().unwrap_or_default();
        *kinds.entry(kind.to_owned()).or_default() += 1;
    }
    format!("{kinds:?}")
}

/// True if the process does anything about this signal but die of it.
pub(super) fn handles(pid: Pid, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal as i32 - 1) & 1 == 1)
}

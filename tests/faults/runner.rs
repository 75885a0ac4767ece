//! Runs the cases, several at once, reports each on a line, and prints what was measured as a
//! table.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::cases::{ALONE, TABLE};
use crate::lab::Lab;
use crate::net;
use crate::support::choice::Choice;
use crate::support::wanting;

/// One fault.
pub(crate) struct Case {
    /// A sentence, with `_` for spaces.
    pub(crate) name: &'static str,
    /// The fault, in the words of docs/reliability.md; empty if it has another document.
    pub(crate) row: &'static str,
    /// Within which time a session must work again.
    pub(crate) bound: Option<Duration>,
    /// In how many labs it is done, where it lasts too long to be done again in one.
    pub(crate) labs: usize,
    /// Panics when what must happen does not.
    pub(crate) run: fn(&mut Lab) -> Outcome,
}

/// What a case measured.
#[derive(Default)]
pub(crate) struct Outcome {
    recovered: Vec<Duration>,
    /// Other times, each with its name and bound.
    others: Vec<(&'static str, Duration, Option<Duration>)>,
    /// What else there is to tell.
    figures: Option<String>,
    /// Why it could not be done here.
    skipped: Option<String>,
}

impl Outcome {
    /// A session worked again after this.
    pub(crate) fn recovered(after: Duration) -> Self {
        let mut outcome = Self::default();
        outcome.recovered.push(after);
        outcome
    }

    /// The same several times; the worst counts.
    pub(crate) fn worst_of(times: Vec<Duration>) -> Self {
        assert!(!times.is_empty(), "nothing was measured");
        Self {
            recovered: times,
            ..Self::default()
        }
    }

    /// What was asked for happened, and there is no time in it.
    pub(crate) fn happened() -> Self {
        Self::default()
    }

    /// It cannot be done here.
    pub(crate) fn skipped(why: &str) -> Self {
        Self {
            skipped: Some(why.to_owned()),
            ..Self::default()
        }
    }

    /// One more time.
    pub(crate) fn and(
        mut self,
        what: &'static str,
        took: Duration,
        bound: Option<Duration>,
    ) -> Self {
        self.others.push((what, took, bound));
        self
    }

    /// What another lab measured as well.
    fn join(&mut self, other: Self) {
        self.recovered.extend(other.recovered);
        self.others.extend(other.others);
        self.figures = self.figures.take().or(other.figures);
        self.skipped = self.skipped.take().or(other.skipped);
    }

    /// What else was measured, in words.
    pub(crate) fn with_figures(mut self, figures: String) -> Self {
        self.figures = Some(figures);
        self
    }

    /// What was measured, and what was promised.
    fn told(&self, bound: Option<Duration>) -> (String, String) {
        let mut measured = Vec::new();
        let mut promised = Vec::new();
        let mut told = BTreeSet::new();
        for (what, _, bound) in &self.others {
            if told.insert(what) {
                let same = self.others.iter().filter(|(other, _, _)| other == what);
                measured.extend(worst(what, same.map(|(_, took, _)| *took)));
                promised.extend(bound.map(|bound| format!("{what} {}", seconds(bound))));
            }
        }
        measured.extend(self.figures.clone());
        measured.extend(worst("recovered in", self.recovered.iter().copied()));
        promised.extend(bound.map(|bound| match told.is_empty() {
            true => seconds(bound),
            false => format!("recovered in {}", seconds(bound)),
        }));
        let or = |list: Vec<String>, none: &str| match list.is_empty() {
            true => none.to_owned(),
            false => list.join(", "),
        };
        (or(measured, "as described"), or(promised, "–"))
    }

    fn is_late(&self, bound: Option<Duration>) -> bool {
        let late =
            |took: &Duration, bound: Option<Duration>| bound.is_some_and(|most| *took > most);
        self.recovered.iter().any(|took| late(took, bound))
            || self
                .others
                .iter()
                .any(|(_, took, bound)| late(took, *bound))
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// The worst of several times, and how many they are.
fn worst(what: &str, times: impl Iterator<Item = Duration> + Clone) -> Option<String> {
    let worst = times.clone().max()?.as_secs_f64();
    Some(match times.count() {
        1 => format!("{what} {worst:.2} s"),
        count => format!("{what} {worst:.2} s (worst of {count})"),
    })
}

/// What became of a case in one lab.
enum Result {
    Measured(Outcome),
    /// It panicked.
    Failed,
}

/// Programs without which nothing can be done, and the package that has each.
const TOOLS: &[(&str, &str)] = &[("ip", "iproute2"), ("nft", "nftables")];
/// Cases at once, unless FAULTS_AT_ONCE says otherwise: most of them wait most of the time.
const AT_ONCE: usize = 6;

thread_local! {
    /// What the last panic of this thread said.
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs what is chosen.
pub(crate) fn run(choice: &Choice) -> ExitCode {
    if let Some(why) = impossible() {
        println!("SKIPPED: no fault is tried out, {why}");
        println!("0 passed, 0 failed, 1 skipped");
        return ExitCode::SUCCESS;
    }
    net::remove_stale();
    let among = |table: &[&'static [Case]]| -> Vec<&'static Case> {
        let cases = table.iter().copied().flatten();
        cases.filter(|case| choice.has(case.name)).collect()
    };
    let (chosen, alone) = (among(TABLE), among(ALONE));
    if chosen.is_empty() && alone.is_empty() {
        choice.report_nothing();
        return ExitCode::FAILURE;
    }
    let undocumented = undocumented();
    if choice.is_everything() && !undocumented.is_empty() {
        eprintln!("docs/reliability.md has no row for {undocumented:#?}");
        return ExitCode::FAILURE;
    }
    std::panic::set_hook(Box::new(|panic| {
        SAID.set(panic.to_string());
    }));
    let begin = Instant::now();
    let at_once = std::env::var("FAULTS_AT_ONCE")
        .ok()
        .and_then(|text| text.parse().ok())
        .filter(|at_once| *at_once > 0);
    let mut results = run_all(&chosen, at_once.unwrap_or(AT_ONCE));
    results.extend(run_all(&alone, 1));
    let cases: Vec<&Case> = chosen.into_iter().chain(alone).collect();
    report(&cases, results, begin.elapsed())
}

/// Runs so many of the cases at once.
fn run_all(chosen: &[&'static Case], at_once: usize) -> Vec<(&'static str, Result)> {
    // Those that need several labs last long: they come first.
    let mut work: Vec<&Case> = chosen
        .iter()
        .copied()
        .flat_map(|case| vec![case; case.labs])
        .collect();
    work.sort_by_key(|case| std::cmp::Reverse(case.labs));
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(&str, Result)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(case) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // A thread of its own: it goes to another network, and cannot come back.
                    let result = std::thread::scope(|own| own.spawn(|| run_case(case)).join());
                    let result = result.expect("panics are caught");
                    results
                        .lock()
                        .expect("no thread panics")
                        .push((case.name, result));
                }
            });
        }
    });
    results.into_inner().expect("no thread panics")
}

fn report(chosen: &[&Case], results: Vec<(&str, Result)>, took: Duration) -> ExitCode {
    let mut table = "| fault | measured | bound |\n| --- | --- | --- |\n".to_owned();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    let mut all: BTreeMap<&str, (Outcome, bool)> = BTreeMap::new();
    for (name, result) in results {
        let (outcome, panicked) = all.entry(name).or_default();
        match result {
            Result::Measured(other) => outcome.join(other),
            Result::Failed => *panicked = true,
        }
    }
    for case in chosen {
        // What was not run at all did not succeed.
        let nothing = (Outcome::default(), true);
        let (outcome, panicked) = all.remove(case.name).unwrap_or(nothing);
        let (measured, bound) = outcome.told(case.bound);
        let row = |measured: &str| format!("| {} | {measured} | {bound} |\n", case.row);
        let row = if panicked {
            failed += 1;
            row("**failed**")
        } else if let Some(why) = &outcome.skipped {
            skipped += 1;
            row(&format!("skipped: {why}"))
        } else if outcome.is_late(case.bound) {
            failed += 1;
            row(&format!("**{measured}**"))
        } else {
            passed += 1;
            row(&measured)
        };
        if !case.row.is_empty() {
            table += &row;
        }
    }
    println!("\n{table}");
    println!(
        "{passed} passed, {failed} failed, {skipped} skipped in {:.0} s",
        took.as_secs_f64()
    );
    if let Some(path) = std::env::var_os("FAULTS_TABLE")
        && let Err(error) = std::fs::write(&path, &table)
    {
        eprintln!("the table cannot be written to {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    if failed > 0 {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Rows that docs/reliability.md does not have, in its table with the measured figures.
fn undocumented() -> Vec<&'static str> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reliability.md");
    let document = std::fs::read_to_string(path).unwrap_or_default();
    let rows = TABLE.iter().chain(ALONE).copied().flatten();
    rows.map(|case| case.row)
        .filter(|row| !row.is_empty() && !document.contains(&format!("\n| {row} |")))
        .collect()
}

/// Why there can be no network of our own here.
pub(crate) fn impossible() -> Option<String> {
    let namespace = ["--net", "nft", "list", "ruleset"];
    wanting::why("test-faults", TOOLS, &namespace)
}

fn run_case(case: &Case) -> Result {
    let mut lab = None;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        (case.run)(lab.get_or_insert_with(Lab::build))
    }));
    let name = case.name;
    let account = || {
        let account = catch_unwind(AssertUnwindSafe(|| lab.as_ref().map(Lab::account)));
        account.ok().flatten().unwrap_or_default()
    };
    let Ok(outcome) = outcome else {
        let said = SAID.take();
        println!(
            "test {name} ... FAILED: {said}\n{}---- end of {name}",
            account()
        );
        return Result::Failed;
    };
    let (measured, bound) = outcome.told(case.bound);
    if let Some(why) = &outcome.skipped {
        println!("test {name} ... SKIPPED: {why}");
    } else if outcome.is_late(case.bound) {
        println!(
            "test {name} ... FAILED: {measured} (bound {bound})\n{}---- end of {name}",
            account()
        );
    } else {
        println!("test {name} ... ok: {measured} (bound {bound})");
    }
    Result::Measured(outcome)
}

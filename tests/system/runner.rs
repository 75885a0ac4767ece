//! Runs the scenarios on both releases at once, and reports each case on a line and the counts on
//! the last.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use crate::image::{self, RELEASES, Release};
use crate::lab::Lab;
use crate::support::choice::Choice;
use crate::support::wanting;

/// One container's life.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Boots it.
    pub(crate) boot: fn(Release) -> Lab,
    /// In order; each may rely on those before it.
    pub(crate) cases: &'static [(&'static str, Case)],
}

/// Panics when it fails.
pub(crate) type Case = fn(&mut Lab);

/// A panic with this as its payload is no failure: the release cannot run what was built here.
pub(crate) struct Unsupported(pub(crate) &'static str);

/// What is counted.
#[derive(Default)]
struct Counts {
    passed: u32,
    failed: u32,
    skipped: u32,
}

/// Programs without which nothing can be done, and the package that has each.
const TOOLS: &[(&str, &str)] = &[
    ("systemd-nspawn", "systemd-container"),
    ("debootstrap", "debootstrap"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
    ("mount", "mount"),
    ("timeout", "coreutils"),
];

thread_local! {
    /// What the last panic of this thread said.
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs what is chosen of `scenarios`.
pub(crate) fn run(scenarios: &[Scenario], choice: &Choice) -> ExitCode {
    if let Some(why) = impossible() {
        println!("SKIPPED: the service is not tested on a real systemd, {why}");
        println!("0 passed, 0 failed, 1 skipped");
        return ExitCode::SUCCESS;
    }
    if let Err(error) = image::prepare() {
        eprintln!("the cache of root file systems cannot be used: {error}");
        return ExitCode::FAILURE;
    }
    std::panic::set_hook(Box::new(|panic| {
        SAID.set(panic.to_string());
    }));
    let counts = Mutex::new(Counts::default());
    std::thread::scope(|scope| {
        for release in RELEASES {
            let counts = &counts;
            scope.spawn(move || {
                for scenario in scenarios {
                    run_scenario(*release, scenario, choice, counts);
                }
            });
        }
    });
    let counts = counts.into_inner().expect("no thread panics");
    println!(
        "{} passed, {} failed, {} skipped",
        counts.passed, counts.failed, counts.skipped
    );
    if counts.failed > 0 {
        return ExitCode::FAILURE;
    }
    if counts.passed + counts.skipped == 0 {
        choice.report_nothing();
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Why no container can be booted here.
fn impossible() -> Option<String> {
    let namespace = ["--mount", "--propagation=private", "true"];
    let has_groups = Path::new("/sys/fs/cgroup").is_dir();
    let why = wanting::why("test-system", TOOLS, &namespace);
    why.or_else(|| (!has_groups).then(|| "for there are no control groups".to_owned()))
}

/// Cases that run: those that match, and those that they rely on.
fn chosen<'a>(release: Release, scenario: &'a Scenario, choice: &Choice) -> &'a [(&'a str, Case)] {
    let matches = |(name, _): &(&str, Case)| choice.has(&full_name(release, scenario, name));
    let last = scenario.cases.iter().rposition(matches);
    last.map_or(&[], |last| &scenario.cases[..=last])
}

fn full_name(release: Release, scenario: &Scenario, case: &str) -> String {
    format!("{}::{}::{case}", release.name, scenario.name)
}

fn run_scenario(release: Release, scenario: &Scenario, choice: &Choice, counts: &Mutex<Counts>) {
    let cases = chosen(release, scenario, choice);
    if cases.is_empty() {
        return;
    }
    let mut lab = None;
    // Why the rest is not run.
    let mut skip = None;
    for (name, case) in cases {
        let name = full_name(release, scenario, name);
        if let Some(why) = skip {
            counts.lock().expect("no thread panics").skipped += 1;
            println!("test {name} ... SKIPPED: {why}");
            continue;
        }
        let begin = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            case(lab.get_or_insert_with(|| (scenario.boot)(release)));
        }));
        let Err(panic) = outcome else {
            counts.lock().expect("no thread panics").passed += 1;
            println!(
                "test {name} ... ok ({:.1} s)",
                begin.elapsed().as_secs_f64()
            );
            continue;
        };
        if let Some(Unsupported(why)) = panic.downcast_ref() {
            counts.lock().expect("no thread panics").skipped += 1;
            println!("test {name} ... SKIPPED: {why}");
            skip = Some(*why);
            continue;
        }
        skip = Some("a case before it failed");
        let said = SAID.take();
        // A container that is broken may not even tell why.
        let account = catch_unwind(AssertUnwindSafe(|| {
            lab.as_ref().map(|lab| lab.container.account())
        }));
        let account = account.ok().flatten().unwrap_or_default();
        counts.lock().expect("no thread panics").failed += 1;
        println!("test {name} ... FAILED\n{said}\n{account}");
    }
}

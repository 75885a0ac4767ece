//! The gateway's clock jumps and stays wrong (libfaketime, in the gateway's process alone; its
//! monotonic clock is right).

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::lab::{GatewayPlan, Lab, PATIENCE};
use crate::net::Machine;
use crate::runner::{Case, Outcome};
use crate::wait;

/// Within which time sessions must work after a jump, or a restart of the relay after it.
const WORKS: Option<Duration> = Some(Duration::from_secs(5));
/// What names the skew in the gateway's log.
const NAMED: &str = "this clock is ";
/// How long the gateway may take to see the skew: a heartbeat tells.
const NAMED_WITHIN: Duration = Duration::from_secs(240);

pub(super) const CASES: &[Case] = &[
    Case {
        name: "a_clock_jumps_1_h_ahead",
        row: "the gateway's clock jumps 1 h ahead and stays wrong",
        bound: WORKS,
        labs: 2,
        run: |lab| jump(lab, "+3600"),
    },
    Case {
        name: "a_clock_jumps_1_h_back",
        row: "the gateway's clock jumps 1 h back and stays wrong",
        bound: WORKS,
        labs: 2,
        run: |lab| jump(lab, "-3600"),
    },
    Case {
        name: "a_clock_jumps_2_days_ahead",
        row: "the gateway's clock jumps 2 days ahead and stays wrong",
        bound: WORKS,
        labs: 2,
        run: |lab| jump(lab, "+172800"),
    },
    Case {
        name: "a_clock_jumps_2_days_back",
        row: "the gateway's clock jumps 2 days back and stays wrong",
        bound: WORKS,
        labs: 2,
        run: |lab| jump(lab, "-172800"),
    },
    Case {
        name: "clock_2_days_behind_at_boot",
        row: "the gateway starts with a clock 2 days behind",
        bound: WORKS,
        labs: 2,
        run: |lab| wrong_at_boot(lab, "-172800"),
    },
    Case {
        name: "clock_2_days_ahead_at_boot",
        row: "the gateway starts with a clock 2 days ahead",
        bound: WORKS,
        labs: 2,
        run: |lab| wrong_at_boot(lab, "+172800"),
    },
];

/// Where Debian has it.
pub(super) fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?;
    let mut libraries = folders
        .map_while(Result::ok)
        .map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    libraries.find(|library| library.is_file())
}

/// A gateway whose clock is as `file` says, at each look at it.
fn plan(library: &Path, file: &Path) -> GatewayPlan {
    let words = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    GatewayPlan {
        environment: vec![
            ("LD_PRELOAD", words(library)),
            ("FAKETIME_TIMESTAMP_FILE", words(file)),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ],
        ..GatewayPlan::pinned()
    }
}

/// Replaced whole, since it is read at any time.
fn set(file: &Path, offset: &str) {
    let fresh = file.with_extension("fresh");
    std::fs::write(&fresh, format!("{offset}\n")).expect("a file");
    std::fs::rename(&fresh, file).expect("moved to its place");
}

fn jump(lab: &mut Lab, offset: &str) -> Outcome {
    let Some(library) = library() else {
        return Outcome::skipped("the package faketime is not installed");
    };
    let file = lab.dir().join("clock");
    set(&file, "+0");
    let (relay, gateway) = lab.start(&plan(&library, &file));
    let way = lab.way();
    lab.assert_works(&way);
    let mark = gateway.mark();
    let begin = Instant::now();
    set(&file, offset);
    let recovered = Lab::probe(&way).success_since(begin, PATIENCE);
    // The tunnel may live on for long; the next one must come up too.
    lab.kill(&relay);
    lab.start_relay(Machine::Relay);
    let begin = Instant::now();
    let again = Lab::probe(&way).success_since(begin, PATIENCE);
    let said = lab.wait_line(&gateway, mark, NAMED, NAMED_WITHIN);
    let direction = if offset.starts_with('-') {
        "behind"
    } else {
        "ahead"
    };
    assert!(said.contains(direction), "it is {offset} s: {said}");
    assert!(gateway.is_running(), "the gateway gave up");
    Outcome::worst_of(vec![recovered, again])
}

fn wrong_at_boot(lab: &mut Lab, offset: &str) -> Outcome {
    let Some(library) = library() else {
        return Outcome::skipped("the package faketime is not installed");
    };
    let file = lab.dir().join("clock");
    set(&file, offset);
    lab.start_platform();
    lab.start_echo(Machine::Gateway);
    let _relay = lab.start_relay(Machine::Relay);
    let begin = Instant::now();
    let gateway = lab.start_gateway(Machine::Gateway, &plan(&library, &file));
    let way = wait::until("the gateway's registration", PATIENCE, || lab.try_way());
    let recovered = Lab::probe(&way).success_since(begin, PATIENCE);
    lab.wait_line(&gateway, 0, NAMED, NAMED_WITHIN);
    Outcome::recovered(recovered)
}

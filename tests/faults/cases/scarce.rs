//! Descriptors or memory run out.

use std::process::Command;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::figures::descriptors;
use crate::lab::{GatewayPlan, Lab, PATIENCE};
use crate::memory_group::MemoryGroup;
use crate::net::Machine;
use crate::runner::{Case, Outcome};
use crate::support::lab::GATEWAY_CONNECTED;
use crate::support::process::Process;
use crate::support::session::Way;
use crate::support::tls::Inner;
use crate::talk::{self, Talk};
use crate::wait;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "gateway_without_descriptors_keeps_its_sessions",
        row: "no descriptors left in the gateway for 10 s: tunnel and sessions live, new ones are closed at once; from the cure",
        bound: Some(Duration::from_secs(1)),
        labs: 1,
        run: without_descriptors,
    },
    Case {
        name: "gateway_reconnects_once_descriptors_are_free",
        row: "no descriptors left in the gateway, and the relay killed and restarted meanwhile; from the cure 10 s later",
        bound: Some(Duration::from_secs(3)),
        labs: 1,
        run: tunnel_without_descriptors,
    },
    Case {
        name: "gateway_killed_by_oom_is_back",
        row: "gateway with 64 MiB of memory in all: 200 sessions with data, 100 more whose clients read nothing; then killed, and started again",
        bound: Some(Duration::from_secs(1)),
        labs: 1,
        run: little_memory,
    },
];

/// No descriptor that is still free is below it.
const NONE: &str = "3";
/// Longer than a tunnel is silent without a keepalive.
const SCARCITY: Duration = Duration::from_secs(10);
/// How long the refusal of a session may take.
const AT_ONCE: Duration = Duration::from_secs(3);

fn without_descriptors(lab: &mut Lab) -> Outcome {
    let (relay, gateway) = lab.start(&GatewayPlan::pinned());
    talk::start(lab, Machine::Gateway);
    let way = talk::way(lab);
    let mut sessions: Vec<_> = (0..3).map(|number| open(lab, &way, number)).collect();
    let before = descriptors(gateway.pid());

    if let Err(why) = limit_descriptors(&gateway, NONE) {
        return Outcome::skipped(&why);
    }
    let echo = lab.way();
    let begin = Instant::now();
    for number in 10..30 {
        let attempt = async {
            let mut talk = Talk::new(way.tcp().await?, number);
            talk.round_trip(16).await
        };
        let attempt = lab.ask(async { tokio::time::timeout(AT_ONCE, attempt).await });
        let refused = attempt.expect("the session hangs");
        refused.expect_err("without a descriptor there is no way to the target");
    }
    work(lab, &mut sessions);
    wait::pause(SCARCITY.saturating_sub(begin.elapsed()));
    work(lab, &mut sessions);
    let tunnels = relay.output().matches(GATEWAY_CONNECTED).count();
    assert_eq!(tunnels, 1, "the tunnel was lost");

    let probe = Lab::probe(&echo);
    let begin = Instant::now();
    limit_descriptors(&gateway, "4096").expect("as before");
    let took = probe.success_since(begin, PATIENCE);
    work(lab, &mut sessions);
    drop(sessions);
    wait::until("the descriptors are given back", PATIENCE, || {
        let now = descriptors(gateway.pid());
        // Without the three sessions.
        if now <= before - 3 {
            Ok(())
        } else {
            Err(format!("{now} of {before}"))
        }
    });
    Outcome::recovered(took)
}

fn tunnel_without_descriptors(lab: &mut Lab) -> Outcome {
    let (relay, gateway) = lab.start(&GatewayPlan::pinned());
    let way = lab.way();
    lab.assert_works(&way);
    if let Err(why) = limit_descriptors(&gateway, NONE) {
        return Outcome::skipped(&why);
    }
    lab.kill(&relay);
    let _relay = lab.start_relay(Machine::Relay);
    wait::pause(SCARCITY);
    assert!(gateway.is_running(), "{}", gateway.output());
    let probe = Lab::probe(&way);
    let begin = Instant::now();
    limit_descriptors(&gateway, "4096").expect("as before");
    Outcome::recovered(probe.success_since(begin, PATIENCE))
}

/// The soft limit alone, which can be raised again.
pub(super) fn limit_descriptors(process: &Process, to: &str) -> Result<(), String> {
    let mut command = Command::new("prlimit");
    command.args(["--pid", &process.pid().to_string()]);
    command.arg(format!("--nofile={to}:"));
    let output = command
        .output()
        .map_err(|error| format!("prlimit: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

const MEMORY: u64 = 64 << 20;
const SESSIONS: usize = 200;
/// Bytes of each, both ways.
const DATA: u64 = 1 << 20;
/// Sessions of which half the clients do not read, and half the targets.
const STALLED: usize = 100;

fn little_memory(lab: &mut Lab) -> Outcome {
    let group = match MemoryGroup::make(MEMORY) {
        Ok(group) => group,
        Err(why) => return Outcome::skipped(&why),
    };
    lab.start_platform();
    lab.start_echo(Machine::Gateway);
    talk::start(lab, Machine::Gateway);
    let _relay = lab.start_relay(Machine::Relay);
    let command = lab.gateway_command(Machine::Gateway, &GatewayPlan::pinned());
    let gateway = lab.spawn("gateway", &group.within(&command));
    lab.wait_up(&gateway);
    let (way, echo) = (talk::way(lab), lab.way());
    // Each in a task of its own: within one task, those that write leave the handshakes of the
    // others no turn.
    let _stalled = lab.ask(async {
        let mut stalling = JoinSet::new();
        for mut talk in talk::open_all(vec![way.clone(); STALLED], 0).await {
            stalling.spawn(async move {
                if talk.number() % 2 == 0 {
                    talk.ask_and_leave(DATA).await.expect("asked");
                } else {
                    talk.fill().await.expect("filled");
                }
                talk
            });
        }
        stalling.join_all().await
    });
    lab.ask(async {
        let mut talking = JoinSet::new();
        for mut talk in talk::open_all(vec![way; SESSIONS], 1000).await {
            talking.spawn(async move {
                talk.exchange(DATA).await.expect("every byte both ways");
                talk.end().await.expect("a clean end");
            });
        }
        let all = async {
            while let Some(talked) = talking.join_next().await {
                talked.expect("a session");
            }
        };
        let all = tokio::time::timeout(PATIENCE, all).await;
        all.expect("all of it in time");
    });
    assert!(gateway.is_running(), "the gateway was killed");
    let (kills, peak) = (group.kills(), group.peak() >> 20);
    assert_eq!(kills, 0);
    assert!(peak > 5, "the gateway is not in the group: {peak} MiB");

    // What the kernel would do, and what the service manager does then.
    lab.kill(&gateway);
    let begin = Instant::now();
    let again = lab.spawn("gateway", &group.within(&command));
    let took = Lab::probe(&echo).success_since(begin, PATIENCE);
    lab.kill(&again);
    Outcome::recovered(took).with_figures(format!("{peak} MiB at most"))
}

/// A session in which a round trip was made.
fn open(lab: &Lab, way: &Way, number: u64) -> Talk<Inner> {
    lab.ask(async {
        let mut talk = Talk::new(way.tcp().await.expect("a way"), number);
        talk.round_trip(64).await.expect("a round trip");
        talk
    })
}

fn work(lab: &Lab, sessions: &mut [Talk<Inner>]) {
    for session in sessions {
        lab.ask(session.round_trip(1000)).expect("a session lives");
    }
}

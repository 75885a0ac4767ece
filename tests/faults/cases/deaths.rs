//! Relay or gateway end and come back.

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::lab::{GatewayPlan, Lab, PATIENCE};
use crate::net::Machine;
use crate::runner::{Case, Outcome};
use crate::support::process::Process;
use crate::wait;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "killed_relay_is_back_after_1_s",
        row: "relay killed, and listening again after 1 s",
        bound: Some(Duration::from_secs(2)),
        labs: 1,
        run: |lab| relay_away(lab, Duration::from_secs(1), 3),
    },
    Case {
        name: "killed_relay_is_back_after_5_s",
        row: "relay killed, and listening again after 5 s",
        bound: Some(Duration::from_secs(2)),
        labs: 1,
        run: |lab| relay_away(lab, Duration::from_secs(5), 3),
    },
    Case {
        name: "killed_relay_is_back_after_20_s",
        row: "relay killed, and listening again after 20 s",
        bound: Some(Duration::from_secs(2)),
        labs: 3,
        run: |lab| relay_away(lab, Duration::from_secs(20), 1),
    },
    Case {
        name: "distant_relay_is_back_after_5_s",
        row: "the same with 100 ms from the gateway to the relay and back",
        bound: Some(Duration::from_secs(2)),
        labs: 1,
        run: far_relay_away,
    },
    Case {
        name: "a_relay_is_stopped_and_started_again",
        row: "relay stopped, and started again at once",
        bound: Some(Duration::from_secs(2)),
        labs: 1,
        run: relay_restarted,
    },
    Case {
        name: "a_gateway_is_killed_and_started_again",
        row: "gateway killed, and started again at once",
        bound: Some(Duration::from_secs(1)),
        labs: 1,
        run: gateway_restarted,
    },
];

fn relay_away(lab: &mut Lab, away: Duration, times: u32) -> Outcome {
    let (mut relay, _gateway) = lab.start(&GatewayPlan::pinned());
    let mut measured = Vec::new();
    for _ in 0..times {
        let way = lab.way();
        lab.assert_works(&way);
        lab.kill(&relay);
        wait::pause(away);
        measured.push(relay_comes_back(lab, &mut relay));
    }
    Outcome::worst_of(measured)
}

fn far_relay_away(lab: &mut Lab) -> Outcome {
    let one_way = Duration::from_millis(50);
    lab.start_platform();
    lab.start_echo(Machine::Gateway);
    let mut relay = lab.start_relay(Machine::Relay);
    let mut proxy = lab.start_proxy();
    proxy.delay(one_way);
    let gateway = lab.start_gateway(Machine::Gateway, &GatewayPlan::pinned());
    lab.wait_up(&gateway);
    let mut measured = Vec::new();
    for _ in 0..3 {
        lab.assert_works(&lab.way());
        lab.kill(&relay);
        wait::pause(Duration::from_secs(5));
        measured.push(relay_comes_back(lab, &mut relay));
    }
    Outcome::worst_of(measured)
}

fn relay_restarted(lab: &mut Lab) -> Outcome {
    let (mut relay, _gateway) = lab.start(&GatewayPlan::pinned());
    let mut measured = Vec::new();
    for _ in 0..3 {
        lab.assert_works(&lab.way());
        assert_eq!(lab.stop(&relay), 0, "a clean end");
        measured.push(relay_comes_back(lab, &mut relay));
    }
    Outcome::worst_of(measured)
}

/// From its listening again to the first session.
fn relay_comes_back(lab: &Lab, relay: &mut Rc<Process>) -> Duration {
    let probe = Lab::probe(&lab.way());
    *relay = lab.start_relay(Machine::Relay);
    probe.success_since(Instant::now(), PATIENCE)
}

fn gateway_restarted(lab: &mut Lab) -> Outcome {
    let (_relay, mut gateway) = lab.start(&GatewayPlan::pinned());
    let mut measured = Vec::new();
    for _ in 0..3 {
        let way = lab.way();
        lab.assert_works(&way);
        lab.kill(&gateway);
        let begin = Instant::now();
        gateway = lab.start_gateway(Machine::Gateway, &GatewayPlan::pinned());
        let probe = Lab::probe(&way);
        measured.push(probe.success_since(begin, PATIENCE));
    }
    Outcome::worst_of(measured)
}

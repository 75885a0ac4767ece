//! The network between gateway and relay loses everything, or one direction, and no one is
//! notified.

use std::rc::Rc;
use std::time::{Duration, Instant};

use infisical_runtime::events;

use crate::lab::{GatewayPlan, Lab, PATIENCE};
use crate::net::Machine;
use crate::runner::{Case, Outcome};
use crate::support::process::Process;
use crate::wait;

/// Within which time a gateway must know that its tunnel is dead.
pub(super) const NOTICED: Duration = Duration::from_secs(30);
/// Within which time a session must work after the cure.
pub(super) const RECOVERED: Option<Duration> = Some(Duration::from_secs(3));
/// Longer than a gateway needs to notice, so that it is in the middle of its attempts when the cure
/// comes.
const AFTER_NOTICING: Duration = Duration::from_secs(15);

pub(super) const CASES: &[Case] = &[
    Case {
        name: "a_silent_partition_of_90_s_heals",
        row: "silent partition of 90 s between gateway and relay, then healed; relay pinned",
        bound: RECOVERED,
        labs: 3,
        run: |lab| partition(lab, &GatewayPlan::pinned(), pair),
    },
    Case {
        name: "silent_partition_from_everything_heals",
        row: "silent partition of 90 s between gateway and everything, then healed; relay chosen",
        bound: RECOVERED,
        labs: 3,
        run: |lab| {
            partition(lab, &GatewayPlan::default(), |lab| {
                lab.net.isolate(Machine::Gateway);
            })
        },
    },
    Case {
        name: "what_the_gateway_sends_is_lost",
        row: "half-open: what the gateway sends to the relay is lost",
        bound: RECOVERED,
        labs: 3,
        run: |lab| half_open(lab, |lab| lab.net.silence(Machine::Gateway, Machine::Relay)),
    },
    Case {
        name: "what_the_relay_sends_is_lost",
        row: "half-open: what the relay sends to the gateway is lost",
        bound: RECOVERED,
        labs: 3,
        run: |lab| half_open(lab, |lab| lab.net.silence(Machine::Relay, Machine::Gateway)),
    },
    Case {
        name: "the_cable_is_pulled_for_40_s",
        row: "the gateway's cable pulled for 40 s",
        bound: RECOVERED,
        labs: 3,
        run: cable,
    },
    Case {
        name: "the_address_changes",
        row: "the gateway's address changes, and the old one is dead",
        bound: RECOVERED,
        labs: 1,
        run: address_changes,
    },
    Case {
        name: "the_default_route_changes",
        row: "the gateway's default route changes, and the old one is dead",
        bound: RECOVERED,
        labs: 1,
        run: route_changes,
    },
];

fn pair(lab: &mut Lab) {
    lab.net.silence(Machine::Gateway, Machine::Relay);
    lab.net.silence(Machine::Relay, Machine::Gateway);
}

fn partition(lab: &mut Lab, plan: &GatewayPlan, begin: fn(&mut Lab)) -> Outcome {
    const LASTS: Duration = Duration::from_secs(90);
    let (_relay, gateway) = lab.start(plan);
    let way = lab.way();
    lab.assert_works(&way);
    let mark = gateway.mark();
    let since = Instant::now();
    begin(lab);
    let noticed = noticed(lab, &gateway, mark, since);
    wait::pause(LASTS.saturating_sub(since.elapsed()));
    let probe = Lab::probe(&way);
    let healed = Instant::now();
    lab.net.heal();
    let recovered = probe.success_since(healed, PATIENCE);
    Outcome::recovered(recovered).and("noticed", noticed, Some(NOTICED))
}

fn half_open(lab: &mut Lab, begin: fn(&mut Lab)) -> Outcome {
    let (_relay, gateway) = lab.start(&GatewayPlan::pinned());
    let way = lab.way();
    lab.assert_works(&way);
    let mark = gateway.mark();
    let since = Instant::now();
    begin(lab);
    let noticed = noticed(lab, &gateway, mark, since);
    wait::pause(AFTER_NOTICING);
    let probe = Lab::probe(&way);
    let healed = Instant::now();
    lab.net.heal();
    let recovered = probe.success_since(healed, PATIENCE);
    Outcome::recovered(recovered).and("noticed", noticed, Some(NOTICED))
}

/// How long the gateway took to say that it has no tunnel.
#[track_caller]
pub(super) fn noticed(lab: &Lab, gateway: &Rc<Process>, mark: usize, since: Instant) -> Duration {
    lab.wait_line(gateway, mark, events::NOT_CONNECTED.text, PATIENCE);
    since.elapsed()
}

fn cable(lab: &mut Lab) -> Outcome {
    const LASTS: Duration = Duration::from_secs(40);
    lab.start(&GatewayPlan::pinned());
    let way = lab.way();
    lab.assert_works(&way);
    lab.net.plug(Machine::Gateway, false);
    wait::pause(LASTS);
    let probe = Lab::probe(&way);
    let healed = Instant::now();
    lab.net.plug(Machine::Gateway, true);
    Outcome::recovered(probe.success_since(healed, PATIENCE))
}

/// Into another network, as a laptop or a machine that is moved: the old address is never valid
/// again.
fn address_changes(lab: &mut Lab) -> Outcome {
    lab.start(&GatewayPlan::pinned());
    let mut measured = Vec::new();
    let router = Machine::Gateway.router();
    let mut old = Machine::Gateway.address();
    for last in [3, 4, 5] {
        let [a, b, c, _] = old.octets();
        let new = std::net::Ipv4Addr::new(a, b, c, last);
        let way = lab.way();
        lab.assert_works(&way);
        lab.net.ip(
            Machine::Gateway,
            &format!("address delete {old}/24 dev eth0\n"),
        );
        assert!(
            crate::probe::once(&way, Duration::from_secs(1)).is_err(),
            "a session works without an address"
        );
        let probe = Lab::probe(&way);
        let begin = Instant::now();
        lab.net.ip(
            Machine::Gateway,
            &format!("address add {new}/24 dev eth0\nroute replace default via {router}\n"),
        );
        measured.push(probe.success_since(begin, PATIENCE));
        old = new;
    }
    Outcome::worst_of(measured)
}

/// To another uplink, as when a mobile network takes over from a cable: the old one is up, and
/// carries nothing.
fn route_changes(lab: &mut Lab) -> Outcome {
    lab.start(&GatewayPlan::pinned());
    let router = Machine::Gateway.router();
    let (old, new) = (
        Machine::Gateway.address(),
        Machine::Gateway.second_address(),
    );
    lab.net.ip(
        Machine::Gateway,
        &format!("address add {new}/24 dev eth0\n"),
    );
    let mut measured = Vec::new();
    for (dead, alive) in [(old, new), (new, old), (old, new)] {
        let way = lab.way();
        lab.assert_works(&way);
        lab.net.heal();
        lab.net.silence_address(Machine::Gateway, dead);
        assert!(
            crate::probe::once(&way, Duration::from_secs(1)).is_err(),
            "a session works over a dead uplink"
        );
        let probe = Lab::probe(&way);
        let begin = Instant::now();
        lab.net.ip(
            Machine::Gateway,
            &format!("route replace default via {router} src {alive}\n"),
        );
        measured.push(probe.success_since(begin, PATIENCE));
    }
    Outcome::worst_of(measured)
}

//! Relays that take connections and then say nothing, or not enough.

use std::rc::Rc;
use std::time::{Duration, Instant};

use infisical_runtime::events;
use nix::sys::signal::Signal;

use super::partitions::{NOTICED, RECOVERED, noticed};
use crate::lab::{GatewayPlan, Lab, PATIENCE};
use crate::net::Machine;
use crate::runner::{Case, Outcome};
use crate::steer::{Direction, Fresh, Proxy};
use crate::support::process::Process;
use crate::support::session::Way;
use crate::wait;

/// How long it goes on after it was noticed: the gateway is in the middle of an attempt that hangs.
const AFTER_NOTICING: Duration = Duration::from_secs(10);

pub(super) const CASES: &[Case] = &[
    Case {
        name: "stopped_relay_whose_kernel_answers",
        row: "the relay's process stands still (SIGSTOP), its kernel answers",
        bound: RECOVERED,
        labs: 3,
        run: stands_still,
    },
    Case {
        name: "a_relay_accepts_and_never_speaks",
        row: "the relay accepts TCP and never speaks; old connections stay so after the cure",
        bound: RECOVERED,
        labs: 3,
        run: |lab| mute(lab, Fresh::Silent),
    },
    Case {
        name: "a_relay_answers_and_never_authenticates",
        row: "the relay exchanges keys and never authenticates; old connections stay so after the cure",
        bound: RECOVERED,
        labs: 3,
        run: |lab| mute(lab, Fresh::Keys),
    },
    Case {
        name: "a_tunnel_is_forgotten_on_the_way",
        row: "something between forgets the tunnel and says nothing; new connections work",
        bound: Some(NOTICED),
        labs: 3,
        run: forgotten,
    },
];

/// As a firewall does that was restarted: no one cures it, and the gateway needs no one to.
fn forgotten(lab: &mut Lab) -> Outcome {
    let (mut proxy, _gateway, way) = behind_proxy(lab);
    let begin = Instant::now();
    for direction in [Direction::Up, Direction::Down] {
        proxy.stick(direction);
    }
    Outcome::recovered(Lab::probe(&way).success_since(begin, PATIENCE))
}

/// Everything works, and the tunnel passes the proxy.
fn behind_proxy(lab: &mut Lab) -> (Proxy, Rc<Process>, Way) {
    lab.start_platform();
    lab.start_echo(Machine::Gateway);
    let _relay = lab.start_relay(Machine::Relay);
    let proxy = lab.start_proxy();
    let gateway = lab.start_gateway(Machine::Gateway, &GatewayPlan::pinned());
    lab.wait_up(&gateway);
    let way = lab.way();
    lab.assert_works(&way);
    (proxy, gateway, way)
}

fn stands_still(lab: &mut Lab) -> Outcome {
    let (relay, gateway) = lab.start(&GatewayPlan::pinned());
    let way = lab.way();
    lab.assert_works(&way);
    let mark = gateway.mark();
    let since = Instant::now();
    relay.signal(Signal::SIGSTOP);
    let noticed = noticed(lab, &gateway, mark, since);
    wait::pause(AFTER_NOTICING);
    let probe = Lab::probe(&way);
    let cured = Instant::now();
    relay.signal(Signal::SIGCONT);
    let recovered = probe.success_since(cured, PATIENCE);
    Outcome::recovered(recovered).and("noticed", noticed, Some(NOTICED))
}

fn mute(lab: &mut Lab, fresh: Fresh) -> Outcome {
    let (mut proxy, gateway, way) = behind_proxy(lab);
    // The tunnel ends, and the next one is not to be had.
    proxy.fresh(fresh);
    let mark = gateway.mark();
    proxy.cut();
    lab.wait_line(&gateway, mark, events::NOT_CONNECTED.text, PATIENCE);
    lab.wait_line(
        &proxy.process,
        0,
        &format!("accepted as {fresh:?}"),
        PATIENCE,
    );
    // From the moment the relay took the connection to the moment the gateway says that nothing
    // came of it.
    let mark = gateway.mark();
    let since = Instant::now();
    let noticed = noticed(lab, &gateway, mark, since);
    wait::pause(AFTER_NOTICING);
    let probe = Lab::probe(&way);
    let cured = Instant::now();
    proxy.fresh(Fresh::Forward);
    let recovered = probe.success_since(cured, PATIENCE);
    Outcome::recovered(recovered).and("noticed", noticed, Some(NOTICED))
}

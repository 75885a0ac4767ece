//! What a gateway needs is not there when it starts.

use std::rc::Rc;
use std::time::{Duration, Instant};

use infisical_runtime::events;

use crate::lab::{GatewayPlan, Lab, PATIENCE, PLATFORM_NAME};
use crate::net::Machine;
use crate::runner::{Case, Outcome};
use crate::support::manager::Manager;
use crate::support::process::Process;
use crate::wait;

/// Within which time a session must work after the cure.
const UP: Option<Duration> = Some(Duration::from_secs(5));
/// How long what is missing is missing: the gateway's attempts are rare by then.
const MISSING: Duration = Duration::from_secs(45);

pub(super) const CASES: &[Case] = &[
    Case {
        name: "the_platform_is_down_at_boot",
        row: "platform down at boot (connections refused)",
        bound: UP,
        labs: 3,
        run: platform_down,
    },
    Case {
        name: "the_platform_is_silent_at_boot",
        row: "platform cut off at boot (no answer)",
        bound: UP,
        labs: 3,
        run: platform_silent,
    },
    Case {
        name: "dns_is_down_at_boot",
        row: "DNS down at boot (queries refused)",
        bound: UP,
        labs: 3,
        run: dns_down,
    },
    Case {
        name: "dns_is_silent_at_boot",
        row: "DNS cut off at boot (no answer)",
        bound: UP,
        labs: 3,
        run: dns_silent,
    },
    Case {
        name: "there_is_no_network_at_boot",
        row: "no network at boot (no address that is up, no route)",
        bound: UP,
        labs: 3,
        run: no_network,
    },
    Case {
        name: "the_relay_is_down_at_boot",
        row: "relay down at boot (connections refused)",
        bound: UP,
        labs: 3,
        run: relay_down,
    },
];

/// A world in which only the gateway is missing.
fn world(lab: &mut Lab) -> Rc<Process> {
    lab.start_platform();
    lab.start_echo(Machine::Gateway);
    let relay = lab.start_relay(Machine::Relay);
    // The identity is made while the platform is there.
    lab.gateway_keys();
    relay
}

/// Starts a gateway that cannot come up; it must say in its log and to its service manager that it
/// waits for `what`.
fn start_fails(lab: &Lab, plan: &GatewayPlan, what: &str) {
    let socket = lab.dir().join("notify");
    let mut command = lab.gateway_command(Machine::Gateway, plan);
    let manager = Manager::listen(&socket, &mut command);
    let gateway = lab.spawn("gateway", &command);
    let line = lab.wait_line(&gateway, 0, events::NOT_CONNECTED.text, PATIENCE);
    assert!(line.contains(what), "not a word of {what:?}: {line}");
    let said = manager.wait_for("STATUS=not connected");
    let status = said
        .lines()
        .rfind(|line| line.starts_with("STATUS=not connected"));
    assert!(
        status.is_some_and(|status| status.contains(what)),
        "not a word of {what:?}: {said}"
    );
    wait::pause(MISSING);
    assert!(gateway.is_running(), "the gateway gave up");
}

fn platform_address() -> String {
    Machine::Platform.address().to_string()
}

fn platform_down(lab: &mut Lab) -> Outcome {
    let _relay = world(lab);
    lab.kill_platform();
    start_fails(lab, &GatewayPlan::pinned(), &platform_address());
    lab.start_platform();
    let cured = Instant::now();
    up_since(lab, cured)
}

fn platform_silent(lab: &mut Lab) -> Outcome {
    let _relay = world(lab);
    lab.net.silence(Machine::Gateway, Machine::Platform);
    start_fails(lab, &GatewayPlan::pinned(), &platform_address());
    let cured = Instant::now();
    lab.net.heal();
    up_since(lab, cured)
}

fn by_name() -> GatewayPlan {
    GatewayPlan {
        by_name: true,
        ..GatewayPlan::pinned()
    }
}

fn dns_down(lab: &mut Lab) -> Outcome {
    let _relay = world(lab);
    lab.use_dns();
    start_fails(lab, &by_name(), PLATFORM_NAME);
    let cured = Instant::now();
    lab.start_dns();
    up_since(lab, cured)
}

fn dns_silent(lab: &mut Lab) -> Outcome {
    let _relay = world(lab);
    lab.use_dns();
    lab.start_dns();
    lab.net.silence_dns(Machine::Gateway);
    start_fails(lab, &by_name(), PLATFORM_NAME);
    let cured = Instant::now();
    lab.net.heal();
    up_since(lab, cured)
}

fn no_network(lab: &mut Lab) -> Outcome {
    let _relay = world(lab);
    lab.net.ip(Machine::Gateway, "link set eth0 down\n");
    start_fails(lab, &GatewayPlan::pinned(), "unreachable");
    let router = Machine::Gateway.router();
    let cured = Instant::now();
    lab.net.ip(
        Machine::Gateway,
        &format!("link set eth0 up\nroute add default via {router}\n"),
    );
    up_since(lab, cured)
}

fn relay_down(lab: &mut Lab) -> Outcome {
    let relay = world(lab);
    lab.kill(&relay);
    start_fails(
        lab,
        &GatewayPlan::pinned(),
        &Machine::Relay.address().to_string(),
    );
    lab.start_relay(Machine::Relay);
    let cured = Instant::now();
    up_since(lab, cured)
}

/// The platform knows a gateway only once it has registered, and so a way to it.
fn up_since(lab: &Lab, cured: Instant) -> Outcome {
    let way = wait::until("the gateway's registration", PATIENCE, || lab.try_way());
    let probe = Lab::probe(&way);
    Outcome::recovered(probe.success_since(cured, PATIENCE))
}

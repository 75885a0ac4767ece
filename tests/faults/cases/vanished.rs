//! The gateway's machine is gone without a word, and the same gateway starts elsewhere.

use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::lab::{GatewayPlan, Lab, PATIENCE, lines_after};
use crate::net::Machine;
use crate::runner::{Case, Outcome};
use crate::support::process::{Process, clean};
use crate::support::stack::RELAY;
use crate::support::{go, write_private};
use crate::wait;

/// A deployed relay lets go of a machine that vanished when its kernel gives up: after 150 s if
/// nothing was under way (Go's defaults: it probes after 15 s, nine times, every 15 s), else after
/// 15 minutes. Here after this many repetitions, a minute.
const REPETITIONS: u32 = 7;
const LETS_GO: Duration = Duration::from_secs(240);

pub(super) const CASES: &[Case] = &[
    Case {
        name: "a_gateway_vanishes_and_starts_elsewhere",
        row: "the gateway's machine vanishes, and the same gateway starts elsewhere",
        bound: Some(Duration::from_secs(3)),
        labs: 1,
        run: elsewhere,
    },
    Case {
        name: "vanished_gateway_restarts_with_deployed_relay",
        row: "the same with a deployed relay, from its letting go of the vanished machine",
        bound: Some(Duration::from_secs(3)),
        labs: 3,
        run: elsewhere_deployed,
    },
];

fn elsewhere(lab: &mut Lab) -> Outcome {
    let (_relay, mut gateway) = lab.start(&GatewayPlan::pinned());
    lab.start_echo(Machine::Elsewhere);
    let mut measured = Vec::new();
    for (gone, here) in [
        (Machine::Gateway, Machine::Elsewhere),
        (Machine::Elsewhere, Machine::Gateway),
        (Machine::Gateway, Machine::Elsewhere),
    ] {
        let way = lab.way();
        lab.assert_works(&way);
        lab.net.heal();
        lab.net.isolate(gone);
        // As a power cut does; and its disconnect message is lost.
        lab.kill(&gateway);
        let begin = Instant::now();
        gateway = lab.start_gateway(here, &GatewayPlan::pinned());
        let probe = Lab::probe(&way);
        measured.push(probe.success_since(begin, PATIENCE));
    }
    Outcome::worst_of(measured)
}

fn elsewhere_deployed(lab: &mut Lab) -> Outcome {
    let Some(program) = go::program() else {
        return Outcome::skipped("there is no deployed relay");
    };
    // What the deployed platform issues.
    lab.start_platform_with(&["--key-algorithm", "rsa-2048"]);
    lab.start_echo(Machine::Gateway);
    lab.start_echo(Machine::Elsewhere);
    lab.net
        .set(Machine::Relay, "net/ipv4/tcp_retries2", REPETITIONS);
    let relay = start_deployed_relay(lab, program);
    let gateway = lab.start_gateway(Machine::Gateway, &GatewayPlan::pinned());
    lab.wait_up(&gateway);
    lab.wait_line(&relay, 0, "tunnel of", PATIENCE);
    lab.assert_works(&lab.way());

    lab.net.isolate(Machine::Gateway);
    lab.kill(&gateway);
    let begin = Instant::now();
    let again = lab.start_gateway(Machine::Elsewhere, &GatewayPlan::pinned());
    lab.wait_line(&relay, 0, "second connection", PATIENCE);
    wait::until("the relay's letting go", LETS_GO, || {
        let lines = lines_after(&relay, 0);
        let gone = |line: &&String| line.starts_with("tunnel of") && line.ends_with(" closed");
        lines.iter().find(gone).map(|_| ()).ok_or("it holds on")
    });
    let let_go = Instant::now();
    let kept = begin.elapsed();
    let probe = Lab::probe(&lab.way());
    let recovered = probe.success_since(let_go, PATIENCE);
    // Which is what was happening, and why.
    let told = again.output().contains(EXPLANATION);
    assert!(told, "not a word of {EXPLANATION:?}; it took {recovered:?}");
    Outcome::recovered(recovered).and("the relay let go after", kept, None)
}

/// In the log of a gateway that a deployed relay sends away because it still has the vanished one.
const EXPLANATION: &str = "still holds an earlier connection of this gateway";

fn start_deployed_relay(lab: &Lab, program: &Path) -> Rc<Process> {
    let address = Machine::Relay.address();
    let issued = lab.ask(async {
        let platform = lab.platform();
        let token = platform.identity_token("relay-identity").await;
        let body = json!({"host": address.to_string(), "name": RELAY});
        let post = reqwest::Method::POST;
        let path = "v1/relays/register-org-relay";
        let (status, issued) = platform.api(post, path, &token, Some(&body)).await;
        assert_eq!(status, 200, "{issued}");
        issued
    });
    let credentials = lab.dir().join("deployed-relay.json");
    write_private(&credentials, &issued.to_string());
    let mut command = clean(program, lab.dir());
    command.arg("relay").arg("-credentials").arg(&credentials);
    command.args(["-name", RELAY]);
    command.args(["-ssh-listen", &format!("{address}:2222")]);
    command.args(["-tls-listen", &format!("{address}:8443")]);
    let relay = lab.spawn("deployed relay", &lab.net.on(Machine::Relay, &command));
    lab.wait_line(&relay, 0, "ready ", PATIENCE);
    relay
}

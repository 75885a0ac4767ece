//! Faults of a target that is given to doctor.

use infisical_runtime::events;

use crate::doctor::{Doctor, Expected, Matrix};
use crate::lab::{GatewayPlan, Lab, PATIENCE};
use crate::net::{Block, Machine};
use crate::peer::ECHO_PORT;
use crate::runner::Outcome;

pub(super) fn run(lab: &mut Lab) -> Outcome {
    lab.use_dns();
    let _dns = lab.start_dns();
    let (_relay, gateway) = lab.start(&GatewayPlan::pinned());
    lab.wait_line(&gateway, 0, events::GATEWAY_REACHABLE.text, PATIENCE);
    lab.start_echo(Machine::Client);
    let to = |host: &str, port: u16| {
        let target = format!("{host}:{port}");
        Doctor::new(lab).argument("--target").argument(&target)
    };
    let address = Machine::Client.address().to_string();
    let good = to(&address, ECHO_PORT);
    let closed = to(&address, ECHO_PORT + 1);
    let unknown = to("db.invalid", 5432);
    Matrix::wait_healthy(lab, &good);
    let mut matrix = Matrix::new(lab, "target");
    let expected = |fault, cause| Expected {
        fault,
        layer: "target-tcp",
        dependents: &[],
        cause,
    };
    let refused = expected("the target is not running", "Nothing listens");
    matrix.check(lab, &closed, refused);
    for (fault, how, cause) in [
        (
            "a firewall drops packets to the target",
            Block::Drop,
            "drops",
        ),
        (
            "a firewall prohibits the target with ICMP",
            Block::Prohibit,
            "no route",
        ),
    ] {
        let target = (Machine::Client, ECHO_PORT);
        lab.net.block(Machine::Gateway, target, how);
        matrix.check(lab, &good, expected(fault, cause));
        lab.net.heal();
    }
    let unknown_name = Expected {
        fault: "the target's name does not exist",
        layer: "target-dns",
        dependents: &["target-tcp"],
        cause: "name",
    };
    matrix.check(lab, &unknown, unknown_name);
    matrix.finish()
}

//! Faults that `infisical relay doctor` names, on the relay's machine.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use infisical_runtime::events;

use crate::doctor::{ABOVE_DNS, ABOVE_TCP, Doctor, Expected, Matrix};
use crate::lab::{Lab, PATIENCE};
use crate::net::{Block, Machine};
use crate::runner::Outcome;
use crate::support::write_private;

pub(super) fn run(lab: &mut Lab) -> Outcome {
    lab.start_platform();
    let relay = lab.start_relay(Machine::Relay);
    lab.wait_line(&relay, 0, events::RELAY_REACHABLE.text, PATIENCE);
    let doctor = Doctor::relay(lab);
    Matrix::wait_healthy(lab, &doctor);
    let mut matrix = Matrix::new(lab, "relay-role");
    let expected = |fault, layer, dependents, cause| Expected {
        fault,
        layer,
        dependents,
        cause,
    };

    let open = lab.dir().join("open.conf");
    write_private(&open, "INFISICAL_TOKEN=any\n");
    fs::set_permissions(&open, Permissions::from_mode(0o644)).expect("a mode");
    let exposed = expected(
        "the relay's configuration can be read by other users",
        "configuration",
        ABOVE_DNS,
        "other users",
    );
    matrix.check(lab, &doctor.clone().config(&open), exposed);
    let wrong = lab.dir().join("wrong.conf");
    write_private(&wrong, "INFISICAL_TOKEN=not-a-token\n");
    let refused = expected(
        "the relay's token is not one of the platform's",
        "token",
        &[],
        "does not accept the token",
    );
    matrix.check(lab, &doctor.clone().config(&wrong), refused);

    let platform = (Machine::Platform, 443);
    lab.net.block(Machine::Relay, platform, Block::Drop);
    let dropped = expected(
        "a firewall drops packets of the relay to port 443 of the platform",
        "platform-tcp",
        ABOVE_TCP,
        "drops",
    );
    matrix.check(lab, &doctor, dropped);
    lab.net.heal();
    lab.kill(&relay);
    let stopped = expected(
        "the relay is not started",
        "running",
        &[
            "registration",
            "relay-ssh",
            "relay-tls",
            "tunnel",
            "heartbeat",
        ],
        "does not run",
    );
    matrix.check(lab, &doctor, stopped);

    let client_port = (Machine::Relay, 8443);
    lab.net.block(Machine::Platform, client_port, Block::Drop);
    let relay = lab.start_relay(Machine::Relay);
    let failed = events::RELAY_HEARTBEAT_FAILED.text;
    lab.wait_line(&relay, 0, failed, PATIENCE);
    let closed = expected(
        "a firewall drops packets of the platform to port 8443 of this relay",
        "heartbeat",
        &[],
        "platform cannot reach",
    );
    matrix.check(lab, &doctor, closed);
    matrix.finish()
}

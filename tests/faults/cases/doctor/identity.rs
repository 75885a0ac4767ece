//! A platform that does not know the gateway any more.

use infisical_runtime::events;

use super::super::refusals::revoke;
use crate::doctor::{Doctor, Expected, Matrix};
use crate::lab::{GatewayPlan, Lab, PATIENCE};
use crate::net::Machine;
use crate::runner::Outcome;
use crate::support::stack::GATEWAY;
use crate::support::write_private;

pub(super) fn run(lab: &mut Lab) -> Outcome {
    lab.start_platform();
    let _relay = lab.start_relay(Machine::Relay);
    let token = lab.ask(lab.platform().enrollment_token("gateway", GATEWAY, None));
    let plan = GatewayPlan {
        keys: Some(format!("INFISICAL_TOKEN={token}\n")),
        more: vec!["--enroll-method=token".to_owned()],
        ..GatewayPlan::pinned()
    };
    let gateway = lab.start_gateway(Machine::Gateway, &plan);
    lab.wait_line(&gateway, 0, events::GATEWAY_REACHABLE.text, PATIENCE);
    let doctor = Doctor::new(lab).argument("--enroll-method=token");
    Matrix::wait_healthy(lab, &doctor);
    let mut matrix = Matrix::new(lab, "identity");
    let mut expected = Expected {
        fault: "the token is not one of the platform's",
        layer: "token",
        dependents: &[],
        cause: "does not accept the token",
    };
    let wrong = lab.dir().join("wrong.conf");
    write_private(&wrong, "INFISICAL_TOKEN=not-a-token\n");
    matrix.check(lab, &Doctor::new(lab).config(&wrong), expected);

    let plain = lab.dir().join("plain.conf");
    write_private(&plain, &lab.gateway_keys());
    let by_token = Doctor::new(lab).config(&plain);
    Matrix::wait_healthy(lab, &by_token);
    revoke(
        lab,
        "access_token WHERE subject = (SELECT id FROM identity WHERE name = 'gateway-identity')",
    );
    expected.fault = "the token was revoked";
    matrix.check(lab, &by_token, expected);

    let path = format!("gateways/{GATEWAY}");
    let deletion = lab.platform().request(reqwest::Method::DELETE, &path, None);
    let (status, answer) = lab.ask(deletion);
    assert_eq!(status, 200, "{answer}");
    expected.fault = "the gateway was deleted on the platform";
    expected.cause = "does not know the gateway";
    matrix.check(lab, &doctor, expected);
    matrix.finish()
}

//! The platform is away for long, or refuses what it granted before.

use std::time::{Duration, Instant};

use infisical_runtime::events;
use rusqlite::Connection;
use serde_json::json;

use super::partitions::RECOVERED;
use crate::lab::{GatewayPlan, Lab, PATIENCE, RELAY_TWO};
use crate::net::Machine;
use crate::probe;
use crate::runner::{Case, Outcome};
use crate::support::stack::{GATEWAY, RELAY};
use crate::wait;

/// After which time a session must work again once the platform is there.
const UP: Option<Duration> = Some(Duration::from_secs(5));
/// What a refusal may take to be told.
const TOLD: Duration = Duration::from_secs(240);

pub(super) const CASES: &[Case] = &[
    Case {
        name: "platform_outage_outlasts_the_certificates",
        row: "platform down for longer than the certificates live, tunnel up; from its being there again",
        bound: UP,
        labs: 3,
        run: outlasts_certificates,
    },
    Case {
        name: "tunnel_ends_during_a_platform_outage",
        row: "platform down, and the tunnel cut meanwhile",
        bound: Some(Duration::from_secs(2)),
        labs: 1,
        run: cut_without_platform,
    },
    Case {
        name: "a_token_from_a_login_is_revoked",
        row: "access token revoked, universal-auth: logs in again; from the relay's restart",
        bound: RECOVERED,
        labs: 1,
        run: login_revoked,
    },
    Case {
        name: "a_plain_token_is_revoked",
        row: "access token revoked, and no login to get another: the tunnel goes on, the log says why, a new start ends at once",
        bound: None,
        labs: 1,
        run: token_revoked,
    },
    Case {
        name: "the_gateway_is_deleted",
        row: "gateway deleted on the platform: the log says so, and a new start ends at once",
        bound: None,
        labs: 1,
        run: gateway_deleted,
    },
    Case {
        name: "the_chosen_relay_is_deleted",
        row: "the chosen relay deleted and gone for good: another one is chosen",
        bound: RECOVERED,
        labs: 3,
        run: relay_deleted,
    },
];

fn outlasts_certificates(lab: &mut Lab) -> Outcome {
    const LIFE: Duration = Duration::from_secs(30);
    const AWAY: Duration = Duration::from_secs(100);
    let seconds = LIFE.as_secs().to_string();
    let short = ["--gateway-certificate-lifetime", &seconds];
    lab.start_platform_with(&short);
    lab.start_echo(Machine::Gateway);
    let _relay = lab.start_relay(Machine::Relay);
    let gateway = lab.start_gateway(Machine::Gateway, &GatewayPlan::pinned());
    lab.wait_up(&gateway);
    let way = lab.way();
    lab.assert_works(&way);
    lab.kill_platform();
    let away = Instant::now();
    wait::pause(LIFE / 2);
    lab.assert_works(&way);
    // Anyone who checks certificates can have no session now, or the case would prove nothing.
    wait::pause((AWAY / 2).saturating_sub(away.elapsed()));
    assert!(
        probe::once(&way, Duration::from_secs(2)).is_err(),
        "a session works with certificates that have ended"
    );
    wait::pause(AWAY.saturating_sub(away.elapsed()));
    assert!(gateway.is_running(), "the gateway gave up");
    lab.start_platform_with(&short);
    let cured = Instant::now();
    Outcome::recovered(Lab::probe(&way).success_since(cured, 2 * PATIENCE))
}

fn cut_without_platform(lab: &mut Lab) -> Outcome {
    lab.start_platform();
    lab.start_echo(Machine::Gateway);
    let _relay = lab.start_relay(Machine::Relay);
    let mut proxy = lab.start_proxy();
    let gateway = lab.start_gateway(Machine::Gateway, &GatewayPlan::pinned());
    lab.wait_up(&gateway);
    let way = lab.way();
    lab.assert_works(&way);
    lab.kill_platform();
    let mut measured = Vec::new();
    for _ in 0..5 {
        proxy.cut();
        let cut = Instant::now();
        // The connection that was cut is gone once the next one has come.
        measured.push(Lab::probe(&way).success_since(cut, PATIENCE));
    }
    Outcome::worst_of(measured)
}

/// Takes rows out of the platform's database, while no one has it open.
pub(super) fn revoke(lab: &mut Lab, what: &str) {
    lab.kill_platform();
    let database = lab.platform().state().join("platform.db");
    let database = Connection::open(database).expect("the database");
    let rows = database
        .execute(&format!("DELETE FROM {what}"), ())
        .expect("SQL");
    assert!(rows > 0, "nothing was there to revoke");
    drop(database);
    lab.start_platform();
}

fn login_revoked(lab: &mut Lab) -> Outcome {
    lab.start_platform();
    lab.start_echo(Machine::Gateway);
    let mut relay = lab.start_relay(Machine::Relay);
    let (id, secret) = lab.ask(lab.platform().universal_auth("gateway-identity"));
    let plan = GatewayPlan {
        keys: Some(format!(
            "INFISICAL_AUTH_METHOD=universal-auth\n\
             INFISICAL_UNIVERSAL_AUTH_CLIENT_ID={id}\n\
             INFISICAL_UNIVERSAL_AUTH_CLIENT_SECRET={secret}\n"
        )),
        ..GatewayPlan::default()
    };
    let gateway = lab.start_gateway(Machine::Gateway, &plan);
    lab.wait_up(&gateway);
    let mut measured = Vec::new();
    for _ in 0..3 {
        lab.assert_works(&lab.way());
        // Those from logins are the only ones that expire.
        revoke(lab, "access_token WHERE expires_at IS NOT NULL");
        lab.assert_works(&lab.way());
        lab.kill(&relay);
        let mark = gateway.mark();
        let probe = Lab::probe(&lab.way());
        relay = lab.start_relay(Machine::Relay);
        measured.push(probe.success_since(Instant::now(), PATIENCE));
        // Which only a gateway with a new token hears.
        lab.wait_line(&gateway, mark, events::GATEWAY_REACHABLE.text, PATIENCE);
    }
    assert!(
        !gateway.output().contains(events::REFUSED.text),
        "a token that can be replaced is no refusal"
    );
    Outcome::worst_of(measured)
}

fn token_revoked(lab: &mut Lab) -> Outcome {
    let (_relay, gateway) = lab.start(&GatewayPlan::pinned());
    lab.wait_line(&gateway, 0, events::GATEWAY_REACHABLE.text, PATIENCE);
    revoke(
        lab,
        "access_token WHERE subject = (SELECT id FROM identity WHERE name = 'gateway-identity')",
    );
    let mark = gateway.mark();
    lab.wait_line(&gateway, mark, "the access token is invalid", TOLD);
    let way = lab.way();
    lab.assert_works(&way);
    start_is_refused(
        lab,
        Machine::Elsewhere,
        &GatewayPlan::pinned(),
        "the access token is invalid",
    );
    lab.assert_works(&way);
    Outcome::happened()
}

fn gateway_deleted(lab: &mut Lab) -> Outcome {
    lab.start_platform();
    lab.start_echo(Machine::Gateway);
    let _relay = lab.start_relay(Machine::Relay);
    let token = lab.ask(lab.platform().enrollment_token("gateway", GATEWAY, None));
    let plan = GatewayPlan {
        keys: Some(format!("INFISICAL_TOKEN={token}\n")),
        more: vec!["--enroll-method=token".to_owned()],
        ..GatewayPlan::pinned()
    };
    let gateway = lab.start_gateway(Machine::Gateway, &plan);
    lab.wait_up(&gateway);
    lab.wait_line(&gateway, 0, events::GATEWAY_REACHABLE.text, PATIENCE);
    lab.assert_works(&lab.way());
    let path = format!("gateways/{GATEWAY}");
    let deletion = lab.platform().request(reqwest::Method::DELETE, &path, None);
    let (status, answer) = lab.ask(deletion);
    assert_eq!(status, 200, "{answer}");
    let mark = gateway.mark();
    lab.wait_line(&gateway, mark, "the gateway was deleted", TOLD);
    lab.kill(&gateway);
    start_is_refused(lab, Machine::Gateway, &plan, "the gateway was deleted");
    Outcome::happened()
}

/// A gateway that starts now ends at once, and says why.
fn start_is_refused(lab: &Lab, machine: Machine, plan: &GatewayPlan, why: &str) {
    let gateway = lab.start_gateway(machine, plan);
    let code = lab.ask(gateway.exit_code());
    assert_ne!(code, 0, "a refusal is no success");
    let said = gateway.output();
    assert!(said.contains(why), "not a word of {why:?}: {said}");
}

fn relay_deleted(lab: &mut Lab) -> Outcome {
    let (relay, gateway) = lab.start(&GatewayPlan::default());
    let _relay_two = lab.start_relay(Machine::RelayTwo);
    lab.assert_works(&lab.way());
    let identity = identity_of(lab, RELAY);
    let path = format!("identities/{identity}");
    let deletion = lab.platform().request(reqwest::Method::DELETE, &path, None);
    let (status, answer) = lab.ask(deletion);
    assert_eq!(status, 200, "{answer}");
    let mark = gateway.mark();
    lab.kill(&relay);
    let begin = Instant::now();
    let chosen = lab.wait_line(&gateway, mark, &format!("relay.name={RELAY_TWO}"), PATIENCE);
    // The way to a gateway is through the relay that it has chosen.
    let way = wait::until("the way through the other relay", PATIENCE, || {
        lab.try_way()
            .and_then(|way| match way.relay_host == Machine::RelayTwo.address() {
                true => Ok(way),
                false => Err(format!("it is through {}, though {chosen}", way.relay_host)),
            })
    });
    Outcome::recovered(Lab::probe(&way).success_since(begin, PATIENCE))
}

/// The identity that registered this relay.
fn identity_of(lab: &Lab, relay: &str) -> String {
    let list = lab.platform().request(reqwest::Method::GET, "relays", None);
    let (status, relays) = lab.ask(list);
    assert_eq!(status, 200, "{relays}");
    let relays = relays.as_array().expect("a list").iter();
    let mut found = relays.filter(|row| row.get("name") == Some(&json!(relay)));
    let id = found.next().and_then(|row| row.get("identityId")?.as_str());
    id.expect("the relay's identity").to_owned()
}

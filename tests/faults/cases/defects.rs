//! A defect of our own: a panic.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::lab::Lab;
use crate::light_gateway::LightGateway;
use crate::net::Machine;
use crate::runner::{Case, Outcome};
use crate::support::soon;
use crate::support::stack::RELAY;
use crate::talk::Talk;

pub(super) const CASES: &[Case] = &[Case {
    name: "session_panic_ends_that_session_only",
    row: "a session panics, three times: its client is notified at once, the others and the tunnel live; the next session",
    bound: Some(Duration::from_secs(1)),
    labs: 1,
    run: panics,
}];

fn panics(lab: &mut Lab) -> Outcome {
    const NAME: &str = "light";
    lab.start_platform();
    let _relay = lab.start_relay(Machine::Relay);
    let platform = lab.platform();
    let measured = lab.ask(async {
        let token = platform.identity_token("light-identity").await;
        let body = json!({"relayName": RELAY, "name": NAME});
        let post = reqwest::Method::POST;
        let (status, credentials) = platform.api(post, "v2/gateways", &token, Some(&body)).await;
        assert_eq!(status, 200, "{credentials}");
        let gateway = LightGateway::connect(&credentials).await;
        let way = platform.way(NAME, "localhost", 1).await;
        let open = async |number| {
            let mut talk = Talk::new(way.tcp().await.expect("a way"), number);
            talk.round_trip(64).await.expect("a round trip");
            talk
        };
        let mut neighbour = open(1).await;
        let mut measured = Vec::new();
        for number in 2..5 {
            let victim = open(number).await;
            let begin = Instant::now();
            soon("the end of the session", victim.panic()).await;
            drop(open(number).await);
            measured.push(begin.elapsed());
            neighbour.exchange(100_000).await.expect("it lives");
        }
        assert!(gateway.is_connected());
        neighbour.end().await.expect("a clean end");
        measured
    });
    Outcome::worst_of(measured)
}

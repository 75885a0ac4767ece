//! `infisical connect` towards relays and gateways that are not who they should be: nothing of the
//! user's is ever sent to them.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::support::fake_platform::Answer;
use crate::support::fake_relay::FakeRelay;
use crate::support::lab::{GATEWAY, Lab};
use crate::support::process::{Process, infisical};
use crate::support::write_private;
use crate::support::x509::{Ca, Leaf, Pem};

/// What the embedded platform's session endpoint would answer for the lab's gateway.
fn session(lab: &Lab) -> Value {
    let way = lab.way_by_name("echo", 7);
    let side = |pem: &Pem, anchors: &str| {
        json!({
            "clientCertificate": pem.certificate,
            "clientPrivateKey": pem.key,
            "serverCertificateChain": anchors,
        })
    };
    json!({
        "gatewayId": lab.gateway_id,
        "relayHost": lab.host.to_string(),
        "relay": side(&way.relay, &way.relay_anchors),
        "gateway": side(&way.gateway, &way.gateway_anchors),
    })
}

fn connect(lab: &Lab) -> Process {
    let token = lab.dir().join("token");
    write_private(&token, "the-users-token-4711\n");
    let mut command = infisical(lab.dir());
    command.args(["connect", GATEWAY, "--to", "echo:7", "--stdio"]);
    command.args(["--domain", &lab.platform.url()]);
    command.arg("--token-file").arg(&token);
    Process::spawn("connect", command)
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_trusts_only_the_requested_peers() {
    let lab = Lab::new().await;
    let what = format!("POST /api/v1/embedded/gateways/{GATEWAY}/sessions");
    lab.platform.always(&what, Answer::ok(&session(&lab)));
    let relays = &lab.relay_pki.servers;
    let gateways = &lab.gateway_pki.servers;
    let relay = || Leaf::relay_server(lab.host);
    let good_relay = relays.sign(&relay());
    let good_gateway = gateways.sign(&Leaf::gateway_server());
    let stranger = Ca::root("Test Relay Server CA");
    let cases: Vec<(&str, Pem, Pem)> = vec![
        (
            "a relay of an unknown authority",
            stranger.sign(&relay()),
            good_gateway.clone(),
        ),
        (
            "an expired relay",
            relays.sign(&relay().expired()),
            good_gateway.clone(),
        ),
        (
            "a relay before its time",
            relays.sign(&relay().not_yet_valid()),
            good_gateway.clone(),
        ),
        (
            "a relay without usage",
            relays.sign(&relay().without_usage()),
            good_gateway.clone(),
        ),
        (
            "another relay",
            relays.sign(&Leaf::relay_server(std::net::Ipv4Addr::new(127, 0, 0, 1))),
            good_gateway.clone(),
        ),
        (
            "a client in the relay's place",
            lab.relay_pki
                .clients
                .sign(&Leaf::relay_client(&lab.gateway_id)),
            good_gateway.clone(),
        ),
        (
            "a gateway of an unknown authority",
            good_relay.clone(),
            stranger.sign(&Leaf::gateway_server()),
        ),
        (
            "an expired gateway",
            good_relay.clone(),
            gateways.sign(&Leaf::gateway_server().expired()),
        ),
        (
            "a gateway before its time",
            good_relay.clone(),
            gateways.sign(&Leaf::gateway_server().not_yet_valid()),
        ),
        (
            "a gateway without usage",
            good_relay.clone(),
            gateways.sign(&Leaf::gateway_server().without_usage()),
        ),
        (
            "the relay in the gateway's place",
            good_relay.clone(),
            good_relay.clone(),
        ),
    ];
    let relay_clients = lab.relay_pki.client_anchors();
    let gateway_clients = lab.gateway_pki.client_anchors();
    for (name, relay, gateway) in &cases {
        let peer = FakeRelay::start(
            lab.host,
            (relay, &relay_clients),
            (gateway, &gateway_clients),
        )
        .await;
        let mut connect = connect(&lab);
        let mut input = connect.take_stdin();
        // It may be gone before it has read this.
        let _ = input.write_all(b"the user's secret\n");
        assert_eq!(connect.exit_code().await, 69, "{name}");
        let output = connect.output();
        assert!(!output.contains("the user's secret"), "{name} was believed");
        assert!(
            output.contains("certificate"),
            "{name}: the reason is not told: {output}"
        );
        assert!(
            !output.contains("the-users-token-4711"),
            "{name}: the token is shown"
        );
        peer.stop().await;
    }
    let _peer = FakeRelay::start(
        lab.host,
        (&good_relay, &relay_clients),
        (&good_gateway, &gateway_clients),
    )
    .await;
    let mut connect = connect(&lab);
    let mut input = connect.take_stdin();
    input.write_all(b"the user's secret\n").expect("writing");
    connect.wait_for_line("the user's secret").await;
    // The end of our input is the end of the echo, and of the command.
    drop(input);
    assert_eq!(connect.exit_code().await, 0);
    let request = lab.platform.asked(&what, 1).await;
    assert_eq!(request.bearer, "the-users-token-4711");
    assert_eq!(request.body, json!({"targetHost": "echo", "targetPort": 7}));
}

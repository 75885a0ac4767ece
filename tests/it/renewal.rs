//! New credentials come before the old ones expire, serve new handshakes at once, and cut nothing.

use std::time::Duration;

use crate::support::fake_platform::Answer;
use crate::support::lab::{GATEWAY_HEARTBEAT, Lab, REGISTER_GATEWAY, REGISTER_RELAY};
use crate::support::session::echoes;
use crate::support::targets::Target;
use crate::support::tls::refused;
use crate::support::x509::{GatewayPki, Leaf, RelayPki};

/// The life of the first certificate: renewed after half of it, and long enough for a busy machine.
const SHORT: Duration = Duration::from_secs(16);

#[tokio::test(flavor = "multi_thread")]
async fn gateway_renewal_keeps_tunnel_and_sessions() {
    let lab = Lab::new().await;
    let mut first = lab.gateway_credentials();
    let leaf = lab
        .gateway_pki
        .servers
        .sign(&Leaf::gateway_server().lasting(SHORT));
    first["pki"]["serverCertificate"] = leaf.certificate.into();
    first["pki"]["serverPrivateKey"] = leaf.key.into();
    lab.platform.once(REGISTER_GATEWAY, Answer::ok(&first));
    // What comes then is of other authorities, so that it is seen which one a handshake used.
    let new_pki = GatewayPki::new();
    let mut second = lab.gateway_credentials();
    second["pki"] = new_pki.credentials();
    lab.platform.always(REGISTER_GATEWAY, Answer::ok(&second));

    let relay = lab.relay().await;
    let gateway = lab.gateway(&relay).await;
    let echo = Target::echo(lab.host).await;
    let old = lab.way(echo.address);
    let mut witness = old.tcp().await.expect("a way");
    echoes(&mut witness, b"before").await.expect("an echo");

    lab.platform.asked(REGISTER_GATEWAY, 2).await;
    gateway.wait_for_line("credentials renewed").await;
    let mut new = old.clone();
    let (ip, port) = (echo.address.ip().to_string(), echo.address.port());
    new.gateway = new_pki
        .clients
        .sign(&Leaf::gateway_client(&lab.gateway_id, (&ip, port)));
    new.gateway_anchors = new_pki.server_anchors();
    let mut after = new.tcp().await.expect("the new credentials at once");
    echoes(&mut after, b"after").await.expect("an echo");
    refused(old.tcp().await).await;
    echoes(&mut witness, b"and the old session goes on")
        .await
        .expect("an echo");
    let connected = relay.output().matches("gateway connected").count();
    assert_eq!(connected, 1, "the tunnel was cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn platforms_retry_time_is_respected() {
    let lab = Lab::new().await;
    let mut first = lab.gateway_credentials();
    let leaf = lab
        .gateway_pki
        .servers
        .sign(&Leaf::gateway_server().lasting(SHORT));
    first["pki"]["serverCertificate"] = leaf.certificate.into();
    first["pki"]["serverPrivateKey"] = leaf.key.into();
    lab.platform.once(REGISTER_GATEWAY, Answer::ok(&first));
    let busy = Answer::error(429, "later", "busy").header("retry-after", "600");
    lab.platform.always(REGISTER_GATEWAY, busy);
    let unreached = Answer::error(400, "Relay not reachable", "beat");
    lab.platform.always(GATEWAY_HEARTBEAT, unreached);

    let relay = lab.relay().await;
    let gateway = lab.gateway(&relay).await;
    gateway.wait_for_line("credentials not renewed").await;
    // Two of them are answered after that, with the renewal still due.
    let heard = lab.platform.requests(GATEWAY_HEARTBEAT).len();
    lab.platform.asked(GATEWAY_HEARTBEAT, heard + 2).await;
    assert_eq!(lab.platform.requests(REGISTER_GATEWAY).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn relay_renewal_keeps_gateways_and_clients() {
    let lab = Lab::new().await;
    let mut first = lab.relay_credentials();
    let leaf = Leaf::relay_server(lab.host).lasting(SHORT);
    let leaf = lab.relay_pki.servers.sign(&leaf);
    first["pki"]["serverCertificate"] = leaf.certificate.into();
    first["pki"]["serverPrivateKey"] = leaf.key.into();
    lab.platform.once(REGISTER_RELAY, Answer::ok(&first));
    let new_pki = RelayPki::new();
    let mut second = lab.relay_credentials();
    second["pki"] = new_pki.credentials(lab.host);
    lab.platform.always(REGISTER_RELAY, Answer::ok(&second));

    let relay = lab.relay().await;
    let _gateway = lab.gateway(&relay).await;
    let echo = Target::echo(lab.host).await;
    let old = lab.way(echo.address);
    let mut witness = old.tcp().await.expect("a way");
    echoes(&mut witness, b"before").await.expect("an echo");

    lab.platform.asked(REGISTER_RELAY, 2).await;
    relay.wait_for_line("renewed").await;
    let mut new = old.clone();
    new.relay = new_pki.clients.sign(&Leaf::relay_client(&lab.gateway_id));
    new.relay_anchors = new_pki.server_anchors();
    let mut after = new.tcp().await.expect("the new credentials at once");
    echoes(&mut after, b"after").await.expect("an echo");
    refused(old.outer().await).await;
    echoes(&mut witness, b"and the old session goes on")
        .await
        .expect("an echo");
    let connected = relay.output().matches("gateway connected").count();
    assert_eq!(connected, 1, "the gateway was cut off");
}

//! The whole path, with every key algorithm that the embedded platform offers.

use nix::sys::signal::Signal;

use crate::support::session::echoes;
use crate::support::stack::{Plan, Stack};
use crate::support::targets::Target;

async fn round_trip(algorithm: &'static str) {
    let stack = Stack::plan(&Plan {
        algorithm,
        // The most talkative daemon has the most occasions to tell a secret.
        log_level: "trace",
        ..Plan::default()
    })
    .await;
    let echo = Target::echo(stack.host).await;
    let way = stack.way(&echo).await;
    let mut stream = way.tcp().await.expect("a way to the target");
    echoes(&mut stream, b"through two TLS layers and a tunnel")
        .await
        .expect("an echo");
    drop(stream);

    // The platform proves the whole path itself: these lines mean that it dialled back.
    stack
        .relay
        .wait_for_line("Relay is reachable by Infisical")
        .await;
    stack
        .gateway
        .wait_for_line("Gateway is reachable by Infisical")
        .await;
    stack.assert_no_secret_shows();
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn private_service_is_reached_with_p256() {
    round_trip("ecdsa-p256").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_service_is_reached_with_ed25519() {
    round_trip("ed25519").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn private_service_is_reached_with_rsa_2048() {
    round_trip("rsa-2048").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_lines_are_verbatim() {
    let stack = Stack::start().await;
    for line in [
        "Successfully registered gateway and received certificates",
        "Gateway started successfully",
        "Gateway is reachable by Infisical",
    ] {
        stack.gateway.wait_for_line(line).await;
    }
    for line in [
        "Relay server started successfully",
        "Relay is reachable by Infisical",
    ] {
        stack.relay.wait_for_line(line).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_restarts_has_lost_nothing() {
    let mut stack = Stack::start().await;
    let echo = Target::echo(stack.host).await;
    let port = stack.platform.url.rsplit(':').next().expect("a port");
    let port = port.trim_end_matches('/').parse().expect("a port");
    let token = stack.platform.token.clone();
    stack.platform.process.signal(Signal::SIGTERM);
    assert_eq!(stack.platform.process.exit_code().await, 0);

    stack.platform =
        crate::support::admin::Platform::start(stack.dir(), stack.host, port, &[]).await;
    assert_eq!(
        stack.platform.token, token,
        "the administrator's token changed"
    );
    // The daemons kept running with the certificates of the first process; both must still be
    // believed.
    let mut stream = stack.way(&echo).await.tcp().await.expect("a way");
    echoes(&mut stream, b"still here").await.expect("an echo");
    stack
        .gateway
        .wait_for_line("Gateway is reachable by Infisical")
        .await;
}

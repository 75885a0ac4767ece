//! What dies comes back, and no one waits for the dead.

use nix::sys::signal::Signal;

use crate::support::eventually;
use crate::support::lab::GATEWAY_CONNECTED;
use crate::support::session::{Way, echoes};
use crate::support::stack::Stack;
use crate::support::targets::Target;

async fn one_echo(way: &Way) -> std::io::Result<()> {
    let mut stream = way.tcp().await?;
    echoes(&mut stream, b"hello").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_relay_is_found_again() {
    let mut stack = Stack::start().await;
    let echo = Target::echo(stack.host).await;
    let way = stack.way(&echo).await;
    one_echo(&way).await.expect("before");
    for _ in 0..2 {
        stack.relay.kill().await;
        assert!(one_echo(&way).await.is_err(), "the relay is dead");
        stack.restart_relay().await;
        eventually("a session through the new relay", || one_echo(&way)).await;
    }
    assert!(stack.gateway.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_gateway_returns_with_its_id() {
    let mut stack = Stack::start().await;
    let echo = Target::echo(stack.host).await;
    // Issued before the death: the id is what it names.
    let way = stack.way(&echo).await;
    one_echo(&way).await.expect("before");
    stack.gateway.kill().await;
    eventually("the relay notices", || async {
        match one_echo(&way).await {
            Ok(()) => Err("it still works"),
            Err(_) => Ok(()),
        }
    })
    .await;
    let mark = stack.relay.mark();
    stack.gateway = stack.spawn_gateway();
    stack
        .gateway
        .wait_for_line("Gateway started successfully")
        .await;
    stack
        .relay
        .wait_for_line_after(mark, GATEWAY_CONNECTED)
        .await;
    one_echo(&way).await.expect("at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn same_identitys_second_gateway_takes_over() {
    let stack = Stack::start().await;
    let echo = Target::echo(stack.host).await;
    let way = stack.way(&echo).await;
    one_echo(&way).await.expect("before");
    // The first one is not dead, it only never answers: what a vanished network looks like.
    stack.gateway.signal(Signal::SIGSTOP);
    let second = stack.spawn_gateway();
    second.wait_for_line("Gateway started successfully").await;
    stack.relay.wait_for_line("takes over").await;
    one_echo(&way).await.expect("the first try already");
    second.kill().await;
    stack.gateway.signal(Signal::SIGCONT);
    eventually("the first one takes its place again", || one_echo(&way)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_stops_answering_is_noticed() {
    let mut stack = Stack::start().await;
    let echo = Target::echo(stack.host).await;
    let way = stack.way(&echo).await;
    let mark = stack.gateway.mark();
    stack.relay.signal(Signal::SIGSTOP);
    // The kernel still acknowledges everything: what is missed is an answer, to a keepalive or to
    // the question that follows the heartbeat that did not get through.
    let lost = "not connected; trying again";
    let line = stack.gateway.wait_for_line_after(mark, lost).await;
    let signs = ["no longer answers keepalives", "gives no sign of life"];
    assert!(signs.iter().any(|sign| line.contains(sign)), "{line}");
    stack.relay.kill().await;
    stack.restart_relay().await;
    eventually("a session through the new relay", || one_echo(&way)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_live_gateways_are_warned_of() {
    let stack = Stack::start().await;
    let second = stack.spawn_gateway();
    second.wait_for_line("Gateway started successfully").await;
    // They push each other out until someone stops one.
    let warning = stack
        .relay
        .wait_for_line("two gateways use the same identity")
        .await;
    assert!(warning.contains("WARN"), "{warning}");
    assert_eq!(
        warning.matches("127.0.0.1:").count(),
        2,
        "not both addresses: {warning}"
    );
    let echo = Target::echo(stack.host).await;
    let way = stack.way(&echo).await;
    second.kill().await;
    eventually("the one that is left serves", || one_echo(&way)).await;
}

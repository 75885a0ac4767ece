//! SIGTERM and SIGINT: stop taking, let what runs end, exit 0; a second one ends now.

use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::process::Process;
use crate::support::session::echoes;
use crate::support::stack::Stack;
use crate::support::targets::Target;
use crate::support::{eventually, soon};

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_drains_and_exits_with_0() {
    let stack = Stack::start().await;
    let echo = Target::echo(stack.host).await;
    let way = stack.way(&echo).await;
    let mut running = way.tcp().await.expect("a way");
    echoes(&mut running, b"before").await.expect("an echo");

    stack.gateway.signal(Signal::SIGTERM);
    eventually("new sessions are refused", || async {
        let fresh = async { echoes(&mut way.tcp().await?, b"new").await };
        match fresh.await {
            Ok(()) => Err("they are still taken"),
            Err(_) => Ok(()),
        }
    })
    .await;
    echoes(&mut running, b"while draining")
        .await
        .expect("the running one goes on");
    assert!(stack.gateway.is_running());
    running.shutdown().await.expect("our end");
    let mut rest = Vec::new();
    soon("its end", running.read_to_end(&mut rest))
        .await
        .expect("a clean end");
    assert_eq!(stack.gateway.exit_code().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_drains_and_exits_with_0() {
    let stack = Stack::start().await;
    let echo = Target::echo(stack.host).await;
    let way = stack.way(&echo).await;
    let mut running = way.tcp().await.expect("a way");
    echoes(&mut running, b"before").await.expect("an echo");

    stack.relay.signal(Signal::SIGTERM);
    eventually("the port is closed", || async {
        match TcpStream::connect((stack.host, 8443)).await {
            Ok(_) => Err("it is open"),
            Err(_) => Ok(()),
        }
    })
    .await;
    echoes(&mut running, b"while draining")
        .await
        .expect("the running one goes on");
    running.shutdown().await.expect("our end");
    let mut rest = Vec::new();
    soon("its end", running.read_to_end(&mut rest))
        .await
        .expect("a clean end");
    assert_eq!(stack.relay.exit_code().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_relay_releases_idle_gateways() {
    let stack = Stack::start().await;
    let idle = stack.spawn_another_gateway("gateway-two").await;
    let echo = Target::echo(stack.host).await;
    let mut running = stack.way(&echo).await.tcp().await.expect("a way");
    echoes(&mut running, b"before").await.expect("an echo");
    let mark = stack.relay.mark();
    stack.relay.signal(Signal::SIGTERM);
    idle.wait_for_line("the relay is going away").await;
    stack
        .relay
        .wait_for_line_after(mark, "gateway disconnected")
        .await;
    // Another relay could have its place already.
    for port in [2222, 8443] {
        TcpListener::bind((stack.host, port)).await.expect("free");
    }
    echoes(&mut running, b"while draining")
        .await
        .expect("the running one goes on");
    let told = |gateway: &Process| gateway.output().contains("the relay is going away");
    assert!(!told(&stack.gateway), "it is still needed");
    drop(running);
    stack.gateway.wait_for_line("the relay is going away").await;
    assert_eq!(stack.relay.exit_code().await, 0);
}

/// Signals that come right after the first one count as one with it.
async fn signal_until_it_ends(process: &Process, signal: Signal) {
    eventually("a later signal ends it", || async {
        if !process.is_running() {
            return Ok(());
        }
        process.signal(signal);
        Err("still draining")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_draining_relay() {
    let stack = Stack::start().await;
    let echo = Target::echo(stack.host).await;
    let mut running = stack.way(&echo).await.tcp().await.expect("a way");
    echoes(&mut running, b"before").await.expect("an echo");
    stack.relay.signal(Signal::SIGINT);
    // Signals of one kind are merged until the first is handled.
    stack.relay.wait_for_line("stopping").await;
    echoes(&mut running, b"draining").await.expect("an echo");
    signal_until_it_ends(&stack.relay, Signal::SIGINT).await;
    assert_eq!(stack.relay.exit_code().await, 130);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_draining_gateway() {
    let stack = Stack::start().await;
    let echo = Target::echo(stack.host).await;
    let mut running = stack.way(&echo).await.tcp().await.expect("a way");
    echoes(&mut running, b"before").await.expect("an echo");
    stack.gateway.signal(Signal::SIGTERM);
    stack.gateway.wait_for_line("stopping").await;
    echoes(&mut running, b"draining").await.expect("an echo");
    signal_until_it_ends(&stack.gateway, Signal::SIGTERM).await;
    assert_eq!(stack.gateway.exit_code().await, 143);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_daemons_stop_at_once() {
    Stack::start().await.stop().await;
}

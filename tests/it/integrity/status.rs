//! What a client learns of a target that was not reached.

use std::io;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::transfer::connect_stdio;
use crate::support::lab::Lab;
use crate::support::soon;
use crate::support::stack::{GATEWAY, Stack};
use crate::support::targets::Target;

/// Whatever becomes of standard input.
#[tokio::test(flavor = "multi_thread")]
async fn stdio_to_dead_target_fails_with_reason() {
    let stack = Stack::start().await;
    let dead = Target::refusing(stack.host).to_string();
    for ends_first in [true, false] {
        let mut process = connect_stdio(&stack, &dead);
        let input = process.take_stdin();
        let _open = (!ends_first).then_some(input);
        assert_eq!(process.exit_code().await, 69);
        let output = process.output();
        let expected = format!("gateway {GATEWAY} could not reach {dead}: connection refused");
        assert!(output.contains(&expected), "{output}");
        assert_eq!(process.stdout(), "");
    }
}

/// At a local port the log names the part of the way, the class and the reason.
#[tokio::test(flavor = "multi_thread")]
async fn refused_connection_is_logged_with_its_class() {
    let stack = Stack::start().await;
    let dead = Target::refusing(stack.host).to_string();
    for (target, reason) in [
        (dead.as_str(), "connection refused"),
        ("nowhere.invalid:1", "cannot resolve nowhere.invalid"),
    ] {
        let (connect, address) = stack.connect(target).await;
        let mut local = TcpStream::connect(address).await.expect("it listens");
        let mut nothing = Vec::new();
        let end = soon("the end", local.read_to_end(&mut nothing)).await;
        assert_eq!(
            end.expect_err("a reset").kind(),
            io::ErrorKind::ConnectionReset
        );
        let line = connect.wait_for_line("connection failed").await;
        let sentence = format!("gateway {GATEWAY} could not reach {target}: {reason}");
        for part in ["part=\"target\"", "class=\"unreachable\"", &sentence] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
}

/// A target that takes the connection and ends it without a byte was reached.
#[tokio::test(flavor = "multi_thread")]
async fn silent_target_is_not_dead() {
    let stack = Stack::start().await;
    let silent = Target::serve(stack.host, |_| async { Ok(()) }).await;
    let mut process = connect_stdio(&stack, &silent.address.to_string());
    let _open = process.take_stdin();
    assert_eq!(process.exit_code().await, 0);
    assert_eq!(process.output(), "");
}

/// A client that does not ask for the status gets nothing but a fatal alert.
#[tokio::test(flavor = "multi_thread")]
async fn failed_dial_is_a_fatal_alert() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let _gateway = lab.gateway(&relay).await;
    let mut stream = lab
        .way(Target::refusing(lab.host))
        .tcp()
        .await
        .expect("a way");
    let mut nothing = Vec::new();
    let end = soon("the end", stream.read_to_end(&mut nothing)).await;
    let error = end.expect_err("an alert").to_string();
    assert!(error.contains("InternalError"), "{error}");
    assert!(nothing.is_empty());

    let silent = Target::serve(lab.host, |_| async { Ok(()) }).await;
    let mut stream = lab.way(silent.address).tcp().await.expect("a way");
    let end = soon("the end", stream.read_to_end(&mut nothing)).await;
    assert_eq!(end.expect("a clean end"), 0);
}

/// The name is offered by our client and chosen by our gateway, and adds nothing where it is not
/// chosen.
#[tokio::test(flavor = "multi_thread")]
async fn status_needs_its_own_name() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let _gateway = lab.gateway(&relay).await;
    let greeting = Target::serve(lab.host, |mut stream| async move {
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"hello").await
    })
    .await;
    let way = lab.way(greeting.address);
    let plain = ["infisical-tcp-proxy"];
    let both = ["infisical-tcp-proxy", "infisical-tcp-proxy-status"];
    for (names, expected) in [(&plain[..], &b"hello"[..]), (&both, b"\0\0hello")] {
        let mut stream = way.offer(names).await.expect("a way");
        let mut received = Vec::new();
        soon("the greeting", stream.read_to_end(&mut received))
            .await
            .expect("a clean end");
        assert_eq!(received, expected);
    }
}

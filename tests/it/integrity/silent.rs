//! Peers that fall silent: their process stands still, and their kernel goes on acknowledging. What
//! they carried ends abnormally once a deadline has passed: that of the tunnel's keepalives, or
//! that of a handshake.

use std::sync::atomic::AtomicUsize;

use nix::sys::signal::Signal;
use tokio::net::TcpStream;

use super::transfer::BYTES;
use super::transfer::{
    End, Received, Services, Transfers, connect_stdio, joined, printed, receive,
};
use crate::support::process::Process;
use crate::support::soon;
use crate::support::stack::Stack;

/// What the sender of an upload sees of its end.
const RESET: Received = Received {
    bytes: 0,
    end: End::Reset,
};

/// What the programs on the client's side see.
async fn assert_clients_cut(transfers: &mut Transfers) {
    let download = joined("the end of the download", &mut transfers.download).await;
    assert_eq!(download, Received::cut());
    let upload = joined("the end of the upload", &mut transfers.upload).await;
    assert_eq!(upload, RESET);
    for process in [&transfers.stdio_download, &transfers.stdio_upload] {
        assert_eq!(soon("the end of connect", process.exit_code()).await, 69);
        assert!(process.output().contains("broke"), "{}", process.output());
    }
    assert_eq!(printed(&transfers.stdio_download), BYTES);
}

/// What the targets see.
async fn assert_targets_cut(transfers: &mut Transfers) {
    for _ in 0..2 {
        assert_eq!(transfers.services.next_end().await, Received::cut());
    }
}

/// The gateway notices, and the clients when the relay goes on.
#[tokio::test(flavor = "multi_thread")]
async fn silent_relays_keepalives_cut_every_leg() {
    let stack = Stack::start().await;
    let mut transfers = Transfers::start(&stack).await;
    stack.relay.signal(Signal::SIGSTOP);
    assert_targets_cut(&mut transfers).await;
    stack.relay.signal(Signal::SIGCONT);
    assert_clients_cut(&mut transfers).await;
}

/// The relay notices, and the targets when the gateway goes on.
#[tokio::test(flavor = "multi_thread")]
async fn silent_gateways_keepalives_cut_every_leg() {
    let stack = Stack::start().await;
    let mut transfers = Transfers::start(&stack).await;
    stack.gateway.signal(Signal::SIGSTOP);
    assert_clients_cut(&mut transfers).await;
    stack.gateway.signal(Signal::SIGCONT);
    assert_targets_cut(&mut transfers).await;
}

/// New connections through `silent` have no orderly end once the deadline of their handshake has
/// passed: an empty answer would look like one of the target.
async fn assert_handshakes_end_abnormally(silent: fn(&Stack) -> &Process) {
    let stack = Stack::start().await;
    let services = Services::start(stack.host).await;
    let source = services.source.address.to_string();
    let (forwarder, address) = stack.connect(&source).await;
    silent(&stack).signal(Signal::SIGSTOP);
    let mut stdio = connect_stdio(&stack, &source);
    let _open = stdio.take_stdin();
    let stream = TcpStream::connect(address).await.expect("the local port");
    let received = soon("the end", receive(stream, &AtomicUsize::new(0))).await;
    assert_eq!(received, RESET);
    assert_eq!(soon("the end of connect", stdio.exit_code()).await, 69);
    assert_eq!(stdio.stdout(), "");
    assert!(forwarder.is_running());
    assert_eq!(services.source.accepted(), 0, "the target was not reached");
}

/// The deadline of TLS 1.
#[tokio::test(flavor = "multi_thread")]
async fn handshakes_with_a_silent_relay_end_abnormally() {
    assert_handshakes_end_abnormally(|stack| &stack.relay).await;
}

/// The deadline of the channel, before TLS 2.
#[tokio::test(flavor = "multi_thread")]
async fn handshakes_with_a_silent_gateway_end_abnormally() {
    assert_handshakes_end_abnormally(|stack| &stack.gateway).await;
}

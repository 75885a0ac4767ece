//! Each cause, on each leg: what had been received before is there to the byte, and then an
//! abnormal end.

use nix::sys::signal::Signal;
use std::sync::atomic::AtomicUsize;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::transfer::{
    BYTES, End, Received, Transfers, bytes, joined, printed, receive, reset_now,
};
use crate::support::soon;
use crate::support::stack::Stack;
use crate::support::targets::Target;

/// What cuts all transfers at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    TargetReset,
    GatewayKilled,
    RelayKilled,
    TunnelTakenOver,
    GatewayStopped,
    RelayStopped,
}

async fn cut_by(cause: Cause) {
    let stack = Stack::start().await;
    let mut transfers = Transfers::start(&stack).await;
    let mut _other = None;
    match cause {
        Cause::TargetReset => transfers.services.reset(),
        Cause::GatewayKilled => stack.gateway.kill().await,
        Cause::RelayKilled => stack.relay.kill().await,
        // The relay ends the tunnel of the first process.
        Cause::TunnelTakenOver => _other = Some(stack.spawn_gateway()),
        // Sessions that do not end are cut when the drain is over.
        Cause::GatewayStopped => stack.gateway.signal(Signal::SIGTERM),
        Cause::RelayStopped => stack.relay.signal(Signal::SIGTERM),
    }
    let download = joined("the end of the download", &mut transfers.download).await;
    assert_eq!(download, Received::cut(), "{cause:?}");
    let upload = joined("the end of the upload", &mut transfers.upload).await;
    let expected = Received {
        bytes: 0,
        end: End::Reset,
    };
    assert_eq!(upload, expected, "{cause:?}");

    for process in [&transfers.stdio_download, &transfers.stdio_upload] {
        let code = soon("the end of connect", process.exit_code()).await;
        assert_eq!(code, 69, "{cause:?}");
        assert!(process.output().contains("broke"), "{}", process.output());
        if cause == Cause::RelayKilled {
            let expected = format!("broke at relay {}: ", stack.host);
            assert!(process.output().contains(&expected), "{}", process.output());
        }
    }
    assert_eq!(printed(&transfers.stdio_download), BYTES, "{cause:?}");
    if cause != Cause::TargetReset {
        for _ in 0..2 {
            let received = transfers.services.next_end().await;
            assert_eq!(received, Received::cut(), "{cause:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_resets_cuts_every_leg() {
    cut_by(Cause::TargetReset).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_gateway_cuts_every_leg() {
    cut_by(Cause::GatewayKilled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_relay_cuts_every_leg() {
    cut_by(Cause::RelayKilled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_tunnel_cuts_every_leg() {
    cut_by(Cause::TunnelTakenOver).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_drain_end_cuts_every_leg() {
    cut_by(Cause::GatewayStopped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_drain_end_cuts_every_leg() {
    cut_by(Cause::RelayStopped).await;
}

/// Half an upload must not look whole to the target, whichever part of the client went away.
#[tokio::test(flavor = "multi_thread")]
async fn aborting_client_resets_the_target() {
    let stack = Stack::start().await;
    let mut transfers = Transfers::start(&stack).await;
    // The programs themselves: the kernel closes their connections.
    transfers.stdio_upload.kill().await;
    assert_eq!(transfers.services.next_end().await, Received::cut());
    transfers.forwarders[1].kill().await;
    assert_eq!(transfers.services.next_end().await, Received::cut());
    let expected = Received {
        bytes: 0,
        end: End::Reset,
    };
    let upload = joined("the end of the upload", &mut transfers.upload).await;
    assert_eq!(upload, expected);

    // And the local program, behind one that goes on.
    let sink = transfers.services.sink.address.to_string();
    let (forwarder, address) = stack.connect(&sink).await;
    let mut stream = TcpStream::connect(address).await.expect("the local port");
    stream.write_all(&bytes()).await.expect("taken");
    super::transfer::counted("the upload", &transfers.services.taken, 3 * BYTES).await;
    reset_now(&stream);
    drop(stream);
    assert_eq!(transfers.services.next_end().await, Received::cut());
    assert!(forwarder.is_running());
}

/// What was sent before a reset is delivered to a reader that is slower than the reset.
#[tokio::test(flavor = "multi_thread")]
async fn late_reader_gets_everything_before_reset() {
    let stack = Stack::start().await;
    let target = Target::serve(stack.host, |mut stream| async move {
        stream.write_all(&bytes()).await?;
        infisical_runtime::net::reset::delivered(&stream).await;
        reset_now(&stream);
        Ok(())
    })
    .await;
    let (forwarder, address) = stack.connect(&target.address.to_string()).await;
    let stream = TcpStream::connect(address).await.expect("the local port");
    forwarder.wait_for_line("connection copied").await;
    let received = soon("the bytes", receive(stream, &AtomicUsize::new(0))).await;
    assert_eq!(received, Received::cut());
}

/// A normal half-close stays one, in both directions and through both ways.
#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_end_stays_orderly() {
    let stack = Stack::start().await;
    let count = Target::count(stack.host).await;
    let to = count.address.to_string();
    let (forwarder, address) = stack.connect(&to).await;
    let mut stream = TcpStream::connect(address).await.expect("the local port");
    stream.write_all(&bytes()).await.expect("taken");
    stream.shutdown().await.expect("our end");
    let received = soon("the answer", receive(&mut stream, &AtomicUsize::new(0))).await;
    let expected = Received {
        bytes: format!("{BYTES}\n").len(),
        end: End::Orderly,
    };
    assert_eq!(received, expected);
    forwarder.wait_for_line("connection copied").await;
    let output = forwarder.output();
    assert!(!output.contains("connection failed"), "{output}");

    let mut stdio = super::transfer::connect_stdio(&stack, &to);
    let mut input = stdio.take_stdin();
    std::io::Write::write_all(&mut input, b"twelve bytes").expect("taken");
    drop(input);
    assert_eq!(stdio.exit_code().await, 0);
    assert_eq!(stdio.stdout(), "12");
}

//! Out of descriptors: no one new is let in, nothing that runs ends, and it passes.

use std::net::SocketAddr;

use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::admin::Platform;
use crate::support::lab::Lab;
use crate::support::process::{Process, with_descriptors};
use crate::support::session::echoes;
use crate::support::targets::Target;
use crate::support::{eventually, loopback, soon};

const BEGIN: &str = "connections are not accepted for now";
const END: &str = "connections are accepted again";
/// Enough for a daemon that does little, and soon used up.
const FEW: usize = 48;

/// As many silent connections as use up [`FEW`] descriptors of anyone who listens there.
async fn silent(address: SocketAddr) -> Vec<TcpStream> {
    let mut all = Vec::new();
    for _ in 0..FEW {
        all.push(
            TcpStream::connect(address)
                .await
                .expect("the kernel's queue has room"),
        );
    }
    all
}

/// How many lines of `process` say `part`.
fn lines(process: &Process, part: &str) -> usize {
    process.output().matches(part).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn relay_without_descriptors_keeps_its_sessions() {
    let lab = Lab::new().await;
    let Some(command) = with_descriptors(&lab.relay_command().command(lab.dir()), FEW) else {
        return;
    };
    let relay = Process::spawn("relay", command);
    relay
        .wait_for_line("Relay server started successfully")
        .await;
    let _gateway = lab.gateway(&relay).await;
    let echo = Target::echo(lab.host).await;
    let way = lab.way(echo.address);
    let mut running = way.tcp().await.expect("a way");
    for port in [8443, 2222] {
        // The other port may run short too, when someone comes.
        let of_this_port = |part: &str| {
            let output = relay.output();
            let told = output.lines().filter(|line| line.contains(part));
            told.filter(|line| line.contains(&format!(":{port}\"")))
                .count()
        };
        let held = silent((lab.host, port).into()).await;
        eventually("the shortage is logged", || async {
            (of_this_port(BEGIN) == 1).then_some(()).ok_or("not yet")
        })
        .await;
        // Several attempts of the relay to accept pass meanwhile.
        for _ in 0..20 {
            echoes(&mut running, &[7; 50_000]).await.expect("an echo");
        }
        drop(held);
        eventually("a new session", || async {
            echoes(&mut way.tcp().await?, b"new").await
        })
        .await;
        let mut newcomer = TcpStream::connect((lab.host, 2222)).await.expect("a port");
        let mut version = [0; 4];
        soon("an SSH server", newcomer.read_exact(&mut version))
            .await
            .expect("it is let in");
        assert_eq!(&version, b"SSH-");
        eventually("its end is logged", || async {
            (of_this_port(END) == 1).then_some(()).ok_or("not yet")
        })
        .await;
        assert_eq!(of_this_port(BEGIN), 1, "once for each shortage");
    }
    echoes(&mut running, b"still there").await.expect("an echo");
    running.shutdown().await.expect("our end");
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_without_descriptors_keeps_its_tunnel() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let Some(command) = with_descriptors(&lab.gateway_command().command(lab.dir()), FEW) else {
        return;
    };
    let gateway = Process::spawn("gateway", command);
    gateway.wait_for_line("Gateway started successfully").await;
    let echo = Target::echo(lab.host).await;
    let way = lab.way(echo.address);
    let mut sessions = Vec::new();
    let failed = loop {
        let mut stream = way.tcp().await.expect("the tunnel has room");
        match echoes(&mut stream, b"one more").await {
            Ok(()) => sessions.push(stream),
            Err(error) => break error,
        }
        assert!(sessions.len() < FEW, "each takes a descriptor");
    };
    assert!(sessions.len() > 4, "{failed}: {}", sessions.len());
    gateway.wait_for_line("too many open files").await;
    for stream in &mut sessions {
        echoes(stream, b"those that there are")
            .await
            .expect("an echo");
    }
    let mut last = sessions.pop().expect("one of them");
    last.shutdown().await.expect("its end");
    drop(last);
    eventually("a new session in its place", || async {
        echoes(&mut way.tcp().await?, b"new").await
    })
    .await;
    assert!(gateway.is_running());
    let connected = lines(&relay, "Gateway connected") + lines(&relay, "gateway connected");
    assert_eq!(connected, 1, "the tunnel is the first one");
}

#[tokio::test(flavor = "multi_thread")]
async fn platform_recovers_from_descriptor_shortage() {
    let dir = tempfile::tempdir().expect("a directory");
    let host = loopback::address();
    let Some(_) = with_descriptors(&std::process::Command::new("true"), FEW) else {
        return;
    };
    let platform = Platform::start_as(dir.path(), host, 0, &[], |command| {
        with_descriptors(&command, FEW).expect("it was there before")
    })
    .await;
    let address = platform.url.trim_start_matches("http://");
    let held = silent(address.parse().expect("an address")).await;
    platform.process.wait_for_line(BEGIN).await;
    drop(held);
    let (status, answer) = platform.request(Method::GET, "gateways", None).await;
    assert_eq!(status, 200, "{answer}");
    platform.process.wait_for_line(END).await;
    assert_eq!(lines(&platform.process, BEGIN), 1);
}

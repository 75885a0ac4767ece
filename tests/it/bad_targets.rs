//! Targets that refuse, do not exist, hang or reset: each ends only its own connection.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::lab::Lab;
use crate::support::session::echoes;
use crate::support::soon;
use crate::support::targets::Target;
use crate::support::tls::refused;

#[tokio::test(flavor = "multi_thread")]
async fn bad_target_ends_only_its_connection() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let gateway = lab.gateway(&relay).await;
    let echo = Target::echo(lab.host).await;
    let good = lab.way(echo.address);
    // Lives through all of it.
    let mut witness = good.tcp().await.expect("a way");

    let dead = Target::refusing(lab.host);
    for (host, port) in [
        (dead.ip().to_string(), dead.port()),
        ("does-not-exist.invalid".to_owned(), 80),
        (String::new(), 80),
        (lab.host.to_string(), 0),
        ("::ffff:0:0".to_owned(), 9),
    ] {
        let mark = gateway.mark();
        let way = lab.way_by_name(&host, port);
        refused(way.tcp().await).await;
        if !host.is_empty() {
            gateway.wait_for_line_after(mark, &host).await;
        }
        echoes(&mut witness, b"still here")
            .await
            .expect("the witness lives");
        let mut after = good.tcp().await.expect("a good one right after");
        echoes(&mut after, b"and new ones too")
            .await
            .expect("an echo");
    }
    assert!(gateway.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_and_resetting_targets_disturb_no_one() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let gateway = lab.gateway(&relay).await;
    let echo = Target::echo(lab.host).await;
    let hang = Target::hang(lab.host).await;
    let reset = Target::reset(lab.host).await;

    let mut hanging = Vec::new();
    for _ in 0..5 {
        let mut stream = lab.way(hang.address).tcp().await.expect("a way");
        stream
            .write_all(b"is anyone there?")
            .await
            .expect("writing");
        stream.flush().await.expect("flushing");
        hanging.push(stream);
    }
    let mut stream = lab.way(reset.address).tcp().await.expect("a way");
    stream.write_all(b"x").await.expect("writing");
    stream.flush().await.expect("flushing");
    let mut nothing = Vec::new();
    // How the reset arrives is the transport's business; that it arrives is the point.
    let _ = soon("the reset", stream.read_to_end(&mut nothing)).await;
    assert!(nothing.is_empty());

    let mut good = lab.way(echo.address).tcp().await.expect("a way");
    echoes(&mut good, b"hello").await.expect("an echo");
    assert!(gateway.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn senseless_routing_extension_is_refused() {
    use crate::support::x509::Leaf;
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let gateway = lab.gateway(&relay).await;
    let echo = Target::echo(lab.host).await;
    let good = lab.way(echo.address);
    let twice = format!(
        "{{\"targetHost\":\"{}\",\"targetPort\":{}}}",
        echo.address.ip(),
        echo.address.port()
    );
    let id = lab.gateway_id.as_str();
    let without = || Leaf::gateway_client_without_route(id);
    for leaf in [
        without(),
        without().routed(b""),
        without().routed(b"{"),
        without().routed(b"[]"),
        without().routed(b"\xff\xfe"),
        without().routed(br#"{"targetHost":"127.0.0.1"}"#),
        without().routed(br#"{"targetHost":"127.0.0.1","targetPort":"80"}"#),
        without().routed(br#"{"targetHost":"127.0.0.1","targetPort":65536}"#),
        without().routed(br#"{"targetHost":"127.0.0.1\n","targetPort":80}"#),
        without().routed(twice.as_bytes()).routed(twice.as_bytes()),
    ] {
        let mut way = good.clone();
        way.gateway = lab.gateway_pki.clients.sign(&leaf);
        refused(way.tcp().await).await;
        let mut after = good.tcp().await.expect("a good one right after");
        echoes(&mut after, b"still serving").await.expect("an echo");
    }
    assert!(gateway.is_running());
}

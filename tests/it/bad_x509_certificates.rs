//! Every X.509 certificate that must not be believed, towards relay, gateway and client. Each ends
//! its own connection; a good one works right after, and the tunnel is never touched.

use tokio::io::AsyncReadExt as _;

use crate::support::lab::Lab;
use crate::support::session::echoes;
use crate::support::soon;
use crate::support::targets::Target;
use crate::support::tls::{self, refused};
use crate::support::x509::{Ca, Leaf, Pem};

/// The health check's routing key.
const NO_ONE: &str = "00000000-0000-0000-0000-000000000000";

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_believes_only_its_own_clients() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let gateway = lab.gateway(&relay).await;
    let tunnels = gateway.mark();
    let echo = Target::echo(lab.host).await;
    let good = lab.way(echo.address);
    let id = lab.gateway_id.as_str();
    let leaf = || Leaf::relay_client(id);
    let ours = &lab.relay_pki.clients;
    let cases: Vec<(&str, Option<Pem>)> = vec![
        ("no certificate", None),
        (
            "an authority no one named",
            Some(Ca::root("Test Relay Client CA").sign(&leaf())),
        ),
        (
            "the gateway's authority",
            Some(lab.gateway_pki.clients.sign(&leaf())),
        ),
        ("expired", Some(ours.sign(&leaf().expired()))),
        ("not yet valid", Some(ours.sign(&leaf().not_yet_valid()))),
        (
            "no extended key usage",
            Some(ours.sign(&leaf().without_usage())),
        ),
        (
            "a server's usage",
            Some(ours.sign(&leaf().with_server_usage())),
        ),
        (
            "a relay's own certificate",
            Some(lab.relay_pki.servers.sign(&Leaf::relay_server(lab.host))),
        ),
        (
            "no gateway of that id",
            Some(ours.sign(&Leaf::relay_client("2b6c7a52-0000-4000-8000-000000000000"))),
        ),
        ("no common name", Some(ours.sign(&Leaf::relay_client("")))),
        (
            "a common name that is no id",
            Some(ours.sign(&Leaf::relay_client("../ id"))),
        ),
    ];
    for (name, client) in &cases {
        // Goes on to the gateway with what is in order there: anyone who gets through hears its
        // answer.
        let connected = async {
            let outer = tls::outer(lab.host, client.as_ref(), &good.relay_anchors).await?;
            let inner = Some(&good.gateway);
            tls::inner(outer, inner, &good.gateway_anchors, &["infisical-ping"]).await
        };
        let how = refused(connected.await).await;
        eprintln!("{name}: {how}");
        let mut after = good
            .tcp()
            .await
            .unwrap_or_else(|e| panic!("after {name}: {e}"));
        echoes(&mut after, b"still serving").await.expect("an echo");
    }
    // The health check of the platform: a complete handshake and a clean end, nothing else.
    let health = ours.sign(&Leaf::relay_client(NO_ONE));
    let mut stream = tls::outer(lab.host, Some(&health), &good.relay_anchors)
        .await
        .expect("a handshake");
    let mut nothing = Vec::new();
    let read = soon("the end", stream.read_to_end(&mut nothing)).await;
    assert_eq!(read.expect("a clean end"), 0);

    assert!(relay.is_running());
    let log = gateway.output();
    let since: Vec<&str> = log.lines().skip(tunnels).collect();
    assert!(
        !since.iter().any(|line| line.contains("Gateway started")),
        "the tunnel was made again: {since:?}"
    );
    assert_eq!(
        echo.accepted(),
        cases.len(),
        "a refused client reached the target"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_believes_only_its_own_clients() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let gateway = lab.gateway(&relay).await;
    let echo = Target::echo(lab.host).await;
    let good = lab.way(echo.address);
    let (ip, port) = (echo.address.ip().to_string(), echo.address.port());
    let id = lab.gateway_id.as_str();
    let leaf = || Leaf::gateway_client(id, (&ip, port));
    let ours = &lab.gateway_pki.clients;
    let cases: Vec<(&str, Option<Pem>)> = vec![
        ("no certificate", None),
        (
            "an authority no one named",
            Some(Ca::root("Test Gateway Client CA").sign(&leaf())),
        ),
        (
            "the relay's authority",
            Some(lab.relay_pki.clients.sign(&leaf())),
        ),
        (
            "the gateway servers' authority",
            Some(lab.gateway_pki.servers.sign(&leaf())),
        ),
        ("expired", Some(ours.sign(&leaf().expired()))),
        ("not yet valid", Some(ours.sign(&leaf().not_yet_valid()))),
        (
            "no extended key usage",
            Some(ours.sign(&leaf().without_usage())),
        ),
        (
            "a server's usage",
            Some(ours.sign(&leaf().with_server_usage())),
        ),
        (
            "another gateway's",
            Some(ours.sign(&Leaf::gateway_client(
                "2b6c7a52-0000-4000-8000-000000000000",
                (&ip, port),
            ))),
        ),
        ("no common name", Some(ours.sign(&leaf().common_names(&[])))),
        (
            "a common name without a gateway",
            Some(ours.sign(&leaf().common_names(&["platform"]))),
        ),
        (
            "a common name without an actor",
            Some(ours.sign(&leaf().common_names(&[id]))),
        ),
        (
            "two common names, the first of them good",
            Some(ours.sign(&leaf().common_names(&[&format!("platform:{id}"), "platform:x"]))),
        ),
        (
            "two common names, the second of them good",
            Some(ours.sign(&leaf().common_names(&["platform:x", &format!("platform:{id}")]))),
        ),
        (
            "a gateway id with more before it",
            Some(ours.sign(&leaf().common_names(&[&format!("platform:x:{id}")]))),
        ),
    ];
    for (name, client) in &cases {
        let outer = good.outer().await.expect("TLS 1 is in order");
        let connected = tls::inner(
            outer,
            client.as_ref(),
            &good.gateway_anchors,
            &["infisical-tcp-proxy"],
        )
        .await;
        let how = refused(connected).await;
        eprintln!("{name}: {how}");
        let mut after = good
            .tcp()
            .await
            .unwrap_or_else(|e| panic!("after {name}: {e}"));
        echoes(&mut after, b"still serving").await.expect("an echo");
    }
    // Only the good ones got anywhere.
    assert_eq!(echo.accepted(), cases.len());
    assert!(gateway.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_credentials_are_named_by_field() {
    use crate::support::fake_platform::Answer;
    use crate::support::lab::REGISTER_GATEWAY;
    let lab = Lab::new().await;
    let _relay = lab.relay().await;
    let mut last = None;
    for (pointer, value) in [
        ("/pki/serverCertificate", "no PEM"),
        (
            "/pki/serverPrivateKey",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ),
        ("/pki/clientCertificateChain", ""),
        (
            "/ssh/clientCertificate",
            "ssh-ed25519-cert-v01@openssh.com AAAA",
        ),
        ("/ssh/clientPrivateKey", "hunter2-not-a-key"),
        ("/ssh/serverCAPublicKey", "ssh-rsa"),
    ] {
        let mut credentials = lab.gateway_credentials();
        *credentials.pointer_mut(pointer).expect("a field") = value.into();
        lab.platform
            .once(REGISTER_GATEWAY, Answer::ok(&credentials));
        let gateway = lab.gateway_command().spawn(lab.dir());
        let field = pointer.rsplit('/').next().expect("a name");
        gateway.wait_for_line(field).await;
        let output = gateway.output();
        assert!(!output.contains("panicked"), "{pointer}");
        assert!(
            !output.contains("hunter2"),
            "{pointer}: the key itself is logged"
        );
        // It asks again: the next answer is good.
        assert!(gateway.is_running(), "{pointer}: it gave up");
        last = Some(gateway);
    }
    let last = last.expect("there were cases");
    last.wait_for_line("Gateway started successfully").await;
}

//! The services of a gateway, spoken to the byte (protocol.md §5).

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::lab::Lab;
use crate::support::session::{Way, echoes};
use crate::support::soon;
use crate::support::targets::{PAGE, Target};
use crate::support::tls::refused;

async fn read_all(way: &Way, alpn: &str) -> String {
    let mut stream = way.offer(&[alpn]).await.expect("the service");
    let mut text = String::new();
    soon("the answer", stream.read_to_string(&mut text))
        .await
        .expect("an answer and a clean end");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn ping_and_health_answer_and_close() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let _gateway = lab.gateway(&relay).await;
    let way = lab.way_by_name("unused", 0);
    assert_eq!(read_all(&way, "infisical-ping").await, "PONG\n");
    assert_eq!(
        read_all(&way, "infisical-health").await,
        "{\"status\":\"ok\",\"heartbeatTTL\":180}\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_services_fail_in_the_handshake() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let gateway = lab.gateway(&relay).await;
    let echo = Target::echo(lab.host).await;
    let way = lab.way(echo.address);
    for alpn in [
        &["infisical-pam-proxy"][..],
        &["infisical-pkcs11", "infisical-winrm"],
        &["h2", "http/1.1"],
        &["infisical-tcp-prox"],
        &[],
    ] {
        let how = refused(way.offer(alpn).await).await;
        assert!(!how.is_empty(), "{alpn:?}");
        let mut good = way.tcp().await.expect("a good one right after");
        echoes(&mut good, b"still serving").await.expect("an echo");
    }
    assert_eq!(echo.accepted(), 5, "a refused client reached the target");
    assert!(gateway.is_running());
}

/// Which of `names` the gateway serves to a client that offers them in this order.
async fn served(way: &Way, names: &[&str]) -> String {
    let stream = way.offer(names).await.expect("a common name");
    let name = stream.get_ref().1.alpn_protocol().expect("a service");
    String::from_utf8(name.to_vec()).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_order_decides_between_services() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let _gateway = lab.gateway(&relay).await;
    let echo = Target::echo(lab.host).await;
    let way = lab.way(echo.address);
    let order = [
        "infisical-http-proxy",
        "infisical-tcp-proxy",
        "infisical-health",
        "infisical-ping",
    ];
    for (at, first) in order.iter().enumerate() {
        for second in &order[at + 1..] {
            assert_eq!(served(&way, &[first, second]).await, *first);
            assert_eq!(served(&way, &[second, first]).await, *first);
            assert_eq!(served(&way, &["h2", second, first]).await, *first);
        }
    }
    // The platform's probe: an answer without a TTL would make a dead gateway look healthy for half
    // an hour.
    for names in [
        ["infisical-health", "infisical-ping"],
        ["infisical-ping", "infisical-health"],
    ] {
        let mut stream = way.offer(&names).await.expect("the service");
        let mut answer = String::new();
        soon("the answer", stream.read_to_string(&mut answer))
            .await
            .expect("an answer and a clean end");
        assert_eq!(answer, "{\"status\":\"ok\",\"heartbeatTTL\":180}\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_common_name_the_handshake_fails() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let _gateway = lab.gateway(&relay).await;
    let way = lab.way_by_name("unused", 0);
    let error = way.offer(&["infisical-pam-proxy", "h2"]).await;
    let error = error.expect_err("no common name").to_string();
    assert!(error.contains("NoApplicationProtocol"), "{error}");
    // Without any name it does not fail, and the connection is closed in order.
    let mut stream = way.offer(&[]).await.expect("a handshake");
    let mut nothing = Vec::new();
    soon("the end", stream.read_to_end(&mut nothing))
        .await
        .expect("a clean end");
    assert!(nothing.is_empty());
}

async fn http(way: &Way, request: &str) -> String {
    let mut stream = way
        .offer(&["infisical-http-proxy"])
        .await
        .expect("the service");
    stream.write_all(request.as_bytes()).await.expect("writing");
    stream.shutdown().await.expect("the end of requests");
    let mut answer = String::new();
    soon("the answer", stream.read_to_string(&mut answer))
        .await
        .expect("an answer");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn http_proxy_forwards_requests_or_explains() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let _gateway = lab.gateway(&relay).await;
    let page = Target::http(lab.host).await;
    let (ip, port) = (page.address.ip().to_string(), page.address.port());
    let request = "CONFIG verify=true\nGET /path?q=1 HTTP/1.1\r\nHost: private\r\n\
                   x-infisical-action: inject-nothing\r\nConnection: close\r\n\r\n";
    for host in [ip.clone(), format!("http://{ip}")] {
        let answer = http(&lab.way_by_name(&host, port), request).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains(PAGE), "{answer}");
        assert!(answer.contains("GET /path?q=1 HTTP/1.1"), "{answer}");
        assert!(
            !answer.to_lowercase().contains("x-infisical-action"),
            "the action header reached the target: {answer}"
        );
    }

    // A target that is not there: the answer says so, and the connection goes on.
    let dead = Target::refusing(lab.host);
    let way = lab.way_by_name(&dead.ip().to_string(), dead.port());
    let two = "CONFIG\nGET / HTTP/1.1\r\nHost: private\r\n\r\n\
               GET / HTTP/1.1\r\nHost: private\r\nConnection: close\r\n\r\n";
    let answer = http(&way, two).await;
    assert_eq!(answer.matches("HTTP/1.1 500").count(), 2, "{answer}");
    assert_eq!(
        answer.matches("{\"message\": \"gateway: ").count(),
        2,
        "{answer}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_direction_ends_by_itself() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let _gateway = lab.gateway(&relay).await;

    // The client ends first, and still hears the answer.
    let count = Target::count(lab.host).await;
    let mut stream = lab.way(count.address).tcp().await.expect("a way");
    let bytes = vec![7_u8; 300_000];
    stream.write_all(&bytes).await.expect("writing");
    stream.shutdown().await.expect("our end");
    let mut answer = String::new();
    soon("the answer", stream.read_to_string(&mut answer))
        .await
        .expect("an answer after our end");
    assert_eq!(answer, "300000\n");

    // The target ends first, and still hears everything.
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let target = Target::end_first(lab.host, "end\n", told).await;
    let mut stream = lab.way(target.address).tcp().await.expect("a way");
    let mut message = String::new();
    soon("the end", stream.read_to_string(&mut message))
        .await
        .expect("the target's end");
    assert_eq!(message, "end\n");
    stream
        .write_all(&bytes)
        .await
        .expect("writing after the target's end");
    stream.shutdown().await.expect("our end");
    let rest = soon("what the target heard", heard.recv()).await;
    assert_eq!(rest.expect("the target lives").len(), bytes.len());
}

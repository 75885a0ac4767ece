//! Requests that ask for the pod's identity.

use std::fs;
use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::super::Cluster;
use super::support::{Setup, ok, target};
use super::tls::{Ca, tls_target};
use crate::scope::Scope;

const TOKEN: &str = "pod-token";

fn cluster(folder: &Path, port: u16) -> Cluster {
    Cluster {
        token: folder.join("token"),
        ca: folder.join("ca.crt"),
        api: Some(("127.0.0.1".to_owned(), port)),
    }
}

fn request(action: &str) -> String {
    format!(
        "POST /apis?x=%2F HTTP/1.1\r\nHost: localhost\r\nX-Infisical-Action: {action}\r\n\
         Authorization: Bearer mine\r\nImpersonate-User: u\r\nContent-Length: 2\r\n\r\n{{}}"
    )
}

#[tokio::test]
async fn platform_may_send_the_pods_token() {
    let scope = Scope::new("test");
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("token"), format!("{TOKEN}\n")).expect("a file");
    let mut web = target(&scope, |_| ok("")).await;
    for (actor, action, authorization) in [
        (
            Some("platform"),
            "inject-k8s-sa-auth-token",
            "Bearer pod-token",
        ),
        (Some("platform"), "Inject-K8s-SA-auth-token", "Bearer mine"),
        (Some("platform"), "something-else", "Bearer mine"),
        (Some("user"), "inject-k8s-sa-auth-token", "Bearer mine"),
        (Some("user"), "use-k8s-sa", "Bearer mine"),
        (Some("Platform"), "use-k8s-sa", "Bearer mine"),
        (None, "use-k8s-sa", "Bearer mine"),
    ] {
        let mut setup = Setup::to("127.0.0.1", web.port);
        setup.actor = actor;
        setup.cluster = cluster(folder.path(), 1);
        let mut client = setup.serve_plain(&scope).await;
        client.send(&request(action)).await;
        assert_eq!(client.answer().await.status(), 200, "{actor:?} {action}");
        let seen = web.seen().await.request;
        assert_eq!(
            seen.headers("authorization"),
            [authorization],
            "{actor:?} {action}"
        );
        assert_eq!(
            seen.header("x-infisical-action"),
            None,
            "{actor:?} {action}"
        );
        assert_eq!(seen.start_line(), "POST /apis?x=%2F HTTP/1.1");
        // One request's action is not the next one's.
        client.get("/plain").await;
        assert_eq!(web.seen().await.request.header("authorization"), None);
        client.finish().await.expect("a clean end");
    }
}

#[tokio::test]
async fn nominated_header_keeps_what_was_injected() {
    let scope = Scope::new("test");
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("token"), TOKEN).expect("a file");
    let mut web = target(&scope, |_| ok("")).await;
    let mut setup = Setup::to("127.0.0.1", web.port);
    setup.actor = Some("platform");
    setup.cluster = cluster(folder.path(), 1);
    let mut client = setup.serve_plain(&scope).await;
    client
        .send(
            "GET / HTTP/1.1\r\nConnection: authorization, host, x-infisical-action\r\n\
             X-Infisical-Action: inject-k8s-sa-auth-token\r\nAuthorization: a\r\n\
             Authorization: b\r\n\r\n",
        )
        .await;
    assert_eq!(client.answer().await.status(), 200);
    let seen = web.seen().await.request;
    assert_eq!(seen.headers("authorization"), ["Bearer pod-token"]);
    assert_eq!(seen.headers("host"), [format!("127.0.0.1:{}", web.port)]);
}

#[tokio::test]
async fn platform_may_reach_api_server_as_pod() {
    let scope = Scope::new("test");
    let folder = tempfile::tempdir().expect("a folder");
    let ca = Ca::new();
    fs::write(folder.path().join("token"), TOKEN).expect("a file");
    fs::write(folder.path().join("ca.crt"), &ca.pem).expect("a file");
    let mut api = tls_target(&scope, ca.acceptor("127.0.0.1")).await;
    let mut web = target(&scope, |_| ok("web")).await;

    // A target is not needed, and what the line says about it is not the API server's.
    for (host, port) in [("", 0), ("127.0.0.1", web.port)] {
        let mut setup = Setup::to(host, port);
        setup.actor = Some("platform");
        setup.cluster = cluster(folder.path(), api.port);
        let mut client = setup.serve_plain(&scope).await;
        for _ in 0..2 {
            client.send(&request("use-k8s-sa")).await;
            let answer = client.answer().await;
            assert_eq!((answer.status(), answer.text()), (200, "secret"));
            let seen = api.seen().await.request;
            assert_eq!(seen.headers("authorization"), ["Bearer pod-token"]);
            assert_eq!(seen.headers("host"), [format!("127.0.0.1:{}", api.port)]);
            assert_eq!(seen.header("impersonate-user"), Some("u"));
            assert_eq!(seen.header("x-infisical-action"), None);
            assert_eq!(seen.text(), "{}");
        }
        // A request without the action goes to the target, without the token.
        let answer = client.get("/").await;
        if port == 0 {
            assert_eq!(answer.json(), "gateway: failed to create proxy request");
        } else {
            assert_eq!(answer.text(), "web");
            assert_eq!(web.seen().await.request.header("authorization"), None);
        }
        client.finish().await.expect("a clean end");
    }
    assert!(api.saw_nothing_more());

    // The API server is always verified, whatever the line says.
    fs::write(folder.path().join("ca.crt"), Ca::new().pem).expect("a file");
    let mut setup = Setup::to("", 0);
    setup.actor = Some("platform");
    setup.cluster = cluster(folder.path(), api.port);
    let mut client = setup.serve(&scope);
    client.send("CONFIG verify=false\n").await;
    client.send(&request("use-k8s-sa")).await;
    let answer = client.answer().await;
    assert_eq!(answer.status(), 500);
    assert!(
        answer.json().contains("networking error: TLS with"),
        "{}",
        answer.json()
    );
    assert!(api.saw_nothing_more(), "the token stayed here");
}

#[tokio::test]
async fn missing_files_are_told_apart() {
    let scope = Scope::new("test");
    let folder = tempfile::tempdir().expect("a folder");
    let (token, ca) = (folder.path().join("token"), folder.path().join("ca.crt"));
    let mut setup = Setup::to("127.0.0.1", 1);
    setup.actor = Some("platform");
    setup.cluster = cluster(folder.path(), 1);
    setup.cluster.api = None;
    let mut client = setup.serve_plain(&scope).await;
    let mut ask = async |action: &str| {
        client.send(&request(action)).await;
        let answer = client.answer().await;
        assert_eq!(answer.status(), 500);
        answer.json()
    };
    let no_token = "gateway: failed to read k8s sa auth token";
    assert_eq!(ask("inject-k8s-sa-auth-token").await, no_token);
    assert_eq!(
        ask("use-k8s-sa").await,
        "gateway: failed to read k8s sa ca cert"
    );
    fs::write(&ca, "no PEM").expect("a file");
    assert_eq!(
        ask("use-k8s-sa").await,
        "gateway: failed to parse k8s sa ca cert"
    );
    fs::write(&ca, Ca::new().pem).expect("a file");
    assert_eq!(ask("use-k8s-sa").await, no_token);
    for bad in ["", " \n", "two\nlines"] {
        fs::write(&token, bad).expect("a file");
        assert_eq!(ask("inject-k8s-sa-auth-token").await, no_token, "{bad:?}");
    }
    // Outside of a cluster there is no API server.
    fs::write(&token, TOKEN).expect("a file");
    assert_eq!(
        ask("use-k8s-sa").await,
        "gateway: failed to create proxy request"
    );
}

/// A field after the body is no place for an action either, and no way past the check of the head.
#[tokio::test]
async fn trailer_action_does_not_reach_the_target() {
    let scope = Scope::new("test");
    let web = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = web.local_addr().expect("an address").port();
    let mut client = Setup::to("127.0.0.1", port).serve_plain(&scope).await;
    client
        .send(
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\
             Trailer: x-sum, x-infisical-action, keep-alive\r\n\r\n\
             1\r\na\r\n0\r\nX-Sum: 1\r\nX-Infisical-Action: use-k8s-sa\r\nKeep-Alive: 1\r\n\r\n",
        )
        .await;
    let (mut stream, _) = web.accept().await.expect("a connection");
    let mut seen = String::new();
    while !(seen.contains("\r\n0\r\n") && seen.ends_with("\r\n\r\n")) {
        let mut bytes = [0; 1024];
        let read = stream.read(&mut bytes).await.expect("a request");
        assert!(read > 0, "{seen}");
        seen.push_str(std::str::from_utf8(&bytes[..read]).expect("text"));
    }
    let (_, trailers) = seen.split_once("\r\n0\r\n").expect("the last chunk");
    assert_eq!(trailers.to_ascii_lowercase(), "x-sum: 1\r\n\r\n");
    let answer = ok("");
    stream
        .write_all(answer.as_bytes())
        .await
        .expect("an answer");
    assert_eq!(client.answer().await.status(), 200);
}

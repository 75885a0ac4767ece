//! What passes unchanged, and what is changed on purpose.

use tokio::io::AsyncWriteExt as _;

use super::support::{Setup, listen, ok, soon, target};
use crate::scope::Scope;

#[tokio::test]
async fn paths_and_queries_pass_byte_for_byte() {
    let scope = Scope::new("test");
    let mut web = target(&scope, |_| ok("")).await;
    let mut client = Setup::to("127.0.0.1", web.port).serve_plain(&scope).await;
    for path in [
        "/a%2Fb//c/../d?x=%20",
        "/",
        "//",
        "/./.././",
        "/%2e%2E/%00%ff?%zz",
        "/a?",
        "/a?b?c=d&&e",
        "/?",
        "/a;b=c:d@e!$'()*+,~|^\"{}?q=`|\\",
        "/caf\u{e9}?\u{2603}",
        "*",
    ] {
        assert_eq!(client.get(path).await.status(), 200, "{path}");
        let seen = web.seen().await;
        assert_eq!(seen.request.start_line(), format!("GET {path} HTTP/1.1"));
    }
    // A client that takes this for a proxy names the target again.
    for (given, expected) in [
        ("http://elsewhere:1/a/%2e?q", "/a/%2e?q"),
        ("http://elsewhere", "/"),
        ("http://elsewhere?q", "/?q"),
    ] {
        client.get(given).await;
        let seen = web.seen().await;
        assert_eq!(
            seen.request.start_line(),
            format!("GET {expected} HTTP/1.1")
        );
        assert_eq!(
            seen.request.headers("host"),
            [format!("127.0.0.1:{}", web.port)]
        );
        assert_eq!(seen.connection, 0, "one connection serves all");
    }
    client.finish().await.expect("a clean end");
}

#[tokio::test]
async fn headers_keep_spelling_without_connection_headers() {
    let scope = Scope::new("test");
    let mut web = target(&scope, |_| {
        concat!(
            "HTTP/1.1 299 Rather Odd\r\nX-MiXed: 1\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n",
            "Connection: keep-alive, X-Private\r\nX-Private: s\r\nKeep-Alive: timeout=5\r\n",
            "Upgrade: h2c\r\nContent-Encoding: gzip\r\nLocation: http://elsewhere/\r\n",
            "Content-Length: 3\r\n\r\nxyz"
        )
        .to_owned()
    })
    .await;
    let mut client = Setup::to("localhost", web.port).serve_plain(&scope).await;
    client
        .send(concat!(
            "POST /p HTTP/1.1\r\nHost: client.example\r\nX-CaSe: Kept\r\nAccept-Encoding: br\r\n",
            "Cookie: c=1\r\nAuthorization: Basic dTpw\r\nConnection: close, x-hop\r\nX-Hop: 1\r\n",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nKeep-Alive: 5\r\nTE: trailers\r\n",
            "Proxy-Connection: close\r\nX-Infisical-Action: inject-k8s-sa-auth-token\r\n",
            "x-infisical-action: use-k8s-sa\r\nX-Two: 1\r\nX-Two: 2\r\nContent-Length: 2\r\n\r\nhi"
        ))
        .await;
    let answer = client.answer().await;
    let seen = web.seen().await.request;
    let mut lines: Vec<&str> = seen.head.lines().collect();
    lines.sort_unstable();
    let host = format!("Host: localhost:{}", web.port);
    assert_eq!(
        lines,
        [
            "Accept-Encoding: br",
            "Authorization: Basic dTpw",
            "Content-Length: 2",
            "Cookie: c=1",
            &host,
            "POST /p HTTP/1.1",
            "X-CaSe: Kept",
            "X-Two: 1",
            "X-Two: 2",
        ]
    );
    assert_eq!(seen.text(), "hi");

    let mut lines: Vec<&str> = answer.head.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "Connection: close",
            "Content-Encoding: gzip",
            "Content-Length: 3",
            "HTTP/1.1 299 Rather Odd",
            "Location: http://elsewhere/",
            "X-MiXed: 1",
            "set-cookie: a=1",
            "set-cookie: b=2",
        ]
    );
    assert_eq!(answer.text(), "xyz");
    // The client asked for the end.
    client.ended().await.expect("a clean end");
}

#[tokio::test]
async fn redirects_are_the_clients_business() {
    let scope = Scope::new("test");
    let mut web = target(&scope, |_| {
        "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n".to_owned()
    })
    .await;
    let mut client = Setup::to("http://127.0.0.1", web.port)
        .serve_plain(&scope)
        .await;
    let answer = client.get("/").await;
    assert_eq!(answer.status(), 302);
    assert_eq!(answer.header("location"), Some("/elsewhere"));
    web.seen().await;
    assert!(web.saw_nothing_more());
}

#[tokio::test]
async fn every_framing_of_bodies_arrives_whole() {
    let scope = Scope::new("test");
    let mut web = target(&scope, |seen| {
        match seen
            .request
            .start_line()
            .split(' ')
            .nth(1)
            .unwrap_or_default()
        {
            "/length" => ok("counted"),
            "/chunked" => concat!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                "3;ext=1\r\nabc\r\n4\r\ndefg\r\n0\r\nX-Trailer: t\r\n\r\n"
            )
            .to_owned(),
            "/close" => "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end".to_owned(),
            "/old" => "HTTP/1.0 200 OK\r\n\r\nconnection: close by age".to_owned(),
            "/nothing" => "HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n".to_owned(),
            "/same" => "HTTP/1.1 304 Not Modified\r\nETag: \"e\"\r\n\r\n".to_owned(),
            "/hints" => format!(
                "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{}",
                ok("late")
            ),
            other => panic!("{other}"),
        }
    })
    .await;
    let mut client = Setup::to("127.0.0.1", web.port).serve_plain(&scope).await;
    for (path, body) in [
        ("/length", "counted"),
        ("/chunked", "abcdefg"),
        ("/close", "until the end"),
        ("/old", "connection: close by age"),
        ("/hints", "late"),
    ] {
        let answer = client.get(path).await;
        assert_eq!((answer.status(), answer.text()), (200, body), "{path}");
    }
    for (path, status) in [("/nothing", 204), ("/same", 304)] {
        client.send(&format!("GET {path} HTTP/1.1\r\n\r\n")).await;
        let answer = client.head().await;
        assert_eq!(answer.status(), status);
        assert_eq!(answer.header("transfer-encoding"), None, "{path}");
    }
    client.send("HEAD /length HTTP/1.1\r\n\r\n").await;
    let answer = client.head().await;
    // The test target wrongly sends a body after HEAD; it must not reach the client.
    assert_eq!(answer.header("content-length"), Some("7"));
    while !web.saw_nothing_more() {}

    for (head, body, expected) in [
        ("POST /length HTTP/1.1\r\nContent-Length: 4", "four", "four"),
        (
            "GET /length HTTP/1.1\r\nTransfer-Encoding: chunked",
            "2\r\nch\r\n5\r\nunked\r\n0\r\n\r\n",
            "chunked",
        ),
        (
            "PUT /length HTTP/1.1\r\nTransfer-Encoding: Chunked",
            "0\r\n\r\n",
            "",
        ),
        ("DELETE /length HTTP/1.1\r\nContent-Length: 1", "d", "d"),
        ("POST /length HTTP/1.1\r\nContent-Length: 0", "", ""),
        ("POST /length HTTP/1.1", "", ""),
    ] {
        client.send(&format!("{head}\r\n\r\n{body}")).await;
        assert_eq!(client.answer().await.text(), "counted", "{head}");
        let seen = web.seen().await;
        assert_eq!(seen.request.text(), expected, "{head}");
    }
    client.finish().await.expect("a clean end");
}

#[tokio::test]
async fn requests_may_arrive_byte_by_byte() {
    let scope = Scope::new("test");
    let mut web = target(&scope, |seen| ok(seen.request.text())).await;
    let all = concat!(
        "CONFIG verify=false whatever\n",
        "POST /1 HTTP/1.1\r\nContent-Length: 3\r\n\r\none",
        "POST /2 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n",
        "POST /3 HTTP/1.1\r\nContent-Length: 5\r\n\r\nthree"
    );
    for (served, pipe) in [64 * 1024, 1].into_iter().enumerate() {
        let mut setup = Setup::to("127.0.0.1", web.port);
        setup.pipe = pipe;
        let client = setup.serve(&scope);
        let (reader, mut writer) = tokio::io::split(client.stream.into_inner());
        scope.spawn("sender", async move {
            writer.write_all(all.as_bytes()).await.expect("send");
            // The answers are due all the same.
            writer.shutdown().await.expect("half-close");
        });
        let mut reader = tokio::io::BufReader::new(reader);
        for body in ["one", "two", "three"] {
            let head = soon("a head", super::support::read_head(&mut reader))
                .await
                .expect("a head");
            let answer = soon("a body", super::support::read_body(&mut reader, &head)).await;
            assert_eq!(answer.expect("a body"), body.as_bytes());
            let seen = web.seen().await;
            assert_eq!((seen.connection, seen.request.text()), (served, body));
        }
        assert_eq!(super::support::read_head(&mut reader).await, None);
    }
}

#[tokio::test]
async fn http_1_0_client_is_answered() {
    let scope = Scope::new("test");
    let web = target(&scope, |_| {
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_owned()
    })
    .await;
    let mut client = Setup::to("127.0.0.1", web.port).serve_plain(&scope).await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    let mut answer = String::new();
    soon(
        "the end",
        tokio::io::AsyncReadExt::read_to_string(&mut client.stream, &mut answer),
    )
    .await
    .expect("the answer");
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nabc"), "{answer}");
    client.ended().await.expect("a clean end");
}

#[tokio::test]
async fn client_gets_100_continue_when_target_reads() {
    let scope = Scope::new("test");
    let mut web = target(&scope, |seen| ok(seen.request.text())).await;
    let mut client = Setup::to("127.0.0.1", web.port).serve_plain(&scope).await;
    client
        .send("POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        .await;
    assert_eq!(client.head().await.status(), 100);
    client.send("body").await;
    assert_eq!(client.answer().await.text(), "body");
    assert_eq!(web.seen().await.request.header("expect"), None);
}

#[tokio::test]
async fn an_ipv6_target_needs_no_brackets() {
    let Ok(listener) = tokio::net::TcpListener::bind("[::1]:0").await else {
        // This machine has no IPv6; the addresses themselves are tested with the origin.
        return;
    };
    let scope = Scope::new("test");
    let port = listener.local_addr().expect("an address").port();
    let mut web = super::support::target_on(&scope, listener, port, None, |_| ok("six"));
    for host in ["::1", "[::1]", "http://::1", "http://[::1]"] {
        let mut client = Setup::to(host, port).serve_plain(&scope).await;
        assert_eq!(client.get("/").await.text(), "six", "{host}");
        let seen = web.seen().await;
        assert_eq!(seen.request.headers("host"), [format!("[::1]:{port}")]);
    }
}

#[tokio::test]
async fn what_cannot_be_passed_on_is_refused() {
    let scope = Scope::new("test");
    let mut web = target(&scope, |_| ok("")).await;
    let mut client = Setup::to("127.0.0.1", web.port).serve_plain(&scope).await;
    client
        .send("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")
        .await;
    let answer = client.answer().await;
    assert_eq!(answer.status(), 501);
    assert!(
        answer.json().contains("transfer codings"),
        "{}",
        answer.json()
    );
    client.send("CONNECT elsewhere:443 HTTP/1.1\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(answer.status(), 501);
    assert!(web.saw_nothing_more());

    let (_listener, port) = listen().await;
    for bad in [
        "GET / HTTP/9.9\r\n\r\n".to_owned(),
        "no http at all\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nbad header\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(70 * 1024)),
        format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(300)),
    ] {
        let mut client = Setup::to("127.0.0.1", port).serve_plain(&scope).await;
        // The service may close before it has read all.
        let _ = client.stream.write_all(bad.as_bytes()).await;
        let answer = client.head().await;
        assert!(matches!(answer.status(), 400 | 431), "{}", answer.head);
        let error = client.ended().await.expect_err("an error");
        assert_eq!(error.to_string(), "the HTTP connection failed");
    }
}

//! Targets and clients that misbehave: each costs its own request or connection only.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use super::super::{Error, config_line};
use super::support::{Setup, listen, ok, read_body, read_head, soon, target, target_on};
use crate::config::targets::{Rule, TargetPolicy};
use crate::error::chain;
use crate::scope::Scope;

const SHORT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn an_unreachable_target_costs_its_request_only() {
    let scope = Scope::new("test");
    let (listener, port) = listen().await;
    let address = listener.local_addr().expect("an address");
    let mut client = Setup::to("127.0.0.1", port).serve_plain(&scope).await;

    let up = Scope::new("up");
    let serving = up.clone();
    up.spawn("target", async move {
        serving
            .run(async {
                let (tcp, _) = listener.accept().await.expect("a connection");
                let mut tcp = BufReader::new(tcp);
                read_head(&mut tcp).await.expect("a request");
                let answer =
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nfirst";
                tcp.write_all(answer.as_bytes()).await.expect("answer");
            })
            .await;
    });
    assert_eq!(client.get("/").await.text(), "first");
    assert!(up.finish(super::support::SOON).await);

    // No one listens now. Bodies of requests that fail do not become the next request.
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "HEAD / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 19\r\n\r\nGET / HTTP/1.1\r\n\r\n.",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ] {
        client.send(request).await;
        if request.starts_with("HEAD") {
            assert_eq!(client.head().await.status(), 500);
            continue;
        }
        let answer = client.answer().await;
        assert_eq!(answer.start_line(), "HTTP/1.1 500 Internal Server Error");
        let message = answer.json();
        let expected = format!(
            "gateway: failed to reach target due to networking error: cannot connect to {address}"
        );
        assert!(message.starts_with(&expected), "{message}");
        assert!(message.contains("refused"), "{message}");
    }

    let listener = TcpListener::bind(address).await.expect("the port again");
    let _web = target_on(&scope, listener, port, None, |_| ok("again"));
    assert_eq!(client.get("/").await.text(), "again");
    client.finish().await.expect("a clean end");
}

#[tokio::test]
async fn names_that_lead_nowhere_are_explained() {
    let scope = Scope::new("test");
    for (host, port, expected) in [
        (
            "no-such-host.invalid",
            80,
            "gateway: failed to reach target due to networking error: ",
        ),
        ("web/path", 80, "gateway: failed to create proxy request"),
        ("", 80, "gateway: failed to create proxy request"),
        ("web", 0, "gateway: failed to create proxy request"),
    ] {
        let mut client = Setup::to(host, port).serve_plain(&scope).await;
        for _ in 0..2 {
            let answer = client.get("/").await;
            assert_eq!(answer.status(), 500);
            assert!(answer.json().starts_with(expected), "{}", answer.json());
        }
        client.finish().await.expect("a clean end");
    }
}

#[tokio::test]
async fn a_silent_target_is_given_up() {
    let scope = Scope::new("test");
    // The kernel accepts connections, and no one ever answers.
    let (_listener, port) = listen().await;
    let mut setup = Setup::to("127.0.0.1", port);
    setup.deadlines.answer = SHORT;
    let mut client = setup.serve_plain(&scope).await;
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
    ] {
        client.send(request).await;
        let answer = client.answer().await;
        assert_eq!(answer.status(), 500);
        assert!(
            answer.json().contains("did not answer"),
            "{}",
            answer.json()
        );
    }

    let mut setup = Setup::to("https://127.0.0.1", port);
    setup.deadlines.connect = SHORT;
    let mut client = setup.serve_plain(&scope).await;
    let answer = client.get("/").await;
    assert_eq!(answer.status(), 500);
    assert!(
        answer.json().contains("was not up within"),
        "{}",
        answer.json()
    );
    client.finish().await.expect("a clean end");
}

#[tokio::test]
async fn target_without_http_is_networking_error() {
    let scope = Scope::new("test");
    let odd = target(&scope, |seen| {
        match seen
            .request
            .start_line()
            .split(' ')
            .nth(1)
            .unwrap_or_default()
        {
            "/garbage" => "SSH-2.0-OpenSSH_9.6\r\n\r\n".to_owned(),
            "/closes" => String::new(),
            "/switches" => {
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"
                    .to_owned()
            }
            "/coding" => {
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n".to_owned()
            }
            "/huge" => format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(100_000)),
            _ => ok("fine"),
        }
    })
    .await;
    let mut client = Setup::to("127.0.0.1", odd.port).serve_plain(&scope).await;
    for path in ["/huge", "/garbage", "/closes", "/switches", "/coding"] {
        let answer = client.get(path).await;
        assert_eq!(answer.status(), 500, "{path}");
        assert!(answer.json().contains("networking error: "), "{path}");
        assert_eq!(client.get("/").await.text(), "fine", "after {path}");
    }
    client.finish().await.expect("a clean end");
}

#[tokio::test]
async fn broken_answer_is_never_taken_as_whole() {
    let scope = Scope::new("test");
    for answer in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let web = target(&scope, |_| answer.to_owned()).await;
        let mut client = Setup::to("127.0.0.1", web.port).serve_plain(&scope).await;
        client.send("GET / HTTP/1.1\r\n\r\n").await;
        let head = client.head().await.head;
        let body = soon("the end", read_body(&mut client.stream, &head)).await;
        assert_eq!(body.expect_err("a broken body"), b"half");
        let error = client.ended().await.expect_err("an error");
        assert!(
            chain(&error).to_string().contains("broke off"),
            "{}",
            chain(&error)
        );
    }
}

#[tokio::test]
async fn target_silent_within_its_answer_times_out() {
    let scope = Scope::new("test");
    let web = target(&scope, |_| {
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_owned()
    })
    .await;
    let mut setup = Setup::to("127.0.0.1", web.port);
    setup.deadlines.silence = SHORT;
    let mut client = setup.serve_plain(&scope).await;
    client.send("GET / HTTP/1.1\r\n\r\n").await;
    let head = client.head().await.head;
    let body = soon("the end", read_body(&mut client.stream, &head)).await;
    assert_eq!(body.expect_err("a broken body"), b"half");
    let error = client.ended().await.expect_err("an error");
    assert!(
        chain(&error).to_string().contains("sent nothing"),
        "{}",
        chain(&error)
    );
}

#[tokio::test]
async fn a_kept_connection_that_died_is_replaced() {
    let scope = Scope::new("test");
    // Each connection answers once, promises more, and closes.
    let (listener, port) = listen().await;
    scope.spawn("target", async move {
        for number in 0.. {
            let (tcp, _) = listener.accept().await.expect("a connection");
            let mut tcp = BufReader::new(tcp);
            let head = read_head(&mut tcp).await.expect("a request");
            read_body(&mut tcp, &head).await.expect("its body");
            let answer = ok(&format!("answer {number}"));
            tcp.write_all(answer.as_bytes()).await.expect("answer");
        }
    });
    let mut client = Setup::to("127.0.0.1", port).serve_plain(&scope).await;
    for number in 0..20 {
        assert_eq!(client.get("/").await.text(), format!("answer {number}"));
    }
    client.finish().await.expect("a clean end");

    // Each connection answers once and closes when it gets the next request.
    let web = target(&scope, |seen| {
        if seen
            .request
            .start_line()
            .contains(&format!(" /{} ", seen.connection))
        {
            ok(&format!("answer {}", seen.connection))
        } else {
            String::new()
        }
    })
    .await;
    let mut client = Setup::to("127.0.0.1", web.port).serve_plain(&scope).await;
    for number in 0..5 {
        let answer = client.get(&format!("/{number}")).await;
        assert_eq!(answer.text(), format!("answer {number}"));
    }
    // What is not idempotent is not sent twice.
    client
        .send("POST /5 HTTP/1.1\r\nContent-Length: 1\r\n\r\nx")
        .await;
    assert_eq!(client.answer().await.status(), 500);
    client.finish().await.expect("a clean end");
}

#[tokio::test]
async fn early_answer_ends_the_upload() {
    let scope = Scope::new("test");
    let (listener, port) = listen().await;
    let (held, holding) = tokio::sync::oneshot::channel::<()>();
    scope.spawn("target", async move {
        let (tcp, _) = listener.accept().await.expect("a connection");
        let mut tcp = BufReader::new(tcp);
        read_head(&mut tcp).await.expect("a request");
        let answer = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\ntoo";
        tcp.write_all(answer.as_bytes()).await.expect("answer");
        // Neither reads on nor closes.
        let _ = holding.await;
    });
    let client = Setup::to("127.0.0.1", port).serve_plain(&scope).await;
    let (reader, mut writer) = tokio::io::split(client.stream.into_inner());
    let (stopped, stopping) = tokio::sync::oneshot::channel();
    scope.spawn("uploader", async move {
        let head = format!(
            "POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n",
            u64::MAX / 2
        );
        writer.write_all(head.as_bytes()).await.expect("send");
        let chunk = vec![0; 64 * 1024];
        while writer.write_all(&chunk).await.is_ok() {}
        let _ = stopped.send(());
    });
    let mut reader = BufReader::new(reader);
    let head = soon("an answer", read_head(&mut reader))
        .await
        .expect("an answer");
    assert!(head.contains(" 413 "), "{head}");
    assert_eq!(read_body(&mut reader, &head).await.expect("a body"), b"too");
    soon("the end of the upload", stopping)
        .await
        .expect("the uploader ran");
    drop(held);
}

#[tokio::test]
async fn leaving_client_closes_targets_connection() {
    let scope = Scope::new("test");
    let (listener, port) = listen().await;
    let mut client = Setup::to("127.0.0.1", port).serve_plain(&scope).await;
    client.send("GET / HTTP/1.1\r\n\r\n").await;
    let (mut tcp, _) = soon("a connection", listener.accept())
        .await
        .expect("a connection");
    tcp.write_all(b"HTTP/1.1 200 OK\r\n\r\nendless")
        .await
        .expect("answer");
    client.head().await;
    drop(client);
    // The target sends until it notices.
    soon("the end at the target", async {
        while tcp.write_all(b"more").await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    soon("the end of all tasks", async {
        while scope.tasks() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn bad_line_ends_connection_naming_the_word() {
    let scope = Scope::new("test");
    for (line, expected) in [
        ("CONFIG verify=maybe\n", "verify= of the configuration line"),
        ("ca=%%%\n", "ca= of the configuration line is not base64"),
        (
            "ca=AAAA verify=true\n",
            "ca= of the configuration line is not usable",
        ),
    ] {
        let mut client = Setup::to("127.0.0.1", 1).serve(&scope);
        client.send(line).await;
        let mut rest = Vec::new();
        soon("the end", client.stream.read_to_end(&mut rest))
            .await
            .expect("the end");
        assert!(rest.is_empty());
        let error = client.ended().await.expect_err("an error").to_string();
        assert!(error.contains(expected), "{error}");
    }

    let client = Setup::to("127.0.0.1", 1).serve(&scope);
    let error = client.finish().await.expect_err("no line");
    assert!(matches!(
        error,
        Error::ConfigLine(config_line::Error::Unfinished)
    ));

    let mut client = Setup::to("127.0.0.1", 1).serve(&scope);
    let _ = client.stream.write_all(&vec![b'x'; 70 * 1024]).await;
    let error = client.ended().await.expect_err("too long");
    assert!(matches!(
        error,
        Error::ConfigLine(config_line::Error::TooLong)
    ));
}

#[tokio::test]
async fn a_silent_client_is_given_up() {
    let scope = Scope::new("test");
    let mut setup = Setup::to("127.0.0.1", 1);
    setup.deadlines.line = SHORT;
    let mut client = setup.serve(&scope);
    client.send("CONFIG").await;
    let error = client.ended().await.expect_err("no line end");
    assert!(matches!(
        error,
        Error::ConfigLine(config_line::Error::TimedOut(_))
    ));

    let mut setup = Setup::to("127.0.0.1", 1);
    setup.deadlines.head = SHORT;
    let mut client = setup.serve_plain(&scope).await;
    client.send("GET / HTTP/1.1\r\nX: ").await;
    let error = client.ended().await.expect_err("half a head");
    assert!(matches!(error, Error::Idle(_)), "{}", chain(&error));

    let web = target(&scope, |_| ok("")).await;
    let mut setup = Setup::to("127.0.0.1", web.port);
    setup.deadlines.head = SHORT;
    let mut client = setup.serve_plain(&scope).await;
    client.get("/").await;
    client.ended().await.expect("an idle client is no failure");
}

#[tokio::test]
async fn stopping_lets_the_request_in_progress_finish() {
    let tasks = Scope::new("test");
    let web = target(&tasks, |_| ok("done")).await;
    let scope = Scope::new("gateway");
    let mut idle = Setup::to("127.0.0.1", web.port).serve_plain(&scope).await;
    assert_eq!(idle.get("/").await.text(), "done");
    let waiting = Setup::to("127.0.0.1", web.port).serve(&scope);
    let mut busy = Setup::to("127.0.0.1", web.port).serve_plain(&scope).await;
    busy.send("POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        .await;
    // The target has the head and waits for the body.
    assert_eq!(busy.head().await.status(), 100);
    scope.cancel();
    idle.ended().await.expect("a clean end");
    waiting.ended().await.expect("a clean end");
    busy.send("rest").await;
    assert_eq!(busy.answer().await.text(), "done");
    busy.ended().await.expect("a clean end");
    assert!(scope.finish(super::support::SOON).await);

    let scope = Scope::new("gateway");
    let (_listener, port) = listen().await;
    let mut setup = Setup::to("127.0.0.1", port);
    setup.deadlines.drain = SHORT;
    let mut stuck = setup.serve_plain(&scope).await;
    stuck
        .send("POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        .await;
    assert_eq!(stuck.head().await.status(), 100);
    scope.cancel();
    stuck
        .ended()
        .await
        .expect_err("a bounded end, which is abnormal");
    assert!(scope.finish(super::support::SOON).await);
}

#[tokio::test]
async fn refused_target_costs_its_request_only() {
    let scope = Scope::new("test");
    let mut setup = Setup::to("127.0.0.1", 9);
    setup.policy = Arc::new(TargetPolicy {
        deny: Rule::parse_list("127.0.0.0/8").expect("a rule"),
        ..TargetPolicy::default()
    });
    let mut client = setup.serve_plain(&scope).await;
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let answer = client.answer().await;
        assert_eq!(answer.status(), 500);
        let message = answer.json();
        assert!(
            message.starts_with("gateway: the policy of this gateway does not allow 127.0.0.1:9;"),
            "{message}"
        );
    }
}

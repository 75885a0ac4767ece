use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::error::chain;

/// What `reqwest` says of an answer of which only this comes.
async fn error_of(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let serve = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).await.expect("a request");
        stream.write_all(answer).await.expect("an answer");
    };
    let ask = async {
        let client = reqwest::Client::builder().no_proxy().build();
        let request = client.expect("a client").get(format!("http://{address}/"));
        let answer = request.send().await.expect("a head");
        chain(&answer.bytes().await.expect_err("a cut answer")).to_string()
    };
    tokio::join!(serve, ask).1
}

#[tokio::test]
async fn a_cut_answer_is_named_as_such() {
    assert_eq!(
        error_of(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n[1").await,
        "the answer broke off: it is shorter than its Content-Length"
    );
    assert_eq!(
        error_of(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[1\r\n").await,
        "the answer broke off: its last chunk did not come"
    );
}

#[tokio::test]
async fn a_refused_connection_is_one_sentence() {
    use socket2::{Domain, Socket, Type};
    // Bound, but not listening: no one else gets the port, and connections to it are refused.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).expect("bound");
    let address = socket.local_addr().expect("an address").as_socket();
    let client = reqwest::Client::builder().no_proxy().build();
    let url = format!("http://{}/", address.expect("of IPv4"));
    let error = client.expect("a client").get(url).send().await;
    let error = error.expect_err("refused");
    assert_eq!(chain(&error).to_string(), "connection refused");
}

#[tokio::test]
async fn an_expired_deadline_is_a_sentence() {
    let never = std::future::pending::<()>();
    let elapsed = tokio::time::timeout(std::time::Duration::ZERO, never).await;
    let elapsed = io::Error::other(elapsed.expect_err("expired"));
    assert_eq!(chain(&elapsed).to_string(), "no answer in time");
}

#[test]
fn client_errors_are_silent_or_sentences() {
    for (text, words) in [
        (
            "failed to lookup address information: Name or service not known",
            "the name cannot be resolved: name or service not known",
        ),
        (
            "tunnel error: unsuccessful",
            "the proxy refused the connection",
        ),
        ("error resolving DNS", ""),
        ("anything else", "anything else"),
    ] {
        assert_eq!(chain(&io::Error::other(text)).to_string(), words);
    }
}
